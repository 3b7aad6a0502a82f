//! Calls on this node and on other nodes, nested calls, calls from scripts and from `gvm eval`.
//!
//! In: statements. Out: what they print. Must not know: values other than small numbers (`values.rs`).

use crate::bed::Bed;
use crate::guests;

#[test]
fn here_and_there() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    assert_eq!(bed.eval(["math"]).ok(), "Reponse from the math module...\n");
    assert_eq!(bed.eval(["math.add(1,2)"]).ok(), "Adding Numbers From Wasm...\n\n3\n");
    assert_eq!(
        bed.eval(["Node.connect(b)", "Node.run(b, math)"]).ok(),
        "b\nReponse from the math module...\n"
    );
    let out = bed.eval(["Node.connect(\"b\")", "Node.run(\"b\",math.add( 34 , 34 ))"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("ID:  ") && lines[1].len() == "ID:  ".len() + 36, "{out}");
    assert_eq!(lines[2..], ["Adding Numbers From Wasm...", "68"]);
}

#[test]
fn instances_are_fresh() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    bed.upload("counter", &guests::wat("counter"));
    let there = "Node.run(b, counter.increment())";
    let ended = bed.eval([
        "--json",
        "Node.connect(b)",
        "counter.increment()",
        "counter.increment()",
        there,
        there,
        "values.increment()",
        "values.increment()",
    ]);
    let results: Vec<_> = ended.json().iter().skip(1).map(|line| line["result"].clone()).collect();
    assert_eq!(results, [1; 6], "{}", ended.err());
}

#[test]
fn nest() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    let out = bed.eval(["--json", "Node.connect(b)", "math.add(math.add(1,2), Node.run(b, math.add(3, 4)))"]);
    assert_eq!(out.json()[1]["result"], 10);
    let out = bed.eval(["--json", "Node.connect(b)", "Node.run(b, math.add(math.add(1,2), 3))"]);
    assert_eq!(out.json()[1]["result"], 6);
    bed.eval(["math.add(math, 1)"]).fails("BAD_ARGUMENTS");
    bed.eval(["values.echo-u32(values.nothing())"]).fails("BAD_ARGUMENTS");
}

#[test]
fn wit_errors_are_values() {
    let bed = Bed::stocked();
    assert_eq!(bed.eval(["values.refuse(\"no\")"]).ok(), "err(\"no\")\n");
}

#[test]
fn both_streams_come() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    for statement in ["values.speak(\"hi\")", "Node.run(b, values.speak(\"hi\"))"] {
        let ended = bed.eval(["Node.connect(b)", statement]);
        assert_eq!(ended.err(), "hi, but louder\n");
        assert!(ended.out().contains("hi\n") && ended.ok().ends_with("2\n"));
    }
}

#[test]
fn scripts_end_at_their_first_error() {
    let bed = Bed::stocked();
    let mut running = bed.start_gvm::<&str>([]);
    running.write(b"# a comment\n\nvalues.echo-u8(1)\nvalues.echo-u8(1000)\nvalues.echo-u8(2)\n");
    let ended = running.finish();
    assert_eq!((ended.status, ended.out().as_str()), (Some(1), "1\n"));
    assert!(ended.err().starts_with("BAD_ARGUMENTS: "), "{}", ended.err());

    let mut running = bed.start_gvm::<&str>([]);
    running.write(b"values.echo-u8(1)\nexit\nvalues.echo-u8(2)\n");
    assert_eq!(running.finish().ok(), "1\n");
    // A syntax error is reported before any statement runs.
    let ended = bed.eval(["values.echo-u8(1)", "values.echo-u8(2"]);
    assert_eq!(ended.out(), "");
    ended.fails("SYNTAX");
}

#[test]
fn eval_as_json() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    let ended = bed.eval([
        "--name",
        "a",
        "--json",
        "Node.discover()",
        "Node.connect(b)",
        "Node.list()",
        "Node.run(b, math.add(1, 2))",
        "math",
        "Node.disconnect(b)",
    ]);
    let lines = ended.json();
    assert_eq!(lines[0]["result"], serde_json::json!(["a", "b"]));
    assert_eq!(lines[1]["result"], "b");
    assert_eq!(lines[2]["result"], serde_json::json!(["b"]));
    assert_eq!((&lines[3]["result"], &lines[3]["node"]), (&3.into(), &"b".into()));
    assert_eq!(lines[3]["stdout"], "Adding Numbers From Wasm...\n");
    assert_eq!((&lines[4]["node"], &lines[4]["result"]), (&"a".into(), &serde_json::Value::Null));
    assert_eq!((lines.len(), ended.status), (6, Some(0)));

    let ended = bed.eval(["--name", "a", "--json", "values.trap-unreachable()", "math"]);
    let lines = ended.json();
    assert_eq!((lines.len(), ended.status), (1, Some(1)), "{}", ended.out());
    assert_eq!(
        (&lines[0]["error"]["code"], &lines[0]["error"]["outcome"]),
        (&"TRAP".into(), &"ran-and-failed".into())
    );
}

/// Several nodes call the same node at the same time, each with many calls.
#[test]
fn many_callers() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let name = format!("c{caller}");
            let calls = (0..50).map(|call| format!("Node.run(b, math.add({caller}, {call}))"));
            let words = ["eval", "--json", "--name", &name, "Node.connect(b)"].map(str::to_owned);
            bed.start_gvm(words.into_iter().chain(calls))
        })
        .collect();
    for (caller, running) in callers.into_iter().enumerate() {
        let ended = running.finish();
        let results: Vec<i64> =
            ended.json().iter().skip(1).map(|line| line["result"].as_i64().unwrap()).collect();
        assert_eq!(results, (0..50).map(|call| call + caller as i64).collect::<Vec<_>>());
    }
}
