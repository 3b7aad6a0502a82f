//! `gvm serve --http`: what clients get, and what hostile clients and guests cannot do.
//!
//! In: the guest `web`, sockets. Out: whether each request is answered as it must be. Must not know: how the server works.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bed::{Bed, GVM};
use crate::guests;
use crate::process::{Ended, Running, cpu_time, wait_for, wait_until};

/// A server, and the address where it listens.
struct Site {
    running: Running,
    address: String,
}

impl Site {
    fn start(bed: &Bed, options: &[&str]) -> Site {
        Site::start_module(bed, options, guests::p2("web").to_str().unwrap())
    }

    fn start_module(bed: &Bed, options: &[&str], module: &str) -> Site {
        let mut command = bed.command(GVM);
        command.args(["serve", "--http", "127.0.0.1:0"]).args(options).arg(module);
        let running = Running::start(&mut command);
        running.wait_for_out("http://");
        let address = wait_for("the address is shown", || {
            let out = running.out();
            let (_, rest) = out.split_once("http://")?;
            rest.split_once('/').map(|(address, _)| address.to_owned())
        });
        Site { running, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends a request of HTTP/1.0, whose response ends with the connection; returns the status and the body.
    #[track_caller]
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: here\r\n\r\n").unwrap();
        let (head, body) = read_response(stream);
        (status(&head), body)
    }

    /// Sends the start of a request; returns the connection.
    fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// Waits until a line that has this text appears on standard error.
    #[track_caller]
    fn wait_for_err(&self, text: &str) {
        wait_until(text, || self.running.err().contains(text));
    }

    #[track_caller]
    fn serves(&self) {
        assert_eq!(self.get("/hello"), (200, "hello".to_owned()), "{}", self.running.err());
    }

    fn end(self) -> Ended {
        self.running.signal(Signal::TERM);
        self.running.end()
    }
}

#[track_caller]
fn read_response(mut stream: TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Reads until the connection has sent this text.
#[track_caller]
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(text) {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn requests_are_answered() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &["-v"]);
    site.serves();
    assert_eq!(site.get("/length"), (201, "exact".to_owned()));
    assert_eq!(site.get("/empty"), (204, String::new()));
    assert_eq!(site.get("/nowhere"), (404, "no such path".to_owned()));
    assert_eq!(site.get("/host"), (200, "Method::Get Some(\"here\")".to_owned()));
    // Each request has an instance of its own.
    assert_eq!([site.get("/count").1, site.get("/count").1], ["1", "1"]);
    // One connection, several requests, the last one without a body.
    let mut stream =
        site.send("GET /hello HTTP/1.1\r\nhost: a\r\n\r\nGET /length HTTP/1.1\r\nhost: a\r\n\r\n");
    let told = read_until(&mut stream, "exact");
    assert!(told.contains("hello"), "{told}");
    stream.write_all(b"HEAD /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let (head, body) = read_response(stream);
    assert_eq!((status(&head), body.as_str()), (200, ""));
    // The log has each request; the guest's output has the number of its request.
    assert_eq!(site.get("/say/word").1, "said");
    site.wait_for_err("stdout: out word");
    site.wait_for_err("stderr: err word");
    wait_until("the log has the request", || {
        site.running.err().lines().any(|line| {
            ["method=GET", "path=/length", "status=201", "time="].iter().all(|part| line.contains(part))
        })
    });
    let ended = site.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err());
    assert!(!ended.err().contains("TRAP"), "{}", ended.err());
}

#[test]
fn bodies_stream_in_both_directions() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &[]);
    let mut stream = site.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for word in ["first", "second", "third"] {
        write!(stream, "{:x}\r\n{word}\r\n", word.len()).unwrap();
        // It comes back before the next one is sent.
        read_until(&mut stream, word);
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    read_until(&mut stream, "0\r\n\r\n");
    // More than any buffer on the way.
    let large = 8 << 20;
    let mut stream = site.send(&format!("POST /echo HTTP/1.0\r\nhost: a\r\ncontent-length: {large}\r\n\r\n"));
    let mut writer = stream.try_clone().unwrap();
    let written = thread::spawn(move || writer.write_all(&vec![b'z'; large]).unwrap());
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    written.join().unwrap();
    assert_eq!(told.iter().filter(|byte| **byte == b'z').count(), large);
}

