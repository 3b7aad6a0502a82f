//! What a person types, read.
//!
//! In: a line of the REPL, of a script, or a TARGET of a command line. Out: a [`Statement`], or `SYNTAX`
//! with a pointer at the place. Arguments stay text: only their function's signature says what they
//! are. Pure. Must not know: nodes, modules, values.

use std::ops::Range;

use crate::base::error::{Error, Result};
use crate::base::id::Name;
use crate::base::limits;
use crate::base::near;
use crate::call::{ModuleRef, Target};

mod cursor;

use cursor::{Cursor, error_at, wave_end};

/// Where a call's arguments stand in a line. Two calls that mean the same are equal wherever they stand.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Each argument's.
    pub args: Vec<Range<usize>>,
    /// The closing parenthesis, where something may be missing.
    pub close: usize,
}

impl PartialEq for Places {
    fn eq(&self, _: &Places) -> bool {
        true
    }
}

/// One line, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// Nothing but space or a comment.
    Empty,
    Exit,
    Help(Option<String>),
    Discover,
    Connect(Name),
    Disconnect(Name),
    /// Ends what a node may do here, for good.
    Revoke(Name),
    /// What may be called on a node.
    Rights(Name),
    List,
    Run(Name, Expr),
    /// Brings a module to life, on a node where one is named.
    Spawn(Option<Name>, Target),
    Instances,
    Drop(Name),
    /// The modules of the home.
    Modules,
    /// What a module is, without running it.
    Inspect(Target),
    Expr(Expr),
}

/// What `Node` can do: the name, its parameters, what it does.
pub const NODE_METHODS: [(&str, &str, &str); 10] = [
    ("discover", "", "every live node of this home"),
    ("connect", "name", "connect with a node"),
    ("list", "", "the connected nodes"),
    ("run", "name, module.f(…)", "run a module's main or a function there"),
    ("disconnect", "name", "end the connection"),
    ("spawn", "[name,] module", "bring a module to life, here or there"),
    ("instances", "", "what is alive"),
    ("drop", "instance", "let a live instance go"),
    ("rights", "name", "what may be called there, and until when"),
    ("revoke", "name", "end what that node may do here"),
];

/// What `Module` can do.
pub const MODULE_METHODS: [(&str, &str, &str); 2] = [
    ("list", "", "the modules of this home"),
    ("inspect", "name", "a module's functions, imports, size, hash"),
];

/// A call as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub target: Target,
    /// What stands between the parentheses; none where there are none.
    pub args: Option<Vec<Arg>>,
    /// Where that stands in the line.
    pub places: Places,
}

impl Expr {
    /// The same call where the text that it was read from begins further on; none where that text does not
    /// stand in the line as it was read.
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
    /// A call whose result is the value, on another node where one is named.
    Call(Option<Name>, Expr),
}

/// The arguments of a call as text, where none of them is a call itself.
pub fn plain(args: Vec<Arg>) -> Option<String> {
    let text = |arg| match arg {
        Arg::Wave(text) => Some(text),
        Arg::Call(..) => None,
    };
    Some(args.into_iter().map(text).collect::<Option<Vec<_>>>()?.join(", "))
}

/// Reads one line.
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

/// What `help` is asked about: a module, an interface of it, a function.
#[derive(Debug, PartialEq)]
pub struct Topic {
    pub module: Name,
    pub version: Option<semver::Version>,
    pub parts: Vec<String>,
}

/// Reads what `help` is asked about; a call's parentheses are no matter.
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

/// Reads a TARGET of a command line: a module, or a function with its arguments.
///
/// # Errors
/// `SYNTAX`.
pub fn target(text: &str) -> Result<Expr> {
    target_within(text, 0)
}

