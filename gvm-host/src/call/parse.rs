//! Parses what a person types.
//!
//! In: a line of the REPL or of a script, or a TARGET of a command line. Out: a [`Statement`] or an [`Expr`], or
//! `SYNTAX` with a caret under the place. Arguments stay text, because their types are in the signature of the
//! function. Pure. Must not know: which nodes and modules exist, values.

use std::ops::Range;

use crate::base::device::NodeName;
use crate::base::error::{Error, Result};
use crate::base::id::Name;
use crate::base::limits;
use crate::base::near;
use crate::call::{ModuleRef, Target};

mod cursor;

use cursor::{Cursor, error_at, moved_to, wave_end};

const UNCLOSED: &str = "this parenthesis is not closed";

/// The places of a call's arguments in a line. All places compare equal, so that two calls with the same
/// meaning are equal wherever they are in a line.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The place of each argument.
    pub args: Vec<Range<usize>>,
    /// The closing parenthesis, for an error about a missing argument.
    pub close: usize,
}

impl PartialEq for Places {
    fn eq(&self, _: &Places) -> bool {
        true
    }
}

/// One parsed line.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// Only spaces, or a comment.
    Empty,
    Exit,
    Help(Option<String>),
    Discover,
    Connect(NodeName),
    Disconnect(NodeName),
    /// Ends the session of a node here. It cannot connect again by itself.
    Revoke(NodeName),
    /// Shows what may be called on a node.
    Rights(NodeName),
    List,
    Run(NodeName, Expr),
    /// Starts a live instance of a module, here or on a node.
    Spawn(Option<NodeName>, Target),
    Instances,
    Drop(Name),
    /// Lists the modules of the home.
    Modules,
    /// Shows what a module contains, without running it.
    Inspect(Target),
    Expr(Expr),
}

/// The functions of `Node`: the name, the parameters, a description.
pub const NODE_METHODS: [(&str, &str, &str); 10] = [
    ("discover", "", "list the running nodes of this home"),
    ("connect", "name", "connect to a node"),
    ("list", "", "list the connected nodes"),
    ("run", "name, module.f(…)", "run a main or a function on a node"),
    ("disconnect", "name", "disconnect from a node"),
    ("spawn", "[name,] module", "start a live instance, here or on a node"),
    ("instances", "", "list the live instances"),
    ("drop", "instance", "end a live instance"),
    ("rights", "name", "show what you may call on a node, and until when"),
    ("revoke", "name", "end the session of a node here"),
];

/// The functions of `Module`.
pub const MODULE_METHODS: [(&str, &str, &str); 2] = [
    ("list", "", "list the modules of this home"),
    ("inspect", "name", "show a module's functions, imports, size, hash"),
];

/// A call as it was typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub target: Target,
    /// The arguments; `None` if there are no parentheses.
    pub args: Option<Vec<Arg>>,
    /// The places of the arguments in the line.
    pub places: Places,
}

impl Expr {
    /// Moves all places by this many bytes; `None` clears them, because the parsed text is not a part of the
    /// line.
    fn moved(&mut self, by: Option<usize>) {
        self.places = by.map_or_else(Places::default, |by| Places {
            args: self.places.args.iter().map(|place| place.start + by..place.end + by).collect(),
            close: self.places.close + by,
        });
        for arg in self.args.iter_mut().flatten() {
            if let Arg::Call(_, expr) = arg {
                expr.moved(by);
            }
        }
    }
}

/// One argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// A value in WAVE.
    Wave(String),
    /// A call, here or on a node, whose result is the value.
    Call(Option<NodeName>, Expr),
}

/// Returns the arguments of a call as text; `None` if one of them is a call.
pub fn plain(args: Vec<Arg>) -> Option<String> {
    let text = |arg| match arg {
        Arg::Wave(text) => Some(text),
        Arg::Call(..) => None,
    };
    Some(args.into_iter().map(text).collect::<Option<Vec<_>>>()?.join(", "))
}

