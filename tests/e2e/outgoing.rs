//! HTTP requests that guests send, and configuration values.
//!
//! In: the guest `web`, real servers with and without TLS. Out: what the guest got, and that it reached nothing that was not
//! granted. Must not know: how requests are sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::bed::Bed;
use crate::guests;
use crate::process::Ended;

/// Answers a request with its first line and the size of its body; returns the size of the body.
fn answer(stream: &mut (impl Read + Write)) -> Option<usize> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let (mut chunked, mut host) = (false, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        if line == "\r\n" {
            break;
        }
        let line = line.to_ascii_lowercase();
        chunked |= line.starts_with("transfer-encoding: chunked");
        host = line.strip_prefix("host: ").map(|host| host.trim().to_owned()).unwrap_or(host);
    }
    let mut size = 0;
    while chunked {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let count = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; count + 2];
        reader.read_exact(&mut chunk).ok()?;
        size += count;
        chunked = count > 0;
    }
    let body = format!("{} {host} {size}", first.trim());
    let stream = reader.into_inner();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
    stream.flush().ok()?;
    Some(size)
}

/// A server of HTTP that runs until the test ends, and how many connections it got.
fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || answer(&mut stream));
        }
    });
    (address, count)
}

/// A server of HTTPS for `localhost`, and the file of its authority.
fn secure_server(bed: &Bed) -> (SocketAddr, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = bed.write("authority.pem", made.cert.pem());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let settings = Arc::new(settings);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, settings) = (stream.unwrap(), settings.clone());
            thread::spawn(move || {
                let session = rustls::ServerConnection::new(settings).unwrap();
                answer(&mut rustls::StreamOwned::new(session, stream));
            });
        }
    });
    (address, file)
}

/// Calls a function of the guest, with these options.
fn call(bed: &Bed, options: &[&str], call: &str) -> Ended {
    let program = guests::p2("web");
    bed.run([options, &["--invoke", call, program.to_str().unwrap()]].concat())
}

/// Fetches with these options; returns what the guest got.
#[track_caller]
fn fetch(bed: &Bed, options: &[&str], scheme: &str, authority: &str) -> String {
    let told = call(bed, options, &format!("fetch({scheme:?}, {authority:?}, \"/path?x=1\")")).ok();
    told.trim().trim_matches('"').to_owned()
}

#[test]
fn requests_go_where_they_were_granted() {
    let bed = Bed::bare();
    let (server, connections) = server();
    let (at, named) = (server.to_string(), format!("localhost:{}", server.port()));
    assert_eq!(fetch(&bed, &["--allow-net", &at], "http", &at), format!("200 GET /path?x=1 HTTP/1.1 {at} 0"));
    // A name is looked up where it was granted, and its address is then granted too.
    let answer = fetch(&bed, &["--allow-net", &named], "http", &named.to_uppercase());
    assert!(answer.starts_with("200 GET"), "{answer}");
    assert!(fetch(&bed, &["--allow-net", &named], "http", &at).starts_with("200 GET"));
    let before = connections.load(Ordering::SeqCst);
    assert_eq!(before, 3);
    // What was not granted is the error of the request, and nothing connects.
    assert_eq!(fetch(&bed, &[], "http", &at), "ErrorCode::DestinationIpProhibited");
    assert_eq!(fetch(&bed, &[], "http", &named), "ErrorCode::HttpRequestDenied");
    assert_eq!(fetch(&bed, &["--allow-net", &at], "http", &named), "ErrorCode::HttpRequestDenied");
    let other = format!("127.0.0.2:{}", server.port());
    assert_eq!(fetch(&bed, &["--allow-net", &at], "http", &other), "ErrorCode::DestinationIpProhibited");
    // Port 80 and 443 are those of the schemes.
    assert_eq!(fetch(&bed, &["--allow-net", &named], "https", "localhost"), "ErrorCode::HttpRequestDenied");
    assert_eq!(connections.load(Ordering::SeqCst), before);
    assert!(fetch(&bed, &["--allow-net", &at], "ftp", &at).contains("HttpProtocolError"));
    // Nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(fetch(&bed, &["--allow-net", &free], "http", &free), "ErrorCode::ConnectionRefused");
}

