//! `gvm doctor` finds problems of processes: gpmd, nodes, and other programs that listen in their place.
//!
//! In: environments that a test breaks in one way each. Out: the first layer that fails, and a fix that
//! works. Must not know: how the layers are checked; problems of files (`doctor_home.rs`).

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;

use gvm_host::system::process;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::bed::{Bed, GPMD, GVM};
use crate::process::{Ended, Running, wait_until};

/// Runs `gvm doctor --json` with these arguments and returns its checks.
#[track_caller]
pub fn examine(bed: &Bed, node: &[&str]) -> Vec<Value> {
    checks(&bed.gvm([&["doctor", "--json"], node].concat()))
}

/// Returns the checks that `gvm doctor --json` printed.
#[track_caller]
pub fn checks(ended: &Ended) -> Vec<Value> {
    let found = ended.json().pop().unwrap();
    assert_eq!(ended.status, Some(i32::from(found["ok"] == false)), "{found}");
    found["checks"].as_array().unwrap().clone()
}

/// Asserts that the first check that is not ok is this layer, that its message contains `words`, and that its
/// fix contains `fix`. Checks the output for people too. Returns the fix.
#[track_caller]
pub fn fails(bed: &Bed, node: &[&str], layer: &str, words: &str, fix: &str) -> String {
    let way = first(&examine(bed, node), layer, words, fix);
    // The output for people must say the same.
    let text = bed.gvm([&["doctor"], node].concat()).out();
    assert!(text.contains(&format!("FAILS  {layer}")) && text.contains(fix), "{text}");
    way
}

/// Does the same as [`fails`] for checks that were already read.
#[track_caller]
pub fn first(checks: &[Value], layer: &str, words: &str, fix: &str) -> String {
    let first = checks.iter().find(|check| check["state"] != "ok").unwrap_or_else(|| panic!("all is well"));
    let (said, way) = (first["message"].as_str().unwrap(), first["fix"].as_str().unwrap_or("none"));
    assert_eq!(
        (first["layer"].as_str(), first["state"].as_str()),
        (Some(layer), Some("failed")),
        "{checks:#?}"
    );
    assert!(said.contains(words), "{layer} says {said:?}, not {words:?}");
    assert!(way.contains(fix), "the fix of {layer} is {way:?}, not {fix:?}");
    way.to_owned()
}

#[track_caller]
pub fn is_well(bed: &Bed, node: &[&str]) {
    let checks = examine(bed, node);
    assert!(checks.iter().all(|check| check["state"] == "ok"), "{checks:#?}");
}

#[test]
fn a_home_that_is_well() {
    let bed = Bed::stocked();
    let _kitchen = bed.node("kitchen");
    is_well(&bed, &[]);
    is_well(&bed, &["kitchen"]);
    assert_eq!(bed.nodes(), ["kitchen"], "the doctor's own node is still registered");
    // A node that keeps running may use the name and the port in the settings. The doctor still passes.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("name = \"kitchen\"\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    fs::write(bed.home().join("config.toml"), listen).unwrap();
    is_well(&bed, &["kitchen"]);
    bed.eval(["math.add(1, 2)"]).ok();
}

#[test]
fn daemons() {
    let mut bed = Bed::bare();
    bed.gpmd(["wasm", "list"]).ok();
    fails(&bed, &[], "gpmd", "no gpmd runs", "gpmd start");
    bed.start_gpmd();
    let pid = bed.gpmd_pid().as_raw_nonzero();
    kill_process(bed.gpmd_pid(), Signal::STOP).unwrap();
    fails(&bed, &[], "gpmd", "is suspended", &format!("kill -CONT {pid}"));
    kill_process(bed.gpmd_pid(), Signal::CONT).unwrap();
    is_well(&bed, &[]);
    let record = bed.home().join("gpmd.json");
    let said = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    fails(&bed, &[], "gpmd", "gpmd.json has no record of it", "gpmd kill, then gpmd start");
    fs::write(&record, said).unwrap();
    fs::remove_file(bed.home().join("home.id")).unwrap();
    fails(&bed, &[], "home", "home.id is missing, but process", &format!("kill {pid}"));
    bed.kill_gpmd();
    fails(&bed, &[], "gpmd", "crashed or was killed", "gpmd start");
}

