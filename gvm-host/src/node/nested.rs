//! Calls in the arguments of calls, as a person types them.
//!
//! In: a parsed call, and where it is to run. Out: one call after another that is ready to run, innermost
//! first; each result becomes an argument of the call around it. Shared by the REPL and Python, which run the
//! calls and show them in their own ways. Must not know: how a call runs, how a result is shown.

use super::Handle;
use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Result};
use crate::base::wave;
use crate::call::parse::{Arg, Expr, Places};
use crate::call::{Args, Call, ModuleRef, Outcome, Target};

/// The separator between arguments in the text of a call.
pub const SEPARATOR: &str = ", ";

/// The calls of one line. The calls that wait for an argument are in a list, so the depth of what was typed is
/// not the depth of the stack.
pub struct Nested {
    node: Handle,
    /// The call whose arguments are being found; `None` after the outermost call is ready.
    open: Option<Open>,
    /// The calls around it, outermost first.
    waiting: Vec<Open>,
}

/// A call whose arguments are being found.
struct Open {
    place: Option<NodeName>,
    target: Target,
    places: Places,
    is_function: bool,
    args: std::vec::IntoIter<Arg>,
    texts: Vec<String>,
}

/// A call whose arguments have all been found.
pub struct Ready {
    /// The node that runs it; `None` for this one.
    pub place: Option<NodeName>,
    pub target: Target,
    /// Where its arguments are in the line.
    pub places: Places,
    /// Whether it has parentheses; a module's main has none.
    pub is_function: bool,
    /// Its arguments, each as WAVE.
    pub texts: Vec<String>,
    /// Whether it is the call that the others are arguments of.
    pub is_outermost: bool,
}

impl Ready {
    /// Returns the arguments of the call.
    pub fn args(&self) -> Args {
        match self.is_function {
            true => Args::Text(self.texts.join(SEPARATOR)),
            false => Args::Argv(vec![self.target.module.to_string()]),
        }
    }

    /// Creates the call, with a new id.
    pub fn call(&self) -> Call {
        Call::new(self.target.clone(), self.args())
    }

    /// Returns the name of the function for messages: `math.add`.
    pub fn title(&self) -> String {
        self.target.to_string()
    }
}

impl Nested {
    /// Creates the calls of an expression. They run on this node unless `place` or the expression names another.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND` if a live instance is on another node than the one named.
    pub fn new(node: Handle, place: Option<NodeName>, expr: Expr) -> Result<Nested> {
        let open = Some(Open::new(&node, place, expr)?);
        Ok(Nested { node, open, waiting: Vec::new() })
    }

    /// Returns the next call to run; `None` after the outermost one.
    ///
    /// # Errors
    /// Those of [`Nested::new`].
    pub fn next_call(&mut self) -> Result<Option<Ready>> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        loop {
            match open.args.next() {
                Some(Arg::Wave(text)) => open.texts.push(text),
                Some(Arg::Call(place, expr)) => {
                    let inner = Open::new(&self.node, place, expr)?;
                    self.waiting.push(std::mem::replace(&mut open, inner));
                }
                None => break,
            }
        }
        let Open { place, target, places, is_function, texts, .. } = open;
        let is_outermost = self.waiting.is_empty();
        self.open = self.waiting.pop();
        Ok(Some(Ready { place, target, places, is_function, texts, is_outermost }))
    }

    /// Uses the outcome of the last call from [`Nested::next_call`] as an argument of the call around it. `title` is
    /// the name of the last call, for messages.
    ///
    /// # Errors
    /// That of the outcome; `BAD_ARGUMENTS` if the call has no result.
    pub fn answer(&mut self, title: &str, outcome: Outcome) -> Result<()> {
        let (Some(value), Some(ty)) = (outcome.result?, outcome.ty) else {
            let message = format!("`{title}` returns no result, so it cannot be an argument");
            return Err(Error::new(Code::BadArguments, message));
        };
        if let Some(open) = &mut self.open {
            open.texts.push(wave::print(&value, &ty));
        }
        Ok(())
    }
}

impl Open {
    fn new(node: &Handle, place: Option<NodeName>, expr: Expr) -> Result<Open> {
        let Expr { mut target, args, places } = expr;
        let place = node.find_instance(&mut target, place)?;
        let is_function = args.is_some();
        let args = args.unwrap_or_default().into_iter();
        Ok(Open { place, target, places, is_function, args, texts: Vec::new() })
    }
}

impl Handle {
    /// If the target names a live instance, makes it the target. Returns the node that runs the call: the node of
    /// the instance, or else the one named.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND` if the instance is on another node than the one named.
    pub fn find_instance(&self, target: &mut Target, place: Option<NodeName>) -> Result<Option<NodeName>> {
        let ModuleRef::Stored { name, version: None } = &target.module else { return Ok(place) };
        let Some(lives) = self.instance(name) else { return Ok(place) };
        let asked = place.is_some();
        let named = self.other(place).map(|named| self.called(named));
        let is_there = match (&named, &lives.node) {
            (Some(named), Some(node)) => node == named || node.bare() == named.as_str(),
            (named, node) => named.is_none() && node.is_none(),
        };
        if asked && !is_there {
            let node = lives.node.as_ref().unwrap_or_else(|| self.name());
            return Err(Error::new(Code::InstanceNotFound, format!("instance `{name}` is on node `{node}`"))
                .with_help(format!("call `{name}` without naming a node")));
        }
        target.module = ModuleRef::Instance(name.clone());
        Ok(lives.node)
    }
}
