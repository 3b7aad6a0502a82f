//! Limits: a guest that exceeds one is stopped, the error names the limit, and other calls go on.
//!
//! In: guests that use more than they are allowed. Out: a coded error, mostly `LIMIT_EXCEEDED` or `TIMEOUT`.
//! Must not know: how a limit is enforced.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bed::{Bed, GVM};
use crate::guests::{self, p1, p2, wat};
use crate::process::{cpu_time, peak_memory, wait_until, wait_until_idle};

/// A module whose main exceeds a limit.
struct Greedy {
    module: PathBuf,
    options: &'static [&'static str],
    args: &'static [&'static str],
    /// Parts of the error message: the limit and its value.
    words: &'static [&'static str],
}

impl Greedy {
    fn line(&self, place: &[&'static str]) -> Vec<String> {
        let module = self.module.to_str().unwrap();
        [self.options, place, &[module], self.args].concat().into_iter().map(str::to_owned).collect()
    }

    #[track_caller]
    fn meets_its_limit(&self, bed: &Bed, place: &[&'static str]) {
        let err = bed.run(self.line(place)).fails("LIMIT_EXCEEDED");
        assert!(self.words.iter().all(|word| err.contains(word)), "{:?}: {err}", self.module);
    }
}

fn greedy() -> Vec<Greedy> {
    let none: &[&str] = &[];
    [
        (wat("grow"), none, none, &["memory", "256.0 MiB"][..]),
        (wat("grow"), &["--max-memory", "1MiB"][..], none, &["memory", "1.0 MiB"][..]),
        (wat("memories"), none, none, &["memory", "256.0 MiB"][..]),
        (wat("wide-memory"), none, none, &["2.0 GiB", "256.0 MiB"][..]),
        (wat("table"), none, none, &["table", "100000"][..]),
        (wat("wide-table"), none, none, &["table", "100000"][..]),
        (p1("spend"), none, &["memory"][..], &["memory", "256.0 MiB"][..]),
        (p2("spend"), none, &["memory"][..], &["memory", "256.0 MiB"][..]),
        (p1("spend"), none, &["stdout"][..], &["output", "16777216"][..]),
        (p2("spend"), none, &["stderr"][..], &["output", "16777216"][..]),
        (p1("spend"), &["--max-output", "64KiB"][..], &["stdout"][..], &["output", "65536"][..]),
        (wat("spin"), &["--fuel", "1000000"][..], none, &["1000000", "fuel"][..]),
    ]
    .map(|(module, options, args, words)| Greedy { module, options, args, words })
    .into()
}

/// A guest that gets no memory to begin with has not started.
#[test]
fn refuse_a_guest_before_it_starts() {
    let bed = Bed::new();
    let outcome = |name: &str, text: &str| {
        bed.upload(name, &bed.write(&format!("{name}.wat"), text));
        let ended = bed.gvm(["--json", "--max-memory", "1MiB", "eval", &format!("{name}.f()")]);
        let error = &ended.json()[0]["error"];
        assert_eq!(error["code"], "LIMIT_EXCEEDED", "{error}");
        error["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("begins", r#"(module (memory 32) (func (export "f")))"#), "not-started");
    let initializes = r#"(module (memory 1) (func (export "f"))
        (func (export "_initialize") (drop (memory.grow (i32.const 32))) unreachable))"#;
    assert_eq!(outcome("initializes", initializes), "ran-and-failed");
}

#[test]
fn stop_a_guest_here() {
    let bed = Bed::bare();
    for greedy in greedy() {
        greedy.meets_its_limit(&bed, &[]);
    }
}

#[test]
fn stop_a_guest_there() {
    let bed = Bed::new();
    let b = bed.node("b");
    for greedy in greedy() {
        greedy.meets_its_limit(&bed, &["--node", "b"]);
    }
    assert_eq!(bed.nodes(), ["b"]);
    wait_until_idle(b.pid());
}

/// A call may ask for a lower limit than its node's, never for a higher one.
#[test]
fn narrow_and_never_widen() {
    let bed = Bed::new();
    let grow = wat("grow");
    let _b = bed.node_with("b", &["--max-memory", "2MiB", "--fuel", "1000000000"]);
    for asked in ["1GiB", "1MiB"] {
        let err =
            bed.run(["--node", "b", "--max-memory", asked, grow.to_str().unwrap()]).fails("LIMIT_EXCEEDED");
        let stands = if asked == "1GiB" { "2.0 MiB" } else { "1.0 MiB" };
        assert!(err.contains(stands), "{asked}: {err}");
    }
    let err = bed.run(["--node", "b", wat("spin").to_str().unwrap()]).fails("LIMIT_EXCEEDED");
    assert!(err.contains("1000000000"), "{err}");
}

/// A guest whose request for memory is refused, and that handles the refusal, has not failed.
#[test]
fn a_polite_refusal_is_no_failure() {
    let bed = Bed::bare();
    assert_eq!(bed.run(["--invoke", "polite()", wat("grow").to_str().unwrap()]).ok(), "-1\n");
}

#[test]
fn time() {
    let bed = Bed::stocked();
    bed.upload("spin", &wat("spin"));
    bed.upload("start-loop", &wat("start-loop"));
    let _b = bed.node("b");
    // The modules are compiled first, so that the timeout covers only the run.
    wait_until("four uploads are compiled", || bed.compiled() >= 4);
    bed.eval(["Node.connect(b)", "Node.run(b, values.echo-u8(1))"]).ok();
    for call in
        ["values.spin()", "values.sleep(60000)", "spin.spin()", "spin", "start-loop", "start-loop.one()"]
    {
        for statement in [call.to_owned(), format!("Node.run(b, {call})")] {
            let started = Instant::now();
            let ended = bed.eval(["--timeout", "400ms", "--json", "Node.connect(b)", &statement]);
            let took = started.elapsed();
            let error = &ended.json().last().unwrap()["error"].clone();
            assert_eq!(
                (&error["code"], &error["outcome"]),
                (&"TIMEOUT".into(), &"ran-and-failed".into()),
                "{statement}: {}",
                ended.out()
            );
            assert!(took < Duration::from_secs(8), "{statement}: {took:?}");
        }
    }
}

/// A slow reader slows the guest: neither node buffers all of the unread output.
#[test]
fn a_slow_reader() {
    let bed = Bed::new();
    let b = bed.node("b");
    for place in [&[][..], &["--node", "b"]] {
        let mut command: Command = bed.command(GVM);
        let total = 48 << 20;
        command
            .args(["run", "--max-output", "64MiB"])
            .args(place)
            .arg(p1("spend"))
            .args(["stdout", &total.to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 1024];
        out.read_exact(&mut first).unwrap();
        let before = peak_memory(pid);
        // Nothing reads the output, so the guest, local or remote, blocks long before it has written it all.
        wait_until_idle(pid);
        wait_until_idle(b.pid());
        let (caller, node) = (peak_memory(pid) - before, peak_memory(b.pid()));
        eprintln!(
            "{place:?}: nobody reads; the caller grew by {} KiB, the node peaked at {} MiB",
            caller >> 10,
            node >> 20
        );
        assert!(caller < 24 << 20, "{place:?}: the caller buffered {caller} bytes");
        assert!(child.try_wait().unwrap().is_none());
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len() + first.len(), total);
        assert!(child.wait().unwrap().success());
        assert!(cpu_time(b.pid()) < Duration::from_secs(20));
    }
}

/// A reader that closes the pipe ends the run.
#[test]
fn a_reader_that_goes() {
    let bed = Bed::bare();
    let script =
        format!("{GVM} run --max-output 1GiB {} stdout 1000000000 | head -c 5", p1("spend").display());
    let started = Instant::now();
    let ended = crate::process::Running::start(bed.command("sh").args(["-c", &script])).finish();
    assert_eq!(ended.out(), "xxxxx");
    eprintln!("head -c 5 took {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// A module that takes long to compile succeeds or fails with a code, and other calls go on meanwhile.
#[test]
fn a_compiler_bomb() {
    let bed = Bed::stocked();
    let mut body = String::from("(module (func (export \"_start\") (local i32)\n");
    for index in 0..20_000 {
        body += &format!(
            "(if (i32.eq (local.get 0) (i32.const {index})) (then (local.set 0 (i32.mul (local.get 0) (i32.const {index})))))\n"
        );
    }
    body += "))";
    let bomb = bed.write("bomb.wat", body);
    let running = bed.start_gvm(["run", bomb.to_str().unwrap()]);
    assert_eq!(bed.eval(["values.echo-u8(1)"]).ok(), "1\n");
    let ended = running.finish();
    assert!(matches!(ended.status, Some(0 | 1)), "{}", ended.err());
    assert!(ended.status == Some(0) || ended.err().contains("LIMIT_EXCEEDED"), "{}", ended.err());
}

/// Values with a false size, and values that are nested deeper than any type.
#[test]
fn hostile_values() {
    let bed = Bed::stocked();
    bed.upload("broken", &guests::wat("bad-string"));
    let ended = bed.eval(["--json", "broken.huge()"]);
    let code = ended.json()[0]["error"]["code"].clone();
    assert!(code == "TRAP" || code == "LIMIT_EXCEEDED", "{}", ended.out());
    let deep = format!("values.echo-option({}1{})", "some(".repeat(100_000), ")".repeat(100_000));
    let mut running = bed.start_gvm::<&str>([]);
    running.write(deep.as_bytes());
    running.finish().fails("BAD_ARGUMENTS");
}

/// When the system has no address space left, the error says that the call did not start.
#[test]
fn a_system_without_memory() {
    let bed = Bed::stocked();
    bed.upload("grows", &guests::wat("grows"));
    // The modules are compiled first, so that only the call runs short of memory.
    wait_until("three uploads are compiled", || bed.compiled() >= 3);
    let narrow = |kilobytes: u32, words: &str| {
        let script = format!("ulimit -v {kilobytes}; exec \"$0\" {words}");
        crate::process::Running::start(bed.command("sh").args(["-c", &script, GVM])).finish()
    };
    for words in
        ["eval --json 'math.add(1,2)'", "run --json 'grows.grow(1)'", "eval --json 'values.echo-u8(7)'"]
    {
        for kilobytes in [2_000_000, 1_200_000, 800_000] {
            let ended = narrow(kilobytes, words);
            let json = ended.json();
            let line = json.last().unwrap_or_else(|| panic!("{words}, {kilobytes}: {}", ended.err()));
            if ended.status == Some(0) {
                continue;
            }
            let error = &line["error"];
            assert!(
                error["code"] == "OVERLOADED" || error["code"] == "LIMIT_EXCEEDED",
                "{kilobytes}: {line}"
            );
            assert_eq!(error["outcome"], "not-started", "{line}");
        }
    }
    let refused = narrow(2_000_000, "eval --json 'math.add(1,2)'");
    assert_eq!((refused.status, &refused.json()[0]["error"]["code"]), (Some(1), &"OVERLOADED".into()));
}