#[test]
fn bodies_go_out() {
    let bed = Bed::bare();
    let (server, _) = server();
    let at = server.to_string();
    let size = 3_000_001;
    let told = call(&bed, &["--allow-net", &at], &format!("post(\"{at}\", \"/x\", {size})")).ok();
    assert_eq!(told.trim(), format!("\"200 POST /x HTTP/1.1 {at} {size}\""));
}

#[test]
fn servers_are_known_by_their_authorities() {
    let bed = Bed::bare();
    let (server, authority) = secure_server(&bed);
    let (named, at) = (format!("localhost:{}", server.port()), server.to_string());
    let authority = authority.to_str().unwrap();
    let trusting = ["--tls-ca", authority, "--allow-net", &named];
    assert_eq!(fetch(&bed, &trusting, "https", &named), format!("200 GET /path?x=1 HTTP/1.1 {named} 0"));
    // The system does not know the authority, and the certificate is for another name than the address.
    assert_eq!(fetch(&bed, &["--allow-net", &named], "https", &named), "ErrorCode::TlsCertificateError");
    assert_eq!(fetch(&bed, &trusting, "https", &at), "ErrorCode::TlsCertificateError");
    // Plain HTTP to a server of HTTPS, and HTTPS to a plain server.
    let wrong = fetch(&bed, &trusting, "http", &named);
    assert!(wrong.starts_with("ErrorCode::Http"), "{wrong}");
    let (plain, _) = self::server();
    let plain = plain.to_string();
    assert_eq!(fetch(&bed, &["--allow-net", &plain], "https", &plain), "ErrorCode::TlsProtocolError");
    // The same from the settings of the home.
    bed.write("home/config.toml", format!("tls-ca = {authority:?}\nallow-net = [{named:?}]\n"));
    assert!(fetch(&bed, &[], "https", &named).starts_with("200 GET"));
    for (file, text) in
        [("none.pem", ""), ("wrong.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    {
        let file = bed.write(file, text);
        let ended = call(&bed, &["--tls-ca", file.to_str().unwrap()], "config(\"a\")");
        assert!(ended.status == Some(2) && ended.err().contains(".pem"), "{}", ended.err());
    }
    assert_eq!(call(&bed, &["--tls-ca", "/nowhere.pem"], "config(\"a\")").status, Some(2));
}

#[test]
fn a_server_that_does_not_answer_holds_up_its_call_only() {
    let bed = Bed::bare();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let began = Instant::now();
    let ended =
        call(&bed, &["--allow-net", &at, "--timeout", "500ms"], &format!("fetch(\"http\", \"{at}\", \"/\")"));
    ended.fails("TIMEOUT");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn configuration_values_are_those_that_were_set() {
    let bed = Bed::bare();
    let options = ["--config", "colour=deep red", "--config", "empty=", "--config", "sum=1=1"];
    assert_eq!(call(&bed, &options, "config(\"colour\")").ok(), "some(\"deep red\")\n");
    assert_eq!(call(&bed, &options, "config(\"empty\")").ok(), "some(\"\")\n");
    assert_eq!(call(&bed, &options, "config(\"sum\")").ok(), "some(\"1=1\")\n");
    assert_eq!(call(&bed, &options, "config(\"other\")").ok(), "none\n");
    assert_eq!(call(&bed, &[], "configs()").ok(), "[]\n");
    // Variables of the environment are something else.
    assert_eq!(call(&bed, &["--env", "colour=blue"], "config(\"colour\")").ok(), "none\n");
    bed.write("home/config.toml", "config = [\"b=2\", \"a=1\"]\n");
    assert_eq!(call(&bed, &[], "configs()").ok(), "[(\"a\", \"1\"), (\"b\", \"2\")]\n");
    assert_eq!(call(&bed, &["--config", "c=3"], "configs()").ok(), "[(\"c\", \"3\")]\n");
    for wrong in ["colour", "=red"] {
        let ended = call(&bed, &["--config", wrong], "configs()");
        assert!(ended.status == Some(2) && ended.err().contains(wrong), "{}", ended.err());
    }
}
