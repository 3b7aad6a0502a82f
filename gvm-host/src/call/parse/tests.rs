use super::*;
use crate::base::error::Code;

fn name<T: std::str::FromStr<Err = crate::base::error::Error>>(text: &str) -> T {
    text.parse().unwrap()
}

fn expr(text: &str) -> Expr {
    target(text).unwrap()
}

#[test]
fn the_lines_of_the_transcripts() {
    assert_eq!(statement("Node.discover()").unwrap(), Statement::Discover);
    assert_eq!(statement("Node.connect(node-8399)").unwrap(), Statement::Connect(name("node-8399")));
    assert_eq!(statement("Node.connect( \"node-8399\" )").unwrap(), Statement::Connect(name("node-8399")));
    assert_eq!(statement(" Node.list() ").unwrap(), Statement::List);
    assert_eq!(statement("exit").unwrap(), Statement::Exit);
    let Statement::Run(node, run) = statement("Node.run(node-8399,math.add(34,34))").unwrap() else {
        panic!()
    };
    assert_eq!(node, name("node-8399"));
    assert_eq!(run, expr("math.add(34, 34)"));
    assert_eq!(run.args, Some(vec![Arg::Wave("34".into()), Arg::Wave("34".into())]));
    let Statement::Run(_, run) = statement("Node.run(node-8399, math)").unwrap() else { panic!() };
    assert_eq!(run.args, None);
}

#[test]
fn versions_and_interfaces() {
    let call = expr("math@v1.2.3.\"ns:pkg/iface@1.0.0\".add-two(1)");
    let ModuleRef::Stored { version, .. } = &call.target.module else { panic!() };
    assert_eq!(version.as_ref().unwrap().to_string(), "1.2.3");
    assert_eq!(call.target.interface.as_deref(), Some("ns:pkg/iface@1.0.0"));
    assert_eq!(call.target.function.as_deref(), Some("add-two"));
    let call = expr("math@\"1.0.0-rc.1\".iface.add_two()");
    assert_eq!(call.target.function.as_deref(), Some("add_two"));
    assert_eq!(call.args, Some(vec![]));
    assert_eq!(expr("math@1.0.0").target.function, None);
}

#[test]
fn arguments_are_split_where_values_end() {
    let args = |text: &str| expr(text).args.unwrap();
    let wave = |text: &str| Arg::Wave(text.into());
    assert_eq!(
        args("m.f([1, 2], {a: \")\", b: (1, 2)}, ',')"),
        vec![wave("[1, 2]"), wave("{a: \")\", b: (1, 2)}"), wave("','"),]
    );
    assert_eq!(args("m.f(\"\\\"),\", some(1.5),)"), vec![wave("\"\\\"),\""), wave("some(1.5)")]);
    assert_eq!(args("m.f(-inf, nan)"), vec![wave("-inf"), wave("nan")]);
}

#[test]
fn instances() {
    let counter = target("counter@1.0.0").unwrap().target;
    assert_eq!(statement("Node.spawn(counter@1.0.0)").unwrap(), Statement::Spawn(None, counter.clone()));
    assert_eq!(
        statement("Node.spawn(node-1, counter@1.0.0)").unwrap(),
        Statement::Spawn(Some(name("node-1")), counter)
    );
    assert_eq!(statement("Node.drop(i1)").unwrap(), Statement::Drop(name("i1")));
    assert_eq!(statement("Node.instances()").unwrap(), Statement::Instances);
    assert!(statement("Node.spawn(counter.add(1))").is_err());
    assert!(statement("Node.spawn(a@1.0.0, counter)").is_err());
}

#[test]
fn modules_of_the_home() {
    assert_eq!(statement("Module.list()").unwrap(), Statement::Modules);
    let math = target("math@1.0.0").unwrap().target;
    assert_eq!(statement("Module.inspect( math@1.0.0 )").unwrap(), Statement::Inspect(math));
    assert!(statement("Module.inspect(math.add(1))").is_err());
    let error = statement("Module.lst()").unwrap_err();
    assert!(error.message().contains("did you mean `list`?"), "{error}");
}

#[test]
fn calls_nest() {
    let args = expr("math.add(math.add(1,2), Node.run(b, math.add(1, 2)))").args.unwrap();
    assert_eq!(args[0], Arg::Call(None, expr("math.add(1, 2)")));
    assert_eq!(args[1], Arg::Call(Some(name("b")), expr("math.add(1, 2)")));
}

#[test]
fn a_caret_shows_the_mistake() {
    for (line, column) in [
        ("math.add(1,2", 8),
        ("math.add(1 ,2))", 14),
        ("Node.fly()", 5),
        ("math.", 5),
        ("Node.connect()", 13),
    ] {
        let error = statement(line).unwrap_err();
        assert_eq!(error.code(), Code::Syntax);
        let caret = error.context().unwrap().lines().nth(1).unwrap();
        assert_eq!(caret.find('^'), Some(column + 2), "{line}: {error}");
    }
}