#[test]
fn sockets_of_gpmd() {
    for socket in ["gpmd.sock", "command.sock"] {
        let bed = Bed::new();
        let path = bed.home().join(socket);
        fs::remove_file(&path).unwrap();
        let fix = format!("kill {}, then gpmd start", bed.gpmd_pid().as_raw_nonzero());
        fails(&bed, &[], "answer", &format!("{socket} is gone"), &fix);
        // Other commands suggest the same fix, not one that fails.
        let said = match socket {
            "gpmd.sock" => bed.eval(["Node.discover()"]),
            _ => bed.gpmd(["start"]),
        };
        let said = said.fails("GPMD_NOT_RUNNING");
        assert!(said.contains(&format!("kill {}", bed.gpmd_pid().as_raw_nonzero())), "{said}");
        let _other = UnixListener::bind(&path).unwrap();
        fails(
            &bed,
            &[],
            "answer",
            "instead of the gpmd of this home",
            &format!("rm {}", bed.home().display()),
        );
    }
}

#[test]
fn locks() {
    let bed = Bed::new();
    fs::remove_file(bed.home().join("gpmd.lock")).unwrap();
    let fix = format!("kill {}, then gpmd start", bed.gpmd_pid().as_raw_nonzero());
    fails(&bed, &[], "gpmd", "does not hold", &fix);
    let bed = Bed::bare();
    bed.gpmd(["wasm", "list"]).ok();
    let lock = fs::File::create(bed.home().join("gpmd.lock")).unwrap();
    lock.lock().unwrap();
    let own = std::process::id();
    first(&examine(&bed, &[]), "gpmd", "listens on no socket", &format!("kill {own}, then gpmd start"));
}

#[test]
fn a_compiler_that_was_stopped() {
    let bed = Bed::stocked();
    bed.eval(["math.add(1, 2)"]).ok();
    let engines = fs::read_dir(bed.home().join("compiled")).unwrap().flatten();
    let lock = engines.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap().join("module.lock");
    let mut holding = Running::start(Command::new("flock").arg(&lock).args(["cat"]));
    wait_until("it is locked", || lock.exists() && fs::File::open(&lock).unwrap().try_lock().is_err());
    is_well(&bed, &[]);
    kill_process(holding.pid(), Signal::STOP).unwrap();
    let fix = format!("kill -CONT {}", holding.pid().as_raw_nonzero());
    fails(&bed, &[], "compiled", "the compiler is suspended", &fix);
    kill_process(holding.pid(), Signal::CONT).unwrap();
    holding.close_stdin();
    holding.finish();
}

#[test]
fn ports_that_are_taken() {
    let bed = Bed::bare();
    bed.gpmd(["wasm", "list"]).ok();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut command = bed.command(GVM);
    command.args(["doctor", "--json"]).env("GPMD_PORT", port.to_string());
    let found = checks(&Running::start(&mut command).finish());
    let by = format!("port {port} is in use by process {}", std::process::id());
    first(&found, "gpmd", &by, "gpmd start --port 0 --command-port 0");
    fs::write(bed.home().join("config.toml"), format!("[gpmd]\ncommand-port = {port}\n")).unwrap();
    let mut command = bed.command(GVM);
    command.args(["doctor", "--json"]).env_remove("GPMD_COMMAND_PORT");
    first(&checks(&Running::start(&mut command).finish()), "gpmd", &by, "--command-port 0");
}

#[test]
fn another_gpmd_than_the_homes() {
    let (bed, other) = (Bed::new(), Bed::new());
    let of = |bed: &Bed, key: &str| {
        let status: Value = serde_json::from_str(&bed.gpmd(["status", "--json"]).ok()).unwrap();
        status[key].as_str().unwrap().to_owned()
    };
    let at = |address: String| {
        let found = checks(&bed.gvm(["--gpmd", &address, "doctor", "--json"]));
        (found, address)
    };
    let (found, _) = at(of(&bed, "address"));
    assert!(found.iter().all(|check| check["state"] == "ok"), "{found:#?}");
    let (found, address) = at(of(&bed, "command_address"));
    first(&found, "answer", "is not gpmd's port for nodes", "omit --gpmd");
    bed.gvm(["--gpmd", &address, "eval", "Node.list()"]).fails("GPMD_NOT_RUNNING");
    first(&at(of(&other, "address")).0, "answer", "AUTH_FAILED", "omit --gpmd");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    first(&at(nobody).0, "answer", "nothing listens there", "correct it");
}

#[test]
fn too_few_descriptors() {
    let bed = Bed::new();
    let few = |words: &str| {
        let mut command = bed.command("sh");
        command.arg("-c").arg(format!("ulimit -n 12; exec {GVM} {words}"));
        Running::start(&mut command).finish()
    };
    first(&checks(&few("doctor --json")), "process", "may open only 12 files", "ulimit -n 1024");
    assert!(few("eval 'Node.list()'").fails("OVERLOADED").contains("ulimit -n 1024"));
}

