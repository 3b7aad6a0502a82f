//! The texts of `help`.
//!
//! In: a topic, the handle of a node. Out: text. Must not know: the terminal.

use gvm_host::parse::{MODULE_METHODS, NODE_METHODS, Topic};
use gvm_host::{Caller, Code, Error, Function, Handle, Limits, ModuleRef, Result, Target, parse};

const OVERVIEW: &str = "\
module                        run the main of a module on this node
module.f(x)                   call a function on this node; calls nest: math.add(math.add(1,2), 3)
Node.discover()               list the running nodes of this home
Node.connect(name)            connect to a node
Node.list()                   list the connected nodes
Node.run(name, module)        run the main of a module on a connected node
Node.run(name, module.f(x))   call a function on a connected node
Node.disconnect(name)         end the connection
Node.spawn([name,] module)    create a live instance, which keeps its state; prints its name, such as i1
i1.f(x)                       call a function of a live instance
Node.instances()              list the live instances
Node.drop(i1)                 remove a live instance
Node.rights(name)             show what this node may call there, and until when
Node.revoke(name)             end the session of that node here, until you connect to it again
Module.list()                 list the modules of this home
Module.inspect(name)          show a module: functions, imports, grants that it may need
help name, help name.f        show the functions of a module, or one function; also help Node.run
exit                          leave (or press Ctrl-D)

Arguments are written in WAVE: 42, 1.5, \"text\", [1, 2], {x: 1, y: 2}, some(3), ok(4).
Tab completes, Right accepts a hint, Up goes back in the history, Ctrl-R searches the history.
Alt-Enter inserts a line break. A line that begins with a space is not kept in the history.
Ctrl-C stops the running call, on any node. Ctrl-Z suspends this node; `fg` continues it.";

/// Returns the help for a topic, or the overview.
///
/// # Errors
/// Those of loading the module; `FUNCTION_NOT_FOUND`.
pub async fn text(node: &Handle, topic: Option<&str>) -> Result<String> {
    let Some(topic) = topic else { return Ok(OVERVIEW.to_owned()) };
    match of_ours(topic) {
        Some(text) => Ok(text),
        None => of_module(node, topic).await,
    }
}

/// Returns the help for a topic that is not a module: `Node`, `Node.run`, `exit`.
fn of_ours(topic: &str) -> Option<String> {
    let word = topic.split('(').next().unwrap_or(topic).trim();
    let (noun, method) = word.split_once('.').map_or((word, None), |(noun, method)| (noun, Some(method)));
    let methods: &[(&str, &str, &str)] = match noun {
        "Node" => &NODE_METHODS,
        "Module" => &MODULE_METHODS,
        "exit" | "quit" => {
            return Some("exit: shut down the node and leave; or press Ctrl-D on an empty line".to_owned());
        }
        "help" => {
            return Some(
                "help, help Node.run, help math, help math.add: show all statements, a method, a module, a function"
                    .into(),
            );
        }
        _ => return None,
    };
    let known = methods.iter().any(|(name, ..)| Some(*name) == method);
    let wanted = methods.iter().filter(|(name, ..)| !known || Some(*name) == method);
    let lines = wanted.map(|(name, params, what)| format!("{noun}.{name}({params}): {what}"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

async fn of_module(node: &Handle, topic: &str) -> Result<String> {
    let Topic { mut module, mut version, parts } = parse::topic(topic)?;
    let mut lines = Vec::new();
    if let Some(place) = node.instance(&module) {
        let lives = place.node.unwrap_or_else(|| node.name().clone());
        lines.push(format!("{module}: a live instance of {} on {lives}", place.module));
        // An instance on another node may be of a module that this home does not have.
        let Ok(made_from) = parse::topic(&place.module) else { return Ok(lines.join("\n")) };
        (module, version) = (made_from.module, made_from.version);
    }
    let noun = module.to_string();
    let target =
        Target { module: ModuleRef::Stored { name: module, version }, interface: None, function: None };
    let loaded = node.runner().load(&Caller::default(), &target, &Limits::default()).await?;
    let (interface, function) = match parts.as_slice() {
        [] => (None, None),
        [one] => (None, Some(one.as_str())),
        [interface, function] => (Some(interface.as_str()), Some(function.as_str())),
        _ => {
            return Err(Error::new(Code::Syntax, "too many parts in the topic").with_help(
                "use `help module`, `help module.function`, `help module.interface` or \
                 `help module.interface.function`",
            ));
        }
    };
    let is_named =
        |found: &Function, wanted: &str| found.name == wanted || found.name == wanted.replace('_', "-");
    let all = loaded.functions().iter();
    let mut found: Vec<&Function> = all
        .clone()
        .filter(|found| function.is_none_or(|wanted| is_named(found, wanted)))
        .filter(|found| interface.is_none_or(|wanted| found.is_of(wanted)))
        .collect();
    if let (true, None, Some(wanted)) = (found.is_empty(), interface, function) {
        found = all.filter(|found| found.is_of(wanted)).collect();
    }
    if let (true, Some(_)) = (found.is_empty(), function) {
        // Returns the same error as a call.
        loaded.find(&noun, interface, function)?;
    }
    if function.is_none() && loaded.has_main() {
        lines.push(format!("{noun}: a program; type its name to run its main"));
    }
    // Signatures show names for long types. The types follow below, once.
    let names = node.runner().modules().type_names(&target.module.to_string());
    let signatures: Vec<String> = found.iter().map(|found| found.signature()).collect();
    lines.extend(signatures.iter().map(|signature| names.shown(signature)));
    lines.extend(
        names.explained(signatures.iter().map(String::as_str)).iter().map(|name| format!("  {name}")),
    );
    if lines.is_empty() {
        lines.push(format!("{noun} exports no functions"));
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_words_have_help() {
        assert_eq!(of_ours("Node.run").unwrap(), of_ours("Node.run(a, b)").unwrap());
        assert!(of_ours("Node.run").unwrap().starts_with("Node.run(name, module.f(…)): "));
        assert_eq!(of_ours("Node").unwrap().lines().count(), NODE_METHODS.len());
        assert_eq!(of_ours("Node.fly").unwrap(), of_ours("Node").unwrap(), "all there is");
        assert!(of_ours("Module.list()").unwrap().contains("the modules of this home"));
        assert!(of_ours("exit").is_some() && of_ours("help").is_some());
        assert_eq!(of_ours("math"), None);
    }
}
