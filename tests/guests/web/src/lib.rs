//! In: requests, whose path says what to do. Out: responses, and every way not to send one. Must not know: the server.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::exports::http::incoming_handler::Guest as Handler;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

wit_bindgen::generate!({
    inline: "package tests:web;
    world web {
        import wasi:config/store@0.2.0-rc.1;
        import wasi:keyvalue/store@0.2.0-draft;
        import wasi:keyvalue/atomics@0.2.0-draft;
        import wasi:keyvalue/batch@0.2.0-draft;
        /// Reads a configuration value.
        export config: func(name: string) -> option<string>;
        /// Reads all configuration values, sorted.
        export configs: func() -> list<tuple<string, string>>;
        export get: func(bucket: string, key: string) -> result<option<string>, string>;
        export set: func(bucket: string, key: string, value: string) -> result<_, string>;
        export delete: func(bucket: string, key: string) -> result<_, string>;
        export increment: func(bucket: string, key: string, times: u32) -> result<u64, string>;
        /// Sets the keys, deletes the first one, and returns what is then there.
        export many: func(bucket: string, keys: list<string>) -> result<list<option<string>>, string>;
        /// Returns all keys, in pages of the store.
        export keys: func(bucket: string) -> result<list<string>, string>;
        /// Sets values of this size until one fails; returns their number and the error.
        export fill: func(bucket: string, size: u32) -> tuple<u32, string>;
        /// Sends a request, and returns its status and body, or its error.
        export fetch: func(scheme: string, authority: string, path: string) -> string;
        /// Sends a request with this body, which goes out while the response comes in.
        export post: func(authority: string, path: string, size: u32) -> string;
    }

    package wasi:config@0.2.0-rc.1 {
        interface store {
            variant error { upstream(string), io(string) }
            get: func(key: string) -> result<option<string>, error>;
            get-all: func() -> result<list<tuple<string, string>>, error>;
        }
    }

    package wasi:keyvalue@0.2.0-draft {
        interface store {
            variant error { no-such-store, access-denied, other(string) }
            record key-response { keys: list<string>, cursor: option<u64> }
            open: func(identifier: string) -> result<bucket, error>;
            resource bucket {
                get: func(key: string) -> result<option<list<u8>>, error>;
                set: func(key: string, value: list<u8>) -> result<_, error>;
                delete: func(key: string) -> result<_, error>;
                exists: func(key: string) -> result<bool, error>;
                list-keys: func(cursor: option<u64>) -> result<key-response, error>;
            }
        }
        interface atomics {
            use store.{bucket, error};
            increment: func(bucket: borrow<bucket>, key: string, delta: u64) -> result<u64, error>;
        }
        interface batch {
            use store.{bucket, error};
            get-many: func(bucket: borrow<bucket>, keys: list<string>)
                -> result<list<option<tuple<string, list<u8>>>>, error>;
            set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>) -> result<_, error>;
            delete-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>;
        }
    }",
    generate_all,
});

use wasi::keyvalue::store;

struct Web;

export!(Web);
wasip2::http::proxy::export!(Web);

/// The requests that this instance has served.
static SERVED: AtomicU32 = AtomicU32::new(0);

/// Sends the head of a response; returns its body and the stream of the body.
fn begin(status: u16, headers: &[(&str, &str)], out: ResponseOutparam) -> (OutgoingBody, OutputStream) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).unwrap();
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    ResponseOutparam::set(out, Ok(response));
    (body, stream)
}

fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    for part in bytes.chunks(4096) {
        stream.blocking_write_and_flush(part)?;
    }
    Ok(())
}

fn respond(status: u16, headers: &[(&str, &str)], text: &[u8], out: ResponseOutparam) {
    let (body, stream) = begin(status, headers, out);
    let _ = write(&stream, text);
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Reads a stream to its end, and passes each part on.
fn read(stream: &InputStream, mut each: impl FnMut(&[u8])) -> Result<(), String> {
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(part) => each(&part),
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn spin() -> ! {
    let mut count = 0u64;
    loop {
        count = std::hint::black_box(count.wrapping_add(1));
    }
}

impl Handler for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let served = SERVED.fetch_add(1, Ordering::SeqCst) + 1;
        let path = request.path_with_query().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts[..] {
            ["hello"] => respond(200, &[("content-type", "text/plain")], b"hello", out),
            ["length"] => respond(201, &[("content-length", "5")], b"exact", out),
            ["empty"] => respond(204, &[], b"", out),
            ["count"] => respond(200, &[], served.to_string().as_bytes(), out),
            ["host"] => {
                let told = format!("{:?} {:?}", request.method(), request.authority());
                respond(200, &[], told.as_bytes(), out);
            }
            ["echo"] => {
                let body = request.consume().unwrap();
                let incoming = body.stream().unwrap();
                let (body, stream) = begin(200, &[], out);
                let _ = read(&incoming, |part| {
                    let _ = write(&stream, part);
                });
                drop(stream);
                let _ = OutgoingBody::finish(body, None);
            }
            ["say", word] => {
                println!("out {word}");
                eprintln!("err {word}");
                respond(200, &[], b"said", out);
            }
            ["loop"] => spin(),
            ["trap"] => panic!("on purpose"),
            ["exit"] => std::process::exit(3),
            ["flood"] => {
                let line = vec![b'x'; 64 << 10];
                loop {
                    std::io::stdout().write_all(&line).unwrap();
                }
            }
            ["memory"] => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1u8; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            ["nothing"] => {}
            ["error"] => ResponseOutparam::set(out, Err(ErrorCode::ConfigurationError)),
            ["begin-and-loop"] => {
                let (_body, stream) = begin(200, &[], out);
                write(&stream, b"begun").unwrap();
                spin();
            }
            ["begin-and-trap"] => {
                let (_body, stream) = begin(200, &[], out);
                write(&stream, b"begun").unwrap();
                panic!("on purpose");
            }
            ["endless"] => {
                let (_body, stream) = begin(200, &[], out);
                while write(&stream, &[b'y'; 4096]).is_ok() {}
                eprintln!("the client went away");
            }
            ["slow"] => {
                std::thread::sleep(std::time::Duration::from_millis(700));
                respond(200, &[], b"slow", out);
            }
            ["after"] => {
                respond(200, &[("content-length", "5")], b"early", out);
                std::thread::sleep(std::time::Duration::from_millis(200));
                eprintln!("after the response");
            }
            ["increment", key] => {
                let told = match <Web as Guest>::increment(String::new(), key.to_owned(), 1) {
                    Ok(count) => count.to_string(),
                    Err(error) => error,
                };
                respond(200, &[], told.as_bytes(), out);
            }
            ["fetch", scheme, authority, ..] => {
                let path = format!("/{}", parts[3..].join("/"));
                respond(200, &[], send(scheme, authority, &path, None).as_bytes(), out);
            }
            _ => respond(404, &[], b"no such path", out),
        }
    }
}

