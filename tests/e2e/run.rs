//! `gvm run`: arguments, environment, input, folders and exit status of programs of WASI previews 1 and 2.
//!
//! In: command lines. Out: whether the guest received what it was given and nothing else, and whether `gvm`
//! exits with the guest's status. Must not know: how calls reach other nodes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use crate::bed::Bed;
use crate::guests::{self, p1, p2};
use crate::process::{Running, wait_until};

/// Runs the test with the program built for each preview.
fn both(name: &str, test: impl Fn(PathBuf)) {
    test(p1(name));
    test(p2(name));
}

/// Returns the exit status that `gvm` sees. Preview 2 reports only success or failure, without the number.
fn seen(program: &std::path::Path, status: i32) -> i32 {
    if text(program).contains("wasip2") { i32::from(status != 0) } else { status }
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn arguments_are_the_guests() {
    let bed = Bed::bare();
    both("args", |args| {
        let out = bed.run([text(&args), "one", "--json", "-x", "--", ""]).ok();
        assert_eq!(out, "arg 0: args.wasm\narg 1: one\narg 2: --json\narg 3: -x\narg 4: --\narg 5: \n");
    });
    assert!(!bed.home().join("gpmd.json").exists(), "a path does not start gpmd");
}

#[test]
fn environment_is_what_was_given() {
    let bed = Bed::bare();
    both("args", |args| {
        let out = bed.run(["--env", "A=1", "--env", "B=x=y", "--env", "HOME_OF_NOBODY", text(&args)]).ok();
        assert_eq!(out, "arg 0: args.wasm\nenv A=1\nenv B=x=y\n");
    });
}

#[test]
fn standard_input_streams() {
    let bed = Bed::bare();
    both("cat", |cat| {
        let mut running = bed.start_gvm(["run", text(&cat), "upper"]);
        running.write(b"hello ");
        running.wait_for_out("HELLO");
        running.write("wörld\n".as_bytes());
        assert_eq!(running.finish().ok(), "HELLO WöRLD\n");

        let large: Vec<u8> = (0..3 << 20).map(|index: u32| (index % 251) as u8).collect();
        let mut running = bed.start_gvm(["run", text(&cat)]);
        running.write(&large);
        let ended = running.finish();
        assert!(ended.status == Some(0) && ended.stdout == large, "{} bytes came back", ended.stdout.len());
    });
}

#[test]
fn folders_are_what_was_granted() {
    let bed = Bed::bare();
    let outside = bed.write("outside", "secret");
    both("files", |files| {
        let granted = bed.folder().join("granted");
        fs::create_dir(&granted).unwrap();
        let run = |option: &str, words: &[&str]| bed.run([&["--dir", option, text(&files)], words].concat());
        let dir = "granted::/data";

        let toured = run(dir, &["tour", "/data"]).ok();
        assert_eq!(toured, "tail r89\nsize 6\nfirst true\nsecond 0123fo\nnames 1\ngone true\n");

        run(dir, &["write", "/data/a", "words"]).ok();
        assert_eq!(fs::read_to_string(granted.join("a")).unwrap(), "words");
        assert_eq!(run(dir, &["read", "/data/a"]).ok(), "words");
        run(dir, &["rename", "/data/a", "/data/b"]).ok();
        assert_eq!(run(dir, &["list", "/data"]).ok(), "b\n");
        assert_eq!(run(dir, &["size", "/data/b"]).ok(), "5\n");
        assert_eq!(run("granted", &["read", "granted/b"]).ok(), "words");

        // No path leads outside the granted folder.
        symlink(&outside, granted.join("link")).unwrap();
        symlink("..", granted.join("up")).unwrap();
        for path in ["/data/../outside", "/data/link", "/data/up/outside", text(&outside), "/etc/passwd"] {
            let ended = run(dir, &["read", path]);
            assert!(ended.status == Some(1) && !ended.out().contains("secret"), "{path}: {}", ended.out());
        }
        assert_eq!(run(dir, &["write", "/data/../stolen", "x"]).status, Some(1));
        assert_eq!(run(dir, &["rename", "/data/b", "/data/../stolen"]).status, Some(1));
        assert!(!bed.folder().join("stolen").exists());

        let ro = "granted::/data::ro";
        assert_eq!(run(ro, &["read", "/data/b"]).ok(), "words");
        assert_eq!(run(ro, &["write", "/data/c", "x"]).status, Some(1));
        assert_eq!(run(ro, &["unlink", "/data/b"]).status, Some(1));
        assert!(granted.join("b").exists() && !granted.join("c").exists());

        run(dir, &["unlink", "/data/b"]).ok();
        assert!(!granted.join("b").exists());
        fs::remove_dir_all(granted).unwrap();
    });
    assert_eq!(fs::read_to_string(outside).unwrap(), "secret");
}

#[test]
fn the_status_is_the_guests() {
    let bed = Bed::bare();
    both("leave", |leave| {
        for status in [0, 1, 3, 42, 125] {
            let ended = bed.run([text(&leave), &status.to_string()]);
            assert_eq!(
                (ended.status, ended.err()),
                (Some(seen(&leave, status)), format!("leaving by {status}\n"))
            );
        }
        assert_eq!(bed.run([text(&leave), "return"]).status, Some(0));
        let err = bed.run([text(&leave), "panic"]).fails("TRAP");
        assert!(err.contains("panicked at") && err.contains("as was asked"), "{err}");
        assert!(err.contains("leave::main"), "the backtrace names functions: {err}");
    });
}

#[test]
fn clocks_and_randomness() {
    let bed = Bed::bare();
    both("clocks", |clocks| {
        let [one, two] = [(); 2].map(|()| bed.run([text(&clocks)]).ok());
        assert!(one.starts_with("later than 2020: true\nit goes: true\nseed "), "{one}");
        assert_ne!(one, two);
    });
}

#[test]
fn text_form_and_invoke() {
    let bed = Bed::bare();
    let hello = guests::wat("hello");
    assert_eq!(bed.run([text(&hello)]).ok(), "hello\n");
    assert_eq!(bed.run(["--invoke", "add(40, 2)", text(&hello)]).ok(), "42\n");
    let values = guests::values();
    assert_eq!(bed.run(["--invoke", "echo-string(\"é\")", text(&values)]).ok(), "\"é\"\n");
    assert_eq!(bed.run(["--invoke", "left.side()", text(&values)]).ok(), "\"left\"\n");
    bed.write("broken.wat", "(module (func (export \"_start\") nonsense))");
    let err = bed.run(["./broken.wat"]).fails("MODULE_INVALID");
    assert!(err.contains("line 1"), "{err}");
    bed.write("broken.wasm", b"\0asm\x01\0\0\0\xff\xff");
    bed.run(["./broken.wasm"]).fails("MODULE_INVALID");
    bed.write("words.wasm", b"no module at all \xff");
    bed.run(["./words.wasm"]).fails("MODULE_INVALID");
    bed.run(["./none.wasm"]).fails("MODULE_NOT_FOUND");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_changed_is_read_again() {
    let bed = Bed::bare();
    let module = |number: u8| {
        wat::parse_str(format!("(module (func (export \"number\") (result i32) i32.const {number}))"))
            .unwrap()
    };
    let path = bed.write("number.wasm", module(1));
    let run = || bed.run(["--invoke", "number", "./number.wasm"]);
    // A file that has just changed is not remembered.
    let remembered = |number: u8| {
        let hash = gvm_host::Hash::of(&module(number)).to_string();
        let entries = fs::read_dir(bed.home().join("known")).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&hash)))
    };
    wait_until("the file is remembered", || run().ok() == "1\n" && remembered(1));
    assert_eq!(run().ok(), "1\n");

    // The same size and the same time of its last modification, in the same file and in another one.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let date = |path: &std::path::Path| {
        fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    };
    fs::write(&path, module(2)).unwrap();
    date(&path);
    assert_eq!(run().ok(), "2\n");
    let other = bed.write("other.wasm", module(3));
    date(&other);
    fs::rename(other, &path).unwrap();
    assert_eq!(run().ok(), "3\n");
    fs::write(&path, &module(3)[..12]).unwrap();
    date(&path);
    run().fails("MODULE_INVALID");

    // Without compiled code, the file is read again.
    fs::write(&path, module(4)).unwrap();
    wait_until("the new content is remembered", || run().ok() == "4\n" && remembered(4));
    fs::remove_dir_all(bed.home().join("compiled")).unwrap();
    assert_eq!(run().ok(), "4\n");
}