#[test]
fn comments_end_with_their_line() {
    assert_eq!(statement("// nothing").unwrap(), Statement::Empty);
    let call = expr("m.f( // one\n  1 // value\n  , // two\n  \"//\"\n) // done");
    assert_eq!(call.args, Some(vec![Arg::Wave("1 // value\n".into()), Arg::Wave("\"//\"\n".into())]));
}

#[test]
fn nothing_panics() {
    for line in [
        "",
        "(",
        "\"",
        "math.f('",
        "math.f(\"\"\"",
        "é",
        "math.f(é",
        "math@",
        "math@.f()",
        "a.b.c.d()",
        "Node.run(",
        "math.f(//",
    ] {
        let _ = statement(line);
    }
}

#[test]
fn messages_suggest_what_was_meant() {
    let says = |line: &str, said: &str, column: usize| {
        let error = statement(line).unwrap_err();
        assert!(error.message().contains(said), "{line}: {error}");
        let pointer = error.context().unwrap().lines().nth(1).unwrap();
        assert_eq!(pointer.find('^'), Some(2 + column), "{line}: {error}");
    };
    says("Modul.list()", "did you mean `Module`?", 0);
    says("node.list()", "did you mean `Node`?", 0);
    says("  Exit", "did you mean `exit`?", 2);
    says("MATH.add(1,2)", "did you mean `math`?", 0);
    says("exit 1", "`exit` takes no arguments", 5);
    says("m.f(1, \"abc)", "this quote is not closed", 7);
    says("m.f(1, [2)", "this parenthesis is not closed", 3);
    // Wide characters take two columns.
    says("m.f(\"世界\") x", "expected the end of the statement", 12);
}

#[test]
fn help_shows_what_to_write() {
    let helps = |line: &str, message: &str, help: &str| {
        let error = statement(line).unwrap_err();
        assert_eq!((error.message(), error.help()), (message, Some(help)), "{line}");
    };
    helps(
        "math(1)",
        "this call does not name a function",
        "write `math.FUNCTION(…)`, or `math` to run its main",
    );
    helps("math.add", "this call has no parentheses", "write `math.add(…)`");
    helps("Module.fly()", "`Module` has no function `fly`", "use one of: list, inspect");
    helps("Node.spawn(math.add(1))", "expected a module, found a call", "write only the name of the module");
    let write = "write it as in `math@\"1.0.0-rc.1\".add(1, 2)`";
    helps("math@1.0.0-rc.1.add(1)", "this version needs quotes, because a function follows it", write);
    // The help of a name is kept.
    helps("Node.connect(node)", "the name `node` is reserved", "choose another name");
}

#[test]
fn comments_end_statements() {
    for line in ["math.add(1,2) # why", "math.add(1,2) // why", "exit # now", "Node.list() # \"(", "exit() #"]
    {
        assert!(statement(line).is_ok(), "{line}");
    }
    assert_eq!(statement(" # math").unwrap(), Statement::Empty);
}

#[test]
fn topics_of_help() {
    let topic = |text: &str| {
        let Topic { module, version, parts } = topic(text).unwrap();
        (module.to_string(), version.map(|version| version.to_string()), parts)
    };
    assert_eq!(topic("math"), ("math".into(), None, vec![]));
    assert_eq!(topic("math@1.2.3.add(1"), ("math".into(), Some("1.2.3".into()), vec!["add".into()]));
    assert_eq!(topic("v.\"a:b/c@1.0.0\".f").2, ["a:b/c@1.0.0", "f"]);
}

#[test]
fn nodes_of_other_devices() {
    let far: NodeName = name("node-8399@laptop");
    assert_eq!(statement("Node.connect(node-8399@laptop)").unwrap(), Statement::Connect(far.clone()));
    assert_eq!(statement("Node.rights(\"node-8399@laptop\")").unwrap(), Statement::Rights(far.clone()));
    let Statement::Run(node, run) = statement("Node.run(node-8399@laptop, math.add(1,2))").unwrap() else {
        panic!("not a run")
    };
    assert_eq!((node, run), (far.clone(), expr("math.add(1,2)")));
    let counter = target("counter").unwrap().target;
    let versioned = target("counter@1.2.3").unwrap().target;
    let spawn = |text| statement(text).unwrap();
    assert_eq!(spawn("Node.spawn(node-8399@laptop, counter)"), Statement::Spawn(Some(far), counter.clone()));
    assert_eq!(spawn("Node.spawn(counter@1.2.3)"), Statement::Spawn(None, versioned.clone()));
    assert_eq!(spawn("Node.spawn(b, counter@1.2.3,)"), Statement::Spawn(Some(name("b")), versioned));
    assert_eq!(spawn("Node.spawn(counter , )"), Statement::Spawn(None, counter));
    for bad in ["Node.connect(a@)", "Node.connect(a@b@c)", "Node.connect(a @b)", "Node.run(a@1.0.0, m)"] {
        assert_eq!(statement(bad).unwrap_err().code(), Code::Syntax, "{bad}");
    }
    let outer = expr("math.add(Node.run(b@pi, math.add(1, 2)), 3)");
    assert!(matches!(&outer.args.unwrap()[0], Arg::Call(Some(node), _) if *node == name("b@pi")));
}
