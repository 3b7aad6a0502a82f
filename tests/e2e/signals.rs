//! Signals: a signal to end makes a program shut down in order; ignored signals stay ignored.
//!
//! In: programs and signals. Out: exit statuses, messages to peers, and files that are left behind. Must not
//! know: how the programs handle signals.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::bed::{Bed, GPMD, GVM};
use crate::process::{Running, wait_until};

/// A signal to end makes a node shut down in order.
#[test]
fn signals_end_in_order() {
    let bed = Bed::stocked();
    let mut a = bed.node("a");
    for (signal, status) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let b = bed.node("b");
        assert_eq!(a.ask("Node.connect(b)"), "b");
        b.running.signal(signal);
        let ended = b.running.end();
        assert_eq!(ended.status, Some(status), "{}", ended.err());
        wait_until("a reports the shutdown", || {
            a.running.err().matches("[b is gone: shut down]").count() == usize::from(status == 129) + 1
        });
    }
}

/// `gvm serve` prints the node's name, id and events; it exits with status 0 after a signal to end.
#[test]
fn a_served_node_ends_well() {
    let bed = Bed::stocked();
    let mut a = bed.node("a");
    for (times, signal) in [Signal::TERM, Signal::HUP, Signal::INT].into_iter().enumerate() {
        let served = Running::start(bed.command(GVM).args(["serve", "--name", "served", "--json"]));
        served.wait_for_out(r#""event":"started""#);
        assert_eq!(a.ask("Node.connect(served)"), "served");
        assert!(a.ask("Node.run(served, values.echo-u8(7))").starts_with("ID:  "));
        assert_eq!(a.rest(), "7");
        served.wait_for_out(r#"{"event":"connected","node":"a"}"#);
        served.signal(signal);
        let ended = served.end();
        assert_eq!((ended.status, ended.err()), (Some(0), String::new()));
        let first: serde_json::Value = serde_json::from_str(ended.out().lines().next().unwrap()).unwrap();
        assert_eq!(first["node"], "served");
        assert!(first["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
        wait_until("a reports the shutdown", || {
            a.running.err().matches("[served is gone: shut down]").count() == times + 1
        });
    }
    // Without `--json`.
    let served = Running::start(bed.command(GVM).args(["serve", "--name", "served"]));
    served.wait_for_out("GVM has been created served (");
    served.signal(Signal::TERM);
    assert_eq!(served.end().status, Some(0));
}

/// Returns the same command with these signals ignored, as `nohup` or a shell's background job starts it.
fn ignoring(command: &Command, signals: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' {signals}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

#[test]
fn what_is_ignored_stays_ignored() {
    let bed = Bed::stocked();
    let mut command = bed.command(GVM);
    command.args(["eval", "values.sleep(1000)", "values.echo-u8(7)"]);
    let running = Running::start(&mut ignoring(&command, "INT HUP TERM"));
    running.wait_for_out("sleeping");
    for signal in [Signal::INT, Signal::HUP, Signal::TERM] {
        running.signal(signal);
    }
    assert!(running.end().ok().ends_with("\n7\n"));

    let home = bed.folder().join("other");
    let mut command = bed.command(GPMD);
    command.args(["start", "--foreground"]).env("GHOST_HOME", &home);
    let gpmd = Running::start(&mut ignoring(&command, "INT HUP"));
    let answers = || {
        Running::start(bed.command(GPMD).arg("status").env("GHOST_HOME", &home)).finish().status == Some(0)
    };
    wait_until("gpmd answers", answers);
    gpmd.signal(Signal::HUP);
    gpmd.signal(Signal::INT);
    assert!(answers(), "gpmd still answers");
    gpmd.signal(Signal::TERM);
    assert_eq!(gpmd.end().status, Some(0));
}

/// A demo deletes its folder, whichever signal ends it.
#[test]
fn the_demo_leaves_nothing_behind() {
    let bed = Bed::bare();
    let folder = bed.folder().join("temporary");
    std::fs::create_dir(&folder).unwrap();
    let left = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    for signal in [Signal::TERM, Signal::HUP] {
        let mut demo = Running::start(bed.command(GVM).arg("demo").env("TMPDIR", &folder));
        demo.write(b"math.add(1,2)\n");
        demo.wait_for_out("\n3\n");
        assert_eq!(left(&folder), 1);
        demo.signal(signal);
        assert_eq!(demo.end().status, Some(if signal == Signal::TERM { 143 } else { 129 }));
        assert_eq!(left(&folder), 0);
    }
}
