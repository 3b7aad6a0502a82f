//! Live instances: modules that keep their state between calls.
//!
//! In: a counter. Out: what its owner sees of it, here and on another node (`tests/transcripts/live.txt`
//! shows an instance that trapped). Must not know: how instances are stored.

use crate::bed::Bed;
use crate::guests;

fn bed() -> Bed {
    let bed = Bed::new();
    bed.upload("counter", &guests::wat("counter"));
    bed
}

#[test]
fn keep_their_state_here() {
    let said = bed().eval([
        "Node.spawn(counter)",
        "i1.increment()",
        "i1.increment()",
        "counter.increment()",
        "Node.spawn(counter@1.0.0)",
        "i2.increment()",
        "Node.drop(i1)",
        "Node.instances()",
    ]);
    let said = said.ok();
    let counts: Vec<&str> = said.lines().filter(|line| !line.is_empty() && *line != "counting").collect();
    let (last, counts) = counts.split_last().unwrap();
    assert_eq!(counts, ["i1", "1", "2", "1", "i2", "1", "Instance dropped."]);
    assert!(last.starts_with("i2  counter@1.0.0  on node-"), "{last}");
}

#[test]
fn keep_their_state_on_another_node() {
    let bed = bed();
    let far = bed.node("far");
    let said = bed.eval([
        "Node.connect(far)",
        "Node.spawn(far, counter)",
        "i1.increment()",
        "i1.increment()",
        "Node.run(far, i1.increment())",
        "Node.instances()",
        "Node.drop(i1)",
        "Node.instances()",
    ]);
    let said = said.ok();
    let lines: Vec<&str> =
        said.lines().filter(|line| !line.starts_with("ID:  ") && *line != "counting").collect();
    assert_eq!(lines, ["far", "i1", "1", "2", "3", "i1  counter  on far", "Instance dropped."]);
    far.kill();
}

/// A guest that accepts that its memory may not grow has not failed; a trap in a later call has its own reason.
#[test]
fn a_refusal_explains_no_later_trap() {
    let bed = Bed::new();
    let text = "(module (memory 1) (func (export \"polite\") (result i32) (memory.grow (i32.const 65000)))
        (func (export \"boom\") unreachable))";
    bed.upload("polite", &bed.write("polite.wat", text));
    let far = bed.node("far");
    for spawn in ["Node.spawn(polite)", "Node.spawn(far, polite)"] {
        let ended = bed.eval(["Node.connect(far)", spawn, "i1.polite()", "i1.boom()"]);
        assert!(ended.out().lines().any(|line| line == "-1"), "{}", ended.out());
        ended.fails("TRAP");
    }
    drop(far);
}

#[test]
fn mistakes() {
    let bed = bed();
    bed.eval(["i1.increment()"]).fails("MODULE_NOT_FOUND");
    bed.eval(["Node.drop(i1)"]).fails("INSTANCE_NOT_FOUND");
    bed.eval(["Node.spawn(nothing)"]).fails("MODULE_NOT_FOUND");
    bed.eval(["Node.spawn(far, counter)"]).fails("NODE_NOT_CONNECTED");
    bed.eval(["Node.spawn(counter)", "i1.nothing()"]).fails("FUNCTION_NOT_FOUND");
}

#[test]
fn sessions_have_fewer_than_users() {
    let bed = bed();
    let far = bed.node("far");
    let many = |spawn: &str| {
        let spawns = std::iter::repeat_n(spawn.to_owned(), 65);
        bed.eval(std::iter::once("Node.connect(far)".to_owned()).chain(spawns).collect::<Vec<_>>())
    };
    many("Node.spawn(counter)").ok();
    many("Node.spawn(far, counter)").fails("LIMIT_EXCEEDED");
    drop(far);
}

#[test]
fn go_with_their_owner() {
    let bed = bed();
    let far = bed.node("far");
    // Each `eval` is a new owner and makes nearly as many instances as one owner may have.
    for _ in 0..3 {
        let mut words = vec!["Node.connect(far)".to_owned()];
        words.extend(std::iter::repeat_n("Node.spawn(far, counter)".to_owned(), 60));
        bed.eval(&words).ok();
    }
    drop(far);
}
