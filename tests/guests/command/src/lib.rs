//! A program for WASI 0.3. Its first argument says what it does.
//!
//! In: arguments, environment, standard input. Out: standard output and error, and the exit status.

use wasip3::cli::{environment, exit, stderr, stdin, stdout};
use wasip3::exports::cli::run::Guest;

struct Command;

wasip3::cli::command::export!(Command);

impl Guest for Command {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        match arguments.get(1).map(String::as_str) {
            Some("args") => print(&format!("{}\n", arguments[2..].join(","))).await,
            Some("env") => {
                let all = environment::get_environment();
                let lines: String = all.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
                print(&lines).await;
            }
            Some("cat") => cat().await,
            Some("err") => {
                let (mut to, from) = wasip3::wit_stream::new();
                let written = stderr::write_via_stream(from);
                to.write_all(b"this is an error\n".to_vec()).await;
                drop(to);
                written.await.unwrap();
            }
            Some("fail") => return Err(()),
            Some("exit") => exit::exit_with_code(arguments[2].parse().unwrap()),
            Some("panic") => panic!("as asked"),
            // More than the limit of the output, in pieces. It does not look at errors.
            Some("flood") => loop {
                print(&"x".repeat(8000)).await;
            },
            _ => print("hello from WASI 0.3\n").await,
        }
        Ok(())
    }
}

async fn print(text: &str) {
    let (mut to, from) = wasip3::wit_stream::new();
    let written = stdout::write_via_stream(from);
    to.write_all(text.as_bytes().to_vec()).await;
    drop(to);
    let _ = written.await;
}

/// Copies standard input to standard output, piece by piece.
async fn cat() {
    let (mut input, ended) = stdin::read_via_stream();
    let (mut to, from) = wasip3::wit_stream::new();
    let written = stdout::write_via_stream(from);
    loop {
        let (status, piece) = input.read(Vec::with_capacity(1 << 14)).await;
        if !piece.is_empty() {
            to.write_all(piece).await;
        }
        if matches!(status, wasip3::wit_bindgen::StreamResult::Dropped) {
            break;
        }
    }
    drop((input, to));
    ended.await.unwrap();
    written.await.unwrap();
}