#[test]
fn json_tells_it_all() {
    let bed = Bed::bare();
    let hello = guests::wat("hello");
    let ended = bed.run(["--json", text(&hello)]);
    let [line] = &ended.json()[..] else { panic!("{}", ended.out()) };
    assert_eq!((line["stdout"].as_str(), line["stderr"].as_str()), (Some("hello\n"), Some("")));
    assert!(line["id"].as_str().unwrap().len() == 36 && line["node"].is_null() && line["result"].is_null());
    assert!(line["seconds"].as_f64().unwrap() < 30.0 && line.get("error").is_none());

    let ended = bed.run(["--json", "--invoke", "add(40, 2)", text(&hello)]);
    assert_eq!(ended.json()[0]["result"], 42);
    both("leave", |leave| {
        let ended = bed.run(["--json", text(&leave), "3"]);
        assert_eq!(ended.status, Some(seen(&leave, 3)));
        let error = &ended.json()[0]["error"];
        assert_eq!(
            (error["code"].as_str(), error["outcome"].as_str()),
            (Some("GUEST_EXIT"), Some("ran-and-failed"))
        );
    });
}

#[test]
fn usage_errors_are_status_2() {
    let bed = Bed::bare();
    bed.write("x.wasm", b"\0asm\x01\0\0\0");
    for words in [
        &["--timeout", "soon", "./x.wasm"][..],
        &["--max-memory", "lots", "./x.wasm"],
        &["--max-memory", "0", "./x.wasm"],
        &["--max-output", "0", "./x.wasm"],
        &["--fuel", "0", "./x.wasm"],
        &["--dir", "a::b::c", "./x.wasm"],
        &["--node", "b", "--dir", "a", "./x.wasm"],
        &["--node", "b", "--env", "A=1", "./x.wasm"],
        &["--accept", "some people", "--node", "b", "./x.wasm"],
        &["--no-such-flag", "./x.wasm"],
        &["math.add(1"],
        &[],
    ] {
        let ended = bed.run(words);
        assert_eq!(ended.status, Some(2), "{words:?}: {}", ended.err());
    }
}