#[test]
fn instances_are_reused_as_often_as_told() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &["--reuse", "3"]);
    let counts: Vec<String> = (0..7).map(|_| site.get("/count").1).collect();
    assert_eq!(counts, ["1", "2", "3", "1", "2", "3", "1"]);
    // An instance that failed serves nothing more.
    assert_eq!(site.get("/trap").0, 500);
    assert_eq!(site.get("/count").1, "1");
}

#[test]
fn a_guest_that_fails_fails_its_own_request() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &["--timeout", "1s", "--max-memory", "64MiB", "--max-output", "1MiB"]);
    for (path, expected, logged) in [
        ("/trap", 500, "on purpose"),
        ("/exit", 500, "GUEST_EXIT"),
        ("/flood", 500, "LIMIT_EXCEEDED"),
        ("/memory", 500, "LIMIT_EXCEEDED"),
        ("/nothing", 500, "without a response"),
        ("/error", 500, "ConfigurationError"),
        ("/loop", 504, "TIMEOUT"),
    ] {
        let (status, body) = site.get(path);
        assert_eq!(status, expected, "{path}: {body}");
        // Clients do not learn why.
        assert!(body.len() < 40 && body.starts_with(&expected.to_string()), "{path}: {body}");
        site.wait_for_err(logged);
        site.serves();
    }
    // A response that has begun cannot become an error: it ends without its end.
    for path in ["/begin-and-trap", "/begin-and-loop"] {
        let mut stream = site.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let mut told = Vec::new();
        let _ = stream.read_to_end(&mut told);
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("begun") && !told.contains("\r\n0\r\n"), "{path}: {told}");
    }
    site.serves();
}

#[test]
fn others_are_served_while_guests_loop() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &["--timeout", "20s"]);
    let stuck: Vec<TcpStream> = (0..8).map(|_| site.send("GET /loop HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    for _ in 0..5 {
        let began = Instant::now();
        site.serves();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    // The guests end with their clients.
    drop(stuck);
    wait_until("the guests have ended", || {
        let before = cpu_time(site.running.pid());
        thread::sleep(Duration::from_millis(300));
        cpu_time(site.running.pid()) - before < Duration::from_millis(60)
    });
}

#[test]
fn a_client_that_goes_away_stops_its_guest() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &["-v"]);
    let mut stream = site.send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n");
    read_until(&mut stream, "yyyy");
    drop(stream);
    wait_until("the log says that the response was cut", || {
        site.running.err().lines().any(|line| line.contains("path=/endless") && line.contains("whole=false"))
    });
    let pid = site.running.pid();
    wait_until("the guest has ended", || {
        let before = cpu_time(pid);
        thread::sleep(Duration::from_millis(300));
        cpu_time(pid) - before < Duration::from_millis(60)
    });
    site.serves();
}

#[test]
fn a_guest_may_run_on_after_its_response() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &[]);
    assert_eq!(site.get("/after"), (200, "early".to_owned()));
    site.wait_for_err("stderr: after the response");
}