/// Parses one line.
///
/// # Errors
/// `SYNTAX`.
pub fn statement(line: &str) -> Result<Statement> {
    let mut cursor = Cursor::new(line);
    cursor.space();
    if cursor.at_end() || cursor.rest().starts_with('#') {
        return Ok(Statement::Empty);
    }
    let statement = cursor.statement()?;
    cursor.end()?;
    Ok(statement)
}

/// The topic of `help`: a module, one of its interfaces, or a function.
#[derive(Debug, PartialEq)]
pub struct Topic {
    pub module: Name,
    pub version: Option<semver::Version>,
    pub parts: Vec<String>,
}

/// Parses the topic of `help`. Ignores the parentheses of a call.
///
/// # Errors
/// `SYNTAX`.
pub fn topic(text: &str) -> Result<Topic> {
    let mut cursor = Cursor::new(text);
    let (module, version, parts) = cursor.path()?;
    if !cursor.rest().starts_with('(') {
        cursor.end()?;
    }
    Ok(Topic { module, version, parts })
}

/// Parses a TARGET of a command line: a module, or a function with its arguments.
///
/// # Errors
/// `SYNTAX`.
pub fn target(text: &str) -> Result<Expr> {
    target_within(text, 0)
}

/// Parses a target inside `depth` open calls.
fn target_within(text: &str, depth: usize) -> Result<Expr> {
    let mut cursor = Cursor { depth, ..Cursor::new(text) };
    cursor.space();
    let expr = cursor.expr()?;
    cursor.end()?;
    Ok(expr)
}

