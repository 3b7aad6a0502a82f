//! What `help` says.
//!
//! In: a topic, the node it is asked of. Out: text. Must not know: the terminal.

use gvm_host::Caller;
use gvm_host::Function;
use gvm_host::Handle;
use gvm_host::Limits;
use gvm_host::parse;
use gvm_host::parse::{MODULE_METHODS, NODE_METHODS, Topic};
use gvm_host::{Code, Error, Result};
use gvm_host::{ModuleRef, Target};

const OVERVIEW: &str = "\
Node.discover()               every live node of this home
Node.connect(name)            connect with a node
Node.list()                   the connected nodes
Node.run(name, module)        run a module's main there
Node.run(name, module.f(x))   call a function there
Node.spawn([name,] module)    bring a module to life: it keeps its state; answers its name, i1
i1.f(x)                       call it; Node.instances() lists, Node.drop(i1) lets go
Node.disconnect(name)         end the connection
Node.rights(name)             what this node may call there, and until when
Node.revoke(name)             end what that node may do here, until you connect with it again
module                        run a module's main here
module.f(x)                   call a function here; calls nest: math.add(math.add(1,2), 3)
Module.list()                 the modules of this home
Module.inspect(name)          what a module is: functions, imports, what it may need to be granted
help module, help module.f    the functions of a module, one function; help Node.run
exit                          leave (Ctrl-D does too)

Arguments are written in WAVE: 42, 1.5, \"text\", [1, 2], {x: 1, y: 2}, some(3), ok(4).
Tab completes, the right arrow takes a hint, the up arrow goes back in the history, Ctrl-R searches it.
Alt-Enter begins another line. What begins with a space is not kept in the history.
Ctrl-C stops the running call, wherever it runs. Ctrl-Z suspends the node; `fg` wakes it.";

/// The text for a topic; without one, for everything.
///
/// # Errors
/// Those of finding the module; `FUNCTION_NOT_FOUND`.
pub async fn text(node: &Handle, topic: Option<&str>) -> Result<String> {
    let Some(topic) = topic else { return Ok(OVERVIEW.to_owned()) };
    match of_ours(topic) {
        Some(text) => Ok(text),
        None => of_module(node, topic).await,
    }
}

/// What is said of our own words: `Node`, `Node.run`, `exit`.
fn of_ours(topic: &str) -> Option<String> {
    let word = topic.split('(').next().unwrap_or(topic).trim();
    let (noun, method) = word.split_once('.').map_or((word, None), |(noun, method)| (noun, Some(method)));
    let methods: &[(&str, &str, &str)] = match noun {
        "Node" => &NODE_METHODS,
        "Module" => &MODULE_METHODS,
        "exit" | "quit" => return Some("exit: leave in order; Ctrl-D on an empty line does too".to_owned()),
        "help" => {
            return Some(
                "help, help Node.run, help math, help math.add: what there is, and how it is called".into(),
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
        // Where it lives on another device, its module may be unknown here.
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
            return Err(Error::new(
                Code::Syntax,
                "help is for `module`, `module.function`, `module.interface`",
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
        // The same error as of a call.
        loaded.find(&noun, interface, function)?;
    }
    if function.is_none() && loaded.has_main() {
        lines.push(format!("{noun}: a program; its main runs when it is called by its name alone"));
    }
    // Long types are told by their names, and what those stand for once, below.
    let names = node.runner().modules().type_names(&target.module.to_string());
    let signatures: Vec<String> = found.iter().map(|found| found.signature()).collect();
    lines.extend(signatures.iter().map(|signature| names.shown(signature)));
    lines.extend(
        names.explained(signatures.iter().map(String::as_str)).iter().map(|name| format!("  {name}")),
    );
    if lines.is_empty() {
        lines.push(format!("{noun} exports nothing that can be called"));
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