#[test]
fn hostile_clients_harm_only_themselves() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &[]);
    let refused = |request: &str, expected: &[u16]| {
        let stream = site.send(request);
        let (head, _) = read_response(stream);
        assert!(expected.contains(&status(&head)), "{:?}: {head}", &request[..request.len().min(60)]);
        site.serves();
    };
    refused("nonsense\r\n\r\n", &[400]);
    refused("GET / HTTP/1.1\r\nconnection: close\r\n\r\n", &[400]);
    refused("GET /hello HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", &[400]);
    refused(&format!("GET /hello HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(300 << 10)), &[431]);
    let many = (0..200).map(|at| format!("x{at}: 1\r\n")).collect::<String>();
    refused(&format!("GET /hello HTTP/1.1\r\nhost: a\r\n{many}\r\n"), &[431]);
    // Slow heads: each connection waits alone, and ends after a while.
    let slow: Vec<TcpStream> = (0..200).map(|_| site.send("GET /hello HTTP/1.1\r\nhos")).collect();
    site.serves();
    let mut first = slow.into_iter().next().unwrap();
    let mut rest = Vec::new();
    // hyper may answer before it closes the connection.
    let _ = first.read_to_end(&mut rest);
    site.serves();
}

#[test]
fn many_connections_at_once() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &[]);
    let waiting: Vec<TcpStream> = (0..1500).map(|_| site.connect()).collect();
    site.serves();
    drop(waiting);
    let all: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = site.connect();
            thread::spawn(move || {
                write!(stream, "GET /slow HTTP/1.0\r\nhost: here\r\n\r\n").unwrap();
                read_response(stream).1
            })
        })
        .collect();
    assert!(all.into_iter().all(|one| one.join().unwrap() == "slow"));
}

#[test]
fn the_end_lets_requests_finish() {
    let bed = Bed::bare();
    let site = Site::start(&bed, &[]);
    let mut idle = site.send("GET /hello HTTP/1.1\r\nhost: a\r\n\r\n");
    read_until(&mut idle, "hello");
    let slow = site.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    // The request must have reached its guest.
    thread::sleep(Duration::from_millis(200));
    let address = site.address.clone();
    site.running.signal(Signal::TERM);
    let (head, body) = read_response(slow);
    assert!(status(&head) == 200 && body.contains("slow"), "{head} {body}");
    let ended = site.running.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err());
    assert!(TcpStream::connect(address).is_err());
    // A guest that does not end is stopped.
    let site = Site::start(&bed, &[]);
    let _stuck = site.send("GET /loop HTTP/1.1\r\nhost: a\r\n\r\n");
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    let ended = site.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn what_cannot_be_served_is_refused() {
    let bed = Bed::new();
    let program = guests::p2("args");
    let serve = |words: &[&str]| bed.gvm([&["serve"], words].concat());
    let err = serve(&["--http", "127.0.0.1:0", program.to_str().unwrap()]).fails("FUNCTION_NOT_FOUND");
    assert!(err.contains("wasi:http/incoming-handler"), "{err}");
    serve(&["--http", "127.0.0.1:0", "nothing"]).fails("MODULE_NOT_FOUND");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let web = guests::p2("web");
    serve(&["--http", &address, web.to_str().unwrap()]).fails("PORT_IN_USE");
    for wrong in [
        &["--http", "127.0.0.1:0"][..],
        &["--http", "127.0.0.1:0", "--reuse", "0", "x"],
        &["--reuse", "2"],
        &["web"],
        &["--http", "127.0.0.1:x", "x"],
        &["--http", "127.0.0.1:0", "--node", "b", "web"],
        &["--http", "127.0.0.1:0", "web.add(1)"],
    ] {
        assert_eq!(serve(wrong).status, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_stored_module_is_served_with_grants() {
    let bed = Bed::new();
    bed.upload("web", &guests::p2("web"));
    let site = Site::start_module(&bed, &["--json"], "web@1.0.0");
    site.serves();
    let out = site.running.out();
    let started: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(started["event"], "serving", "{out}");
    assert_eq!(started["url"], format!("http://{}/", site.address), "{out}");
    // It is a node only if its guests may use other nodes.
    assert_eq!(bed.nodes().len(), 0);
    drop(site);
    let site = Site::start_module(&bed, &["--grant", "nodes"], "web");
    site.serves();
    assert_eq!(bed.nodes().len(), 1);
}