impl Cursor<'_> {
    fn statement(&mut self) -> Result<Statement> {
        let start = self.at;
        let word = self.word("-_");
        match word {
            "Node" if self.rest().starts_with('.') => return self.node(),
            "Module" if self.rest().starts_with('.') => return self.stored(),
            "exit" | "quit" if self.call_or_end() => return Ok(Statement::Exit),
            "exit" | "quit" if self.at > start + word.len() => {
                return Err(self.error(format!("`{word}` takes no arguments")));
            }
            "help" => {
                self.space();
                let topic = self.rest().trim_end();
                self.at = self.line.len();
                return Ok(Statement::Help((!topic.is_empty()).then(|| topic.to_owned())));
            }
            _ => {}
        }
        self.at = start;
        self.expr().map(Statement::Expr)
    }

    /// Accepts both `exit` and `exit()`.
    fn call_or_end(&mut self) -> bool {
        let before = self.at;
        self.space();
        if self.eat("(") {
            self.space();
            if !self.eat(")") {
                self.at = before;
                return false;
            }
            self.space();
        }
        self.at_end() || self.rest().starts_with('#')
    }

    fn node(&mut self) -> Result<Statement> {
        self.expect(".")?;
        let start = self.at;
        let method = self.word("_");
        match method {
            "discover" => self.no_arguments().map(|()| Statement::Discover),
            "list" => self.no_arguments().map(|()| Statement::List),
            "connect" => self.one_node().map(Statement::Connect),
            "disconnect" => self.one_node().map(Statement::Disconnect),
            "revoke" => self.one_node().map(Statement::Revoke),
            "rights" => self.one_node().map(Statement::Rights),
            "run" => self.run().map(|(node, expr)| Statement::Run(node, expr)),
            "spawn" => self.spawn(),
            "instances" => self.no_arguments().map(|()| Statement::Instances),
            "drop" => self.one_name().map(Statement::Drop),
            _ => Err(self.no_method("Node", start, method, &NODE_METHODS)),
        }
    }

    fn stored(&mut self) -> Result<Statement> {
        self.expect(".")?;
        let start = self.at;
        let method = self.word("_");
        match method {
            "list" => self.no_arguments().map(|()| Statement::Modules),
            "inspect" => {
                self.expect("(")?;
                self.space();
                let target = self.module()?;
                self.close()?;
                Ok(Statement::Inspect(target))
            }
            _ => Err(self.no_method("Module", start, method, &MODULE_METHODS)),
        }
    }

    fn no_method(&self, noun: &str, start: usize, wanted: &str, methods: &[(&str, &str, &str)]) -> Error {
        let names: Vec<&str> = methods.iter().map(|(name, ..)| *name).collect();
        let near = near::suggestion(wanted, names.iter().copied());
        let message = match wanted.is_empty() {
            true => format!("expected a function of `{noun}`"),
            false => format!("`{noun}` has no function `{wanted}`{near}"),
        };
        let error = error_at(self.line, start, message);
        match near.is_empty() {
            true => error.with_help(format!("use one of: {}", names.join(", "))),
            false => error,
        }
    }

    fn no_arguments(&mut self) -> Result<()> {
        self.expect("(")?;
        self.expect(")")
    }

    fn one_node(&mut self) -> Result<NodeName> {
        self.expect("(")?;
        let name = self.node_name()?;
        self.close()?;
        Ok(name)
    }

    fn one_name(&mut self) -> Result<Name> {
        self.expect("(")?;
        let name = self.name()?;
        self.close()?;
        Ok(name)
    }

    /// Parses the end of a list of arguments, with or without a trailing comma, as at the end of a call.
    fn close(&mut self) -> Result<()> {
        self.space();
        self.eat(",");
        self.expect(")")
    }

    /// Parses what follows `Node.run`.
    fn run(&mut self) -> Result<(NodeName, Expr)> {
        self.expect("(")?;
        let node = self.node_name()?;
        self.expect(",")?;
        self.space();
        let quoted = self.rest().starts_with('"');
        let expr = if quoted { self.quoted_expr()? } else { self.expr()? };
        self.close()?;
        Ok((node, expr))
    }

    /// Parses what follows `Node.spawn`: a module, or a node and a module.
    fn spawn(&mut self) -> Result<Statement> {
        self.expect("(")?;
        self.space();
        let start = self.at;
        let node = self.node_name().ok().filter(|_| self.another());
        let target = match node {
            Some(_) => self.module()?,
            None => {
                self.at = start;
                let first = self.module()?;
                if self.another() {
                    self.at = start;
                    return Err(self
                        .error("the first of two arguments must be the name of a node")
                        .with_help("write `Node.spawn(NODE, MODULE)`"));
                }
                first
            }
        };
        self.close()?;
        Ok(Statement::Spawn(node, target))
    }

    /// Returns whether another argument follows, and goes to it. A comma at the end of the list may stay.
    fn another(&mut self) -> bool {
        let start = self.at;
        self.space();
        let comma = self.eat(",");
        self.space();
        let follows = comma && !self.rest().starts_with(')');
        if !follows {
            self.at = start;
        }
        follows
    }

    /// Parses a module without a function.
    fn module(&mut self) -> Result<Target> {
        let at = self.at;
        let expr = self.expr()?;
        if expr.args.is_some() {
            self.at = at;
            return Err(self
                .error("expected a module, found a call")
                .with_help("write only the name of the module"));
        }
        Ok(expr.target)
    }

    /// Parses `"math.add(1, 2)"`. The quotes, which Python needs, are optional here.
    fn quoted_expr(&mut self) -> Result<Expr> {
        let start = self.at;
        let text = self.quoted()?;
        let mut expr =
            target_within(&text, self.depth).map_err(|error| moved_to(self.line, start, &error))?;
        expr.moved(self.line[..self.at].ends_with(&format!("{text}\"")).then_some(start + 1));
        Ok(expr)
    }

    /// Parses a module, and the names after it, separated by dots.
    fn path(&mut self) -> Result<(Name, Option<semver::Version>, Vec<String>)> {
        let name = self.name()?;
        let version = if self.eat("@") { Some(self.version()?) } else { None };
        let mut parts = Vec::new();
        while self.eat(".") {
            let part = if self.rest().starts_with('"') { self.quoted()? } else { self.word("-_").to_owned() };
            if part.is_empty() {
                return Err(self.error("expected the name of a function"));
            }
            parts.push(part);
        }
        Ok((name, version, parts))
    }

    fn expr(&mut self) -> Result<Expr> {
        let (name, version, mut parts) = self.path()?;
        let (args, places) = match self.rest().starts_with('(') {
            true => self.args().map(|(args, places)| (Some(args), places))?,
            false => (None, Places::default()),
        };
        let (interface, function) = match (parts.len(), &args) {
            (0, None) => (None, None),
            (0, Some(_)) => {
                return Err(self
                    .error("this call does not name a function")
                    .with_help(format!("write `{name}.FUNCTION(…)`, or `{name}` to run its main")));
            }
            (1 | 2, None) => {
                return Err(self
                    .error("this call has no parentheses")
                    .with_help(format!("write `{name}.{}(…)`", parts.join("."))));
            }
            (1, Some(_)) => (None, parts.pop()),
            (2, Some(_)) => {
                let function = parts.pop();
                (parts.pop(), function)
            }
            _ => {
                return Err(self
                    .error("this path has too many parts")
                    .with_help("write `MODULE.FUNCTION(…)` or `MODULE.INTERFACE.FUNCTION(…)`"));
            }
        };
        let target = Target { module: ModuleRef::Stored { name, version }, interface, function };
        Ok(Expr { target, args, places })
    }

    /// Parses the arguments between parentheses. Splits them at the commas that are not part of a value.
    fn args(&mut self) -> Result<(Vec<Arg>, Places)> {
        let open = self.at;
        self.expect("(")?;
        let (mut args, mut places) = (Vec::new(), Places::default());
        loop {
            self.space();
            if self.eat(")") {
                places.close = self.at - 1;
                return Ok((args, places));
            }
            if self.at_end() {
                self.at = open;
                return Err(self.error(UNCLOSED));
            }
            let start = self.at;
            args.push(self.arg(open)?);
            let typed = self.line[start..self.at].trim_end().len();
            // The place of a missing argument is its comma.
            places.args.push(start..start + typed.max(usize::from(self.rest().starts_with(','))));
            self.space();
            if !self.eat(",") && !self.rest().starts_with(')') {
                self.at = if self.at_end() { open } else { self.at };
                return Err(self.error(if self.at == open { UNCLOSED } else { "expected `,` or `)`" }));
            }
        }
    }

    fn arg(&mut self, open: usize) -> Result<Arg> {
        let start = self.at;
        if self.looks_like_call() {
            return self.nested();
        }
        let end = wave_end(self.line, start).map_err(|quotation| match quotation {
            Some(at) => error_at(self.line, at, "this quote is not closed"),
            None => error_at(self.line, open, UNCLOSED),
        })?;
        self.at = end;
        let mut text = self.line[start..end].trim_end().to_owned();
        // If an argument is missing, its text is the comma, which the parser of values then reports in this
        // place.
        if text.is_empty() && self.rest().starts_with(',') {
            text.push(',');
        }
        // A comment in it must not extend into the arguments that follow it in the joined text.
        if text.contains("//") {
            text.push('\n');
        }
        Ok(Arg::Wave(text))
    }

    /// Parses a call that is an argument of another call.
    fn nested(&mut self) -> Result<Arg> {
        if self.depth >= limits::NESTED_CALLS {
            return Err(
                self.error(format!("calls nest too deep: the limit is {} levels", limits::NESTED_CALLS))
            );
        }
        self.depth += 1;
        let call = match self.eat("Node.run") {
            true => self.run().map(|(node, expr)| Arg::Call(Some(node), expr)),
            false => self.expr().map(|expr| Arg::Call(None, expr)),
        };
        self.depth -= 1;
        call
    }

    /// Returns whether an argument is a call: no value in WAVE begins with a word and a dot.
    fn looks_like_call(&self) -> bool {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).unwrap_or(rest.len());
        rest.starts_with(|c: char| c.is_ascii_alphabetic())
            && (rest[end..].starts_with('.') || rest[end..].starts_with('@'))
    }
}

#[cfg(test)]
mod tests;
