//! Erlang's nodes: two of them on the loopback interface, in the clear, and the name server between them.
//!
//! In: Debian's erlang-base. Out: a worker that measures calls. Must not know: what is measured.

use std::path::Path;
use std::process::{Command, Stdio};

use super::worker::{Process, Worker};

/// The calling node. The fields after it end with it.
pub struct Erlang {
    pub worker: Worker,
    _far: Process,
    _names: Process,
    _folder: tempfile::TempDir,
}

impl Erlang {
    pub fn start(source: &Path) -> Result<Erlang, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let compiled = Command::new("erlc").arg("-o").arg(folder.path()).arg(source).status();
        match compiled {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("erlc ends with {status}")),
            Err(_) => return Err("Erlang is not installed (Debian: erlang-base)".into()),
        }
        // A name server of our own, so that no other one is disturbed or left behind.
        let port = free_port()?;
        let names =
            Command::new("epmd").args(["-port", &port, "-address", "127.0.0.1"]).stdin(Stdio::null()).spawn();
        let names = Process(names.map_err(|error| format!("epmd does not start: {error}"))?);
        let node = |name: &str| {
            let mut command = Command::new("erl");
            command.env("ERL_EPMD_PORT", &port).env("HOME", folder.path());
            command.args(["-noshell", "-start_epmd", "false", "-setcookie", "bench", "-sname", name, "-pa"]);
            command.arg(folder.path());
            command
        };
        let far = node("far@localhost").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let far = Process(far.map_err(|error| error.to_string())?);
        let worker = Worker::start(node("near@localhost").args(["-s", "rival", "work", "far@localhost"]))?;
        Ok(Erlang { worker, _far: far, _names: names, _folder: folder })
    }
}

fn free_port() -> Result<String, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port().to_string()).map_err(|error| error.to_string())
}
