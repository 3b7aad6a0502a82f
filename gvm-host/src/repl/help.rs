//! What `help` says.
//!
//! In: a topic, the node it is asked of. Out: text. Must not know: the terminal.

use crate::call::Target;
use crate::error::Result;
use crate::limits::Limits;
use crate::node::Handle;
use crate::repl::parse;

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
help module, help module.f    the functions of a module, one function
exit                          leave (Ctrl-D does too)

Arguments are written in WAVE: 42, 1.5, \"text\", [1, 2], {x: 1, y: 2}, some(3), ok(4).
Tab completes, the right arrow takes a hint, the up arrow goes back in the history.
Ctrl-C stops the running call, wherever it runs.";

/// The text for a topic; without one, for everything.
///
/// # Errors
/// Those of finding the module.
pub async fn text(node: &Handle, topic: Option<&str>) -> Result<String> {
    let Some(topic) = topic else { return Ok(OVERVIEW.to_owned()) };
    let (module, function) = match topic.split_once('.') {
        Some((module, function)) => (module, Some(function.trim_end_matches("()"))),
        None => (topic, None),
    };
    let target = Target { function: None, interface: None, ..parse::target(module)?.target };
    let module = node.runner().load(&target, &Limits::default()).await?;
    let mut lines: Vec<String> = module
        .functions()
        .iter()
        .filter(|found| {
            function.is_none_or(|wanted| found.name == wanted.replace('_', "-") || found.name == wanted)
        })
        .map(|found| found.signature())
        .collect();
    if let (true, Some(function)) = (lines.is_empty(), function) {
        module.find(topic, None, Some(function))?;
    }
    if function.is_none() && module.has_main() {
        lines.insert(0, format!("{topic}: a program; its main runs when it is called by its name alone"));
    }
    if lines.is_empty() {
        lines.push(format!("{topic} exports nothing that can be called"));
    }
    Ok(lines.join("\n"))
}