#[test]
fn output_that_is_lost_is_told() {
    let bed = Bed::bare();
    both("args", |args| {
        let mut command = bed.command(crate::bed::GVM);
        command.args(["run", text(&args), "one"]).stdin(Stdio::null()).stderr(Stdio::piped());
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        Running::start_as_is(command.stdout(full)).finish().fails("STORAGE_FULL");
    });
    both("spend", |spend| {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = bed.command(crate::bed::GVM);
        command
            .args(["run", text(&spend), "stdout", "100000000"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let running = Running::start_as_is(command.stdout(writer));
        drop(command);
        drop(reader);
        // The guest gets an error, and ends long before it reaches its output limit.
        let err = running.finish();
        assert!(!err.err().contains("LIMIT_EXCEEDED"), "{}", err.err());
    });
}

#[test]
fn stored_modules() {
    let bed = Bed::stocked();
    bed.upload("args", &p1("args"));
    bed.upload("cat", &p2("cat"));
    assert_eq!(bed.run(["args", "-a", "b"]).ok(), "arg 0: args\narg 1: -a\narg 2: b\n");
    assert_eq!(bed.run(["math"]).ok(), "Reponse from the math module...\n");
    assert_eq!(bed.run(["math@1.0.0.add(1, 2)"]).ok(), "Adding Numbers From Wasm...\n3\n");
    assert_eq!(bed.run(["values.\"test:values/right@1.0.0\".side()"]).ok(), "\"right\"\n");
    let mut cat = bed.start_gvm(["run", "cat", "upper"]);
    cat.write(b"abc");
    assert_eq!(cat.finish().ok(), "ABC");
    let err = bed.run(["maths"]).fails("MODULE_NOT_FOUND");
    assert!(err.contains("math"), "the error suggests a similar name: {err}");
    bed.run(["math@3.0.0"]).fails("MODULE_NOT_FOUND");
}

#[test]
fn on_another_node() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    both("args", |args| {
        let out = bed.run(["--node", "b", text(&args), "one", "-two"]).ok();
        assert_eq!(out, "arg 0: args.wasm\narg 1: one\narg 2: -two\n");
    });
    both("cat", |cat| {
        let mut running = bed.start_gvm(["run", "--node", "b", text(&cat), "upper"]);
        running.write(b"hello ");
        running.wait_for_out("HELLO");
        running.write(b"there");
        assert_eq!(running.finish().ok(), "HELLO THERE");
    });
    both("leave", |leave| {
        let ended = bed.run(["--node", "b", text(&leave), "5"]);
        assert_eq!(ended.status, Some(seen(&leave, 5)));
    });
    let ended = bed.run(["--node", "b", "--json", "math.add(1, 2)"]);
    assert_eq!((&ended.json()[0]["result"], &ended.json()[0]["node"]), (&3.into(), &"b".into()));
    bed.run(["--node", "nobody", "math"]).fails("NODE_NOT_FOUND");
}