/// Sends a request; returns the status and body of the response, or the error.
fn send(scheme: &str, authority: &str, path: &str, posted: Option<u32>) -> String {
    let request = OutgoingRequest::new(Fields::new());
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).unwrap();
    if request.set_authority(Some(authority)).is_err() || request.set_path_with_query(Some(path)).is_err() {
        return "refused by the setters".to_owned();
    }
    let body = posted.map(|size| {
        request.set_method(&Method::Post).unwrap();
        (request.body().unwrap(), size)
    });
    let answer = match outgoing_handler::handle(request, None) {
        Ok(answer) => answer,
        Err(error) => return format!("handle: {error:?}"),
    };
    if let Some((body, size)) = body {
        let stream = body.write().unwrap();
        let _ = write(&stream, &vec![b'p'; size as usize]);
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
    answer.subscribe().block();
    let response = match answer.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return format!("{error:?}"),
        other => return format!("no answer: {other:?}"),
    };
    let body: IncomingBody = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut text = Vec::new();
    match read(&stream, |part| text.extend_from_slice(part)) {
        Ok(()) => format!("{} {}", response.status(), String::from_utf8_lossy(&text)),
        Err(error) => format!("{} broken: {error}", response.status()),
    }
}

fn opened(bucket: &str) -> Result<store::Bucket, String> {
    store::open(bucket).map_err(told)
}

fn told(error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "no such store".to_owned(),
        store::Error::AccessDenied => "access denied".to_owned(),
        store::Error::Other(why) => why,
    }
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8(value).unwrap()
}

impl Guest for Web {
    fn config(name: String) -> Option<String> {
        wasi::config::store::get(&name).unwrap()
    }

    fn configs() -> Vec<(String, String)> {
        let mut all = wasi::config::store::get_all().unwrap();
        all.sort();
        all
    }

    fn get(bucket: String, key: String) -> Result<Option<String>, String> {
        let bucket = opened(&bucket)?;
        let value = bucket.get(&key).map_err(told)?;
        assert_eq!(bucket.exists(&key).map_err(told)?, value.is_some());
        Ok(value.map(text))
    }

    fn set(bucket: String, key: String, value: String) -> Result<(), String> {
        opened(&bucket)?.set(&key, value.as_bytes()).map_err(told)
    }

    fn delete(bucket: String, key: String) -> Result<(), String> {
        opened(&bucket)?.delete(&key).map_err(told)
    }

    fn increment(bucket: String, key: String, times: u32) -> Result<u64, String> {
        let bucket = opened(&bucket)?;
        let mut count = 0;
        for _ in 0..times {
            count = wasi::keyvalue::atomics::increment(&bucket, &key, 1).map_err(told)?;
        }
        Ok(count)
    }

    fn many(bucket: String, keys: Vec<String>) -> Result<Vec<Option<String>>, String> {
        let bucket = opened(&bucket)?;
        let entries: Vec<_> = keys.iter().map(|key| (key.clone(), key.clone().into_bytes())).collect();
        wasi::keyvalue::batch::set_many(&bucket, &entries).map_err(told)?;
        wasi::keyvalue::batch::delete_many(&bucket, &keys[..1]).map_err(told)?;
        let found = wasi::keyvalue::batch::get_many(&bucket, &keys).map_err(told)?;
        Ok(found.into_iter().map(|entry| entry.map(|(_, value)| text(value))).collect())
    }

    fn keys(bucket: String) -> Result<Vec<String>, String> {
        let bucket = opened(&bucket)?;
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = bucket.list_keys(cursor).map_err(told)?;
            all.extend(page.keys);
            match page.cursor {
                None => return Ok(all),
                next => cursor = next,
            }
        }
    }

    fn fill(bucket: String, size: u32) -> (u32, String) {
        let bucket = opened(&bucket).unwrap();
        let value = vec![b'v'; size as usize];
        let mut count = 0;
        loop {
            if let Err(error) = bucket.set(&format!("v{count}"), &value) {
                return (count, told(error));
            }
            count += 1;
        }
    }

    fn fetch(scheme: String, authority: String, path: String) -> String {
        send(&scheme, &authority, &path, None)
    }

    fn post(authority: String, path: String, size: u32) -> String {
        send("http", &authority, &path, Some(size))
    }
}