#[test]
fn programs_raise_the_limit_of_descriptors() {
    let bed = Bed::bare();
    let start = |words: String| {
        let mut command = bed.command("sh");
        command.arg("-c").arg(format!("ulimit -Sn 100; ulimit -Hn 900; exec {words}"));
        let running = Running::start(&mut command);
        let pid = running.pid().as_raw_nonzero().get().cast_unsigned();
        wait_until("it raises its limit", || process::open_files(pid).is_some_and(|(_, most)| most == 900));
        running
    };
    let _gpmd = start(format!("{GPMD} start --foreground"));
    wait_until("gpmd answers", || bed.gpmd(["status"]).status == Some(0));
    let _node = start(format!("{GVM} serve --name raised"));
    wait_until("the node has registered", || bed.nodes() == ["raised"]);
}

#[test]
fn a_gpmd_that_may_open_no_more() {
    let bed = Bed::new();
    let pid = bed.gpmd_pid().as_raw_nonzero();
    let limit = |most: &str| {
        let ended = Running::start(
            Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={most}:")]),
        );
        assert_eq!(ended.finish().status, Some(0));
    };
    limit("8");
    first(&examine(&bed, &[]), "gpmd", "its limit is 8", "ulimit -n 4096");
    limit("1024");
    is_well(&bed, &[]);
}

#[test]
fn narrow_address_spaces() {
    let bed = Bed::stocked();
    let mut command = bed.command("sh");
    command.arg("-c").arg(format!("ulimit -v 8000000; exec {GVM} doctor --json"));
    let found = checks(&Running::start(&mut command).finish());
    assert!(found.iter().all(|check| check["state"] == "ok"), "{found:#?}");
}

#[test]
fn nodes() {
    let bed = Bed::new();
    let kitchen = bed.node("kitchen");
    fails(&bed, &["kichen"], "name", "did you mean `kitchen`?", "gvm --name kichen");
    let _closed = bed.node_with("closed", &["--accept", "none"]);
    fails(&bed, &["closed"], "accept", "does not accept", "--accept");
    let _choosy = bed.node_with("choosy", &["--accept", "study"]);
    fails(&bed, &["choosy"], "accept", "does not accept", "gvm --name NAME doctor choosy");
    let found = checks(&bed.gvm(["--name", "study", "doctor", "choosy", "--json"]));
    assert!(found.iter().all(|check| check["state"] == "ok"), "{found:#?}");
    fails(&bed, &["kitchen", "--name", "closed"], "node", "NODE_NAME_TAKEN", "omit --name");
    let _silent = bed.node_with("silent", &["--allow-call", "other=*"]);
    fails(&bed, &["silent"], "rights", "this node may call nothing there", "--allow-call");
    let sockets = fs::read_dir(bed.home().join("nodes")).unwrap();
    sockets.for_each(|socket| fs::remove_file(socket.unwrap().path()).unwrap());
    fails(&bed, &["kitchen"], "socket", "No such file", "start it again: gvm --name kitchen");
    kitchen.kill();
    wait_until("kitchen is gone", || !bed.nodes().iter().any(|name| name == "kitchen"));
    fails(&bed, &["kitchen"], "name", "no running node is called kitchen", "gvm --name kitchen");
}

#[test]
fn a_node_that_was_stopped() {
    let bed = Bed::new();
    let kitchen = bed.node("kitchen");
    let fix = format!("kill -CONT {}", kitchen.pid().as_raw_nonzero());
    kill_process(kitchen.pid(), Signal::STOP).unwrap();
    let found = examine(&bed, &["kitchen"]);
    first(&found, "nodes", "kitchen is suspended", &fix);
    let socket = found.iter().find(|check| check["layer"] == "socket").unwrap();
    assert_eq!((&socket["state"], &socket["fix"]), (&Value::from("failed"), &Value::from(fix.as_str())));
    // Within seconds gpmd notices, and the node is no longer live.
    wait_until("gpmd no longer lists the node", || bed.nodes().is_empty());
    let found = examine(&bed, &["kitchen"]);
    first(&found, "nodes", "is suspended", &fix);
    let name = found.iter().find(|check| check["layer"] == "name").unwrap();
    assert!(name["fix"].as_str().unwrap().contains(&fix), "{name}");
    kill_process(kitchen.pid(), Signal::CONT).unwrap();
    wait_until("kitchen is live again", || bed.nodes().iter().any(|name| name == "kitchen"));
    is_well(&bed, &["kitchen"]);
}