/// Reads the same within `depth` calls that are open around it.
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
                return Err(self.error(format!("`{word}` stands alone")));
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

    /// `exit` and `exit()` both.
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
            "connect" => self.one_name().map(Statement::Connect),
            "disconnect" => self.one_name().map(Statement::Disconnect),
            "revoke" => self.one_name().map(Statement::Revoke),
            "rights" => self.one_name().map(Statement::Rights),
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
        let message = match near.is_empty() {
            true => format!("`{noun}` has {}: see `help`", names.join(", ")),
            false => format!("`{noun}` has no `{wanted}`{near}"),
        };
        error_at(self.line, start, message)
    }

    fn no_arguments(&mut self) -> Result<()> {
        self.expect("(")?;
        self.expect(")")
    }

    fn one_name(&mut self) -> Result<Name> {
        self.expect("(")?;
        let name = self.name()?;
        self.close()?;
        Ok(name)
    }

    /// The end of a list of arguments, behind a last comma or not, as a call's arguments end.
    fn close(&mut self) -> Result<()> {
        self.space();
        self.eat(",");
        self.expect(")")
    }

    /// What follows `Node.run`.
    fn run(&mut self) -> Result<(Name, Expr)> {
        self.expect("(")?;
        let node = self.name()?;
        self.expect(",")?;
        self.space();
        let quoted = self.rest().starts_with('"');
        let expr = if quoted { self.quoted_expr()? } else { self.expr()? };
        self.close()?;
        Ok((node, expr))
    }

    /// What follows `Node.spawn`: a module, or a node and a module.
    fn spawn(&mut self) -> Result<Statement> {
        self.expect("(")?;
        self.space();
        let first = self.module()?;
        self.space();
        let comma = self.eat(",");
        self.space();
        let (node, target) = if comma && !self.rest().starts_with(')') {
            let ModuleRef::Stored { name, version: None } = first.module else {
                return Err(self.error("a node comes first, then the module"));
            };
            (Some(name), self.module()?)
        } else {
            (None, first)
        };
        self.close()?;
        Ok(Statement::Spawn(node, target))
    }

    /// A module without a function.
    fn module(&mut self) -> Result<Target> {
        let at = self.at;
        let expr = self.expr()?;
        if expr.args.is_some() {
            self.at = at;
            return Err(self.error("a module is meant here, not a call: its name stands alone"));
        }
        Ok(expr.target)
    }

    /// `"math.add(1, 2)"`: the Python habit serves here too.
    fn quoted_expr(&mut self) -> Result<Expr> {
        let start = self.at;
        let text = self.quoted()?;
        let mut expr =
            target_within(&text, self.depth).map_err(|error| error_at(self.line, start, error.message()))?;
        expr.moved(self.line[..self.at].ends_with(&format!("{text}\"")).then_some(start + 1));
        Ok(expr)
    }

    /// A module, and what stands behind it with dots between.
    fn path(&mut self) -> Result<(Name, Option<semver::Version>, Vec<String>)> {
        let name = self.name()?;
        let version = if self.eat("@") { Some(self.version()?) } else { None };
        let mut parts = Vec::new();
        while self.eat(".") {
            let part = if self.rest().starts_with('"') { self.quoted()? } else { self.word("-_").to_owned() };
            if part.is_empty() {
                return Err(self.error("expected a function's name here"));
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
                return Err(self.error(format!(
                    "a call names a function: `{name}.FUNCTION(…)`; `{name}` alone runs its main"
                )));
            }
            (1 | 2, None) => {
                return Err(self.error(format!("a call has parentheses: `{name}.{}(…)`", parts.join("."))));
            }
            (1, Some(_)) => (None, parts.pop()),
            (2, Some(_)) => {
                let function = parts.pop();
                (parts.pop(), function)
            }
            _ => return Err(self.error("a call is `module.function(…)` or `module.interface.function(…)`")),
        };
        let target = Target { module: ModuleRef::Stored { name, version }, interface, function };
        Ok(Expr { target, args, places })
    }

    /// The arguments between parentheses, split at the commas that belong to no value.
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
                return Err(self.error("this parenthesis has no end"));
            }
            let start = self.at;
            args.push(self.arg(open)?);
            let typed = self.line[start..self.at].trim_end().len();
            // Where an argument is missing, the comma stands for it.
            places.args.push(start..start + typed.max(usize::from(self.rest().starts_with(','))));
            self.space();
            if !self.eat(",") && !self.rest().starts_with(')') {
                self.at = if self.at_end() { open } else { self.at };
                return Err(self.error(if self.at == open {
                    "this parenthesis has no end"
                } else {
                    "expected `,` or `)` here"
                }));
            }
        }
    }

    fn arg(&mut self, open: usize) -> Result<Arg> {
        let start = self.at;
        if self.looks_like_call() {
            return self.nested();
        }
        let end = wave_end(self.line, start).map_err(|quotation| match quotation {
            Some(at) => error_at(self.line, at, "this quotation has no end"),
            None => error_at(self.line, open, "this parenthesis has no end"),
        })?;
        self.at = end;
        let mut text = self.line[start..end].trim_end().to_owned();
        // Nothing before a comma: the reader of values refuses the comma itself, at its place.
        if text.is_empty() && self.rest().starts_with(',') {
            text.push(',');
        }
        // A comment in it must not reach into the arguments that will stand behind it.
        if text.contains("//") {
            text.push('\n');
        }
        Ok(Arg::Wave(text))
    }

    /// A call that is an argument of another.
    fn nested(&mut self) -> Result<Arg> {
        if self.depth >= limits::NESTED_CALLS {
            return Err(self.error(format!("calls nest too deep: {} is the most", limits::NESTED_CALLS)));
        }
        self.depth += 1;
        let call = match self.eat("Node.run") {
            true => self.run().map(|(node, expr)| Arg::Call(Some(node), expr)),
            false => self.expr().map(|expr| Arg::Call(None, expr)),
        };
        self.depth -= 1;
        call
    }

    /// No value of WAVE has a letter, then a dot: only a call does.
    fn looks_like_call(&self) -> bool {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).unwrap_or(rest.len());
        rest.starts_with(|c: char| c.is_ascii_alphabetic())
            && (rest[end..].starts_with('.') || rest[end..].starts_with('@'))
    }
}

#[cfg(test)]
mod tests;
