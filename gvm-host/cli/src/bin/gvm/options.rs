//! The command line of `gvm`, and what it says of the surroundings.
//!
//! In: flags and the environment; both are read here and nowhere else. Out: plain configuration.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use gvm_host::Accept;
use gvm_host::Home;
use gvm_host::Limits;
use gvm_host::Name;
use gvm_host::daemon::server::NODE_PORT;
use gvm_host::net::{Address, host_and_port};
use gvm_host::{Code, Error, Result};
use gvm_host::{Compiler, Engine, EngineConfig};
use gvm_host::{Config, LISTEN};
use gvm_host::{Dir, Grants};

const AFTER: &str = "\
Without a command gvm starts a node and reads what you type; `help` there tells what it understands. \
Where standard input is no terminal it reads a script: one statement a line, `#` for comments, and the \
first error ends it.

Settings: a flag stands above the environment, that above config.toml in the home folder (its keys are \
the flags' names), that above the default.

Exit status: 0 success, 1 a coded error, 2 wrong usage, 130 interrupted, 141 where the reader of a pipe has \
gone; `gvm run` leaves with the guest's own.

Examples:
  gvm demo                              a private network to try, gone afterwards
  gvm --name kitchen --accept ask       a node that asks you who may connect
  gvm eval 'math.add(1, 2)'             one statement, from a shell
  gvm run ./tool.wasm --its-flag file   a program, its streams and status those of the guest
  gvm doctor kitchen                    why the node `kitchen` cannot be reached";

const RUN: &str = "\
Examples:
  gvm run ./hello.wasm
  gvm run --dir .::/work --env LANG ./tool.wasm --its-flag /work/file
  gvm run 'math.add(1, 2)'
  gvm run --node kitchen --timeout 2s 'math.add(1, 2)'
  gvm run --invoke 'add(1, 2)' math.wat";

const EVAL: &str = "\
Examples:
  gvm eval 'math.add(1, 2)'
  gvm eval --json 'Node.connect(kitchen)' 'Node.run(kitchen, math.add(1, 2))'
  gvm eval 'Module.list()'";

const SERVE: &str = "\
Says who it is, then what happens to its connections on standard error; with --json all of it on \
standard output, a line each. Nobody is at a prompt, so --accept ask denies. Exit status 0 however it is \
told to end.

Examples:
  gvm serve --name kitchen
  gvm serve --name kitchen --json >> kitchen.log &";

const INSPECT: &str = "\
Examples:
  gvm inspect ./tool.wasm
  gvm inspect math@1.0.0
  gvm inspect --json ./tool.wasm | jq .grants";

const DOCTOR: &str = "\
Looks, in this order, at: process, home, settings, key, modules, compiled, gpmd, answer, version, ports, \
nodes, node; with NODE also at: name, socket, port, tls, accept, rights. It mends nothing and leaves nothing \
behind: a node of its own starts, runs a function and ends; with NODE it connects with that node once, as \
a node of this home (of the name that --name gives, where its --accept lists names).

Exit status: 0 where all is well, 1 where something fails.

Examples:
  gvm doctor
  gvm doctor kitchen
  gvm doctor --json | jq '.checks[] | select(.state == \"failed\")'";

const COMPLETIONS: &str = "\
Examples:
  gvm completions bash > ~/.local/share/bash-completion/completions/gvm
  gvm completions zsh > ~/.zfunc/_gvm
  gvm completions fish > ~/.config/fish/completions/gvm.fish";

/// The Ghost Virtual Machine: a WebAssembly node that calls functions on your other nodes.
#[derive(Parser)]
#[command(name = "gvm", version, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make one call and leave with the guest's exit status
    ///
    /// TARGET is a stored module (`math`, `math@1.2.0`), a call of one of its functions
    /// (`'math.add(1, 2)'`), or a path to a .wasm or .wat file. What follows it is the guest's, `-`
    /// included. The guest gets your standard input, and nothing else that is not granted with
    /// --dir, --env or --allow-net. A path needs no gpmd unless --node sends it elsewhere.
    #[command(override_usage = "gvm run [OPTIONS] TARGET [ARGS]...", after_help = RUN)]
    Run {
        /// Call this function of the module instead of its main: 'add(1, 2)'
        #[arg(long, value_name = "CALL")]
        invoke: Option<String>,
        /// What to run, and its arguments
        #[arg(value_name = "TARGET", trailing_var_arg = true, required = true)]
        target_and_args: Vec<OsString>,
    },
    /// Carry out what you would type in the REPL; the first error ends it
    #[command(override_usage = "gvm eval [OPTIONS] <EXPR>...", after_help = EVAL)]
    Eval {
        /// Statements, such as 'Node.connect(b)' 'Node.run(b, math.add(1, 2))'
        #[arg(value_name = "EXPR", required = true)]
        exprs: Vec<String>,
    },
    /// Keep a node without a prompt, until Ctrl-C or SIGTERM ends it in order
    #[command(after_help = SERVE)]
    Serve,
    /// Show what a module exports and imports, what it may need to be granted, its size and its hash
    #[command(override_usage = "gvm inspect [OPTIONS] <TARGET>", after_help = INSPECT)]
    Inspect {
        /// A stored module, or a path to a .wasm or .wat file
        target: String,
    },
    /// Begin a module of your own: a folder whose README builds, uploads and calls it
    New {
        /// The folder to make; its last part is the module's name
        #[arg(value_name = "NAME")]
        path: PathBuf,
        /// The language to write it in
        #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
        lang: super::new::Language,
    },
    /// A private network to try: a gpmd, two nodes and sample modules in this process, then the REPL
    Demo,
    /// Say which layer fails, and how it is mended: home, key, gpmd, addresses, TLS, accept policy
    #[command(after_help = DOCTOR)]
    Doctor {
        /// A node that should be reachable from here
        node: Option<String>,
    },
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Whose script
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them into a folder
    Man {
        /// The folder to write the pages into; without it, the first page on standard output
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// Headings of `--help`.
const NODE: &str = "The node";
const OTHERS: &str = "Who may do what here";
const LIMITS: &str = "Limits of calls";
const GRANTS: &str = "What guests are granted";

#[derive(Args, Clone)]
pub struct Options {
    /// The node's name [default: node- and four digits]
    #[arg(long, global = true, value_name = "NAME", help_heading = NODE)]
    pub name: Option<String>,
    /// The home folder: keys, modules, sockets [default: ~/.ghost-network]
    #[arg(long, global = true, env = "GHOST_HOME", value_name = "DIR", hide_env_values = true,
        value_parser = path(), help_heading = NODE)]
    pub home: Option<PathBuf>,
    /// Where the home's gpmd is, if not in the home: HOST[:PORT] [default port: 5989]
    #[arg(long, global = true, env = "GPMD_ADDRESS", value_name = "ADDR", hide_env_values = true, help_heading = NODE)]
    pub gpmd: Option<String>,
    /// Where other nodes may connect with this one, beside its socket; 0.0.0.0 for every address of this
    /// device [default: 127.0.0.1, a free port]
    #[arg(long, global = true, value_name = "ADDR[:PORT]", help_heading = NODE)]
    pub listen: Option<String>,
    /// Who may connect: all, none, ask (you are asked at the prompt), or a list of names [default: all]
    #[arg(long, global = true, value_name = "POLICY", help_heading = OTHERS)]
    pub accept: Option<String>,
    /// What connected nodes may call here, instead of everything: 'math.*', math.add, math (its main),
    /// '*'; NODE=PATTERN for one node alone
    #[arg(long = "allow-call", global = true, value_name = "[NODE=]PATTERN", help_heading = OTHERS)]
    pub allow_calls: Vec<String>,
    /// End what a connected node holds here after this long: 1h; it may connect again [default: never]
    #[arg(long, global = true, value_name = "TIME", help_heading = OTHERS)]
    pub session_time: Option<String>,
    /// Stop a call after this long: 2s, 500ms; 0 for no limit
    #[arg(long, global = true, value_name = "TIME", help_heading = LIMITS)]
    pub timeout: Option<String>,
    /// Memory of a guest, all its memories together: 64MiB [default: 256MiB]
    #[arg(long, global = true, value_name = "SIZE", help_heading = LIMITS)]
    pub max_memory: Option<String>,
    /// What a call may write to its output: 1MiB [default: 16MiB]
    #[arg(long, global = true, value_name = "SIZE", help_heading = LIMITS)]
    pub max_output: Option<String>,
    /// How many units of work a call may do, about one a wasm instruction
    #[arg(long, global = true, value_name = "N", help_heading = LIMITS)]
    pub fuel: Option<u64>,
    /// Let guests see a folder, under its own name or another: HOST[::GUEST[::ro]]
    #[arg(long = "dir", global = true, value_name = "HOST::GUEST", help_heading = GRANTS)]
    pub dirs: Vec<String>,
    /// Give guests an environment variable; without a value, this process's own
    #[arg(long = "env", global = true, value_name = "K=V", help_heading = GRANTS)]
    pub env: Vec<String>,
    /// Let guests connect to an address over TCP and UDP
    #[arg(long = "allow-net", global = true, value_name = "HOST:PORT", help_heading = GRANTS)]
    pub allow_net: Vec<String>,
    /// Let guests use the network of nodes as this node may: interface gvm:node/nodes
    #[arg(long = "grant", global = true, value_name = "WHAT", help_heading = GRANTS)]
    pub grants: Vec<SessionRights>,
    /// Run there: a node of this home, which is connected first
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// One line of JSON for each result
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more to standard error (-v, -vv); RUST_LOG chooses finer
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Whether any grant was a flag, and not a setting of the home.
    #[arg(skip)]
    pub granted_by_flags: bool,
}

/// What guests can be granted besides what has an option of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SessionRights {
    /// The network of nodes
    Nodes,
}

/// A path; an empty one is as none, so that `GHOST_HOME= gvm` takes the default.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Options {
    /// The home folder, opened and made where there is none.
    pub fn home(&self) -> Result<Home> {
        Home::open(self.home_path()?)
    }

    /// Where the home is, or would be.
    pub fn home_path(&self) -> Result<PathBuf> {
        Ok(match &self.home {
            Some(path) if !path.as_os_str().is_empty() => path.clone(),
            _ => std::env::home_dir().map(|user| user.join(".ghost-network")).ok_or_else(|| {
                Error::new(Code::Syntax, "this user has no home folder: say where with --home or GHOST_HOME")
            })?,
        })
    }

    /// The limits that the command line sets.
    pub fn limits(&self) -> Result<Limits> {
        let size = |text: &Option<String>| text.as_deref().map(parse_size).transpose();
        Ok(Limits {
            timeout: self.timeout.as_deref().map(parse_time).transpose()?.flatten(),
            memory: size(&self.max_memory)?,
            output: size(&self.max_output)?,
            fuel: match self.fuel {
                Some(0) => return Err(usage("--fuel 0 would allow nothing: leave it out for no limit")),
                fuel => fuel,
            },
        })
    }

    /// What guests are granted.
    pub fn grants(&self) -> Result<Grants> {
        let mut grants = Grants::default();
        for text in &self.dirs {
            grants.dirs.push(parse_dir(text)?);
        }
        for text in &self.env {
            match text.split_once('=') {
                Some((key, value)) => grants.env.push((key.to_owned(), value.to_owned())),
                // As `wasmtime run --env NAME` does; a name that is not set gives nothing.
                None => grants.env.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
            }
        }
        self.allow_net.iter().try_for_each(|text| grants.net.allow(text))?;
        grants.nodes = self.grants.contains(&SessionRights::Nodes);
        Ok(grants)
    }

    /// Whether anything is granted.
    pub fn grants_anything(&self) -> bool {
        let lists = [self.dirs.is_empty(), self.env.is_empty(), self.allow_net.is_empty()];
        lists.contains(&false) || !self.grants.is_empty()
    }

    /// Refuses grants for calls that run elsewhere: they come from the node that runs the guest.
    pub fn no_grants_with_node(&self) -> Result<()> {
        if self.node.is_some() && self.granted_by_flags {
            return Err(usage(
                "--dir, --env, --allow-net and --grant grant what this machine has; with --node the other node \
                 grants, when it is started",
            ));
        }
        Ok(())
    }

    /// An engine over this home's compiled code.
    pub fn engine(&self, home: &Home, pooling: bool) -> Result<Engine> {
        Ok(Engine::new(EngineConfig::new(home.compiled(), Compiler::current()?).pooling(pooling)))
    }

    /// Where gpmd is, if not in the home.
    pub fn gpmd(&self) -> Result<Option<Address>> {
        let given = self.gpmd.as_deref().filter(|text| !text.is_empty());
        given.map(|text| Address::typed(text, NODE_PORT)).transpose().map_err(as_usage)
    }

    /// Where a node of this command line listens.
    pub fn listening(&self) -> Result<SocketAddr> {
        match &self.listen {
            Some(text) => host_and_port(text, 0).map_err(as_usage),
            None => Ok(LISTEN),
        }
    }

    /// What a node of this command line is made with.
    pub fn node_config(&self, home: Home, pooling: bool) -> Result<Config> {
        let name = self.name.as_deref().map(str::parse).transpose().map_err(as_usage)?;
        let accept = self.accept.as_deref().unwrap_or("all").parse::<Accept>().map_err(as_usage)?;
        let rules: Result<Vec<_>> = self.allow_calls.iter().map(|rule| rule.parse()).collect();
        // A call brings its own limits. The node's also bound the calls of peers.
        let limits = Limits { timeout: None, ..self.limits()? };
        let engine = self.engine(&home, pooling)?;
        Ok(Config::new(home, engine)
            .name(name)
            .gpmd(self.gpmd()?)
            .listen(self.listening()?)
            .accept(accept)
            .allow_calls(rules.map_err(as_usage)?)
            .session_time(self.session_time.as_deref().map(parse_time).transpose()?.flatten())
            .grants(self.grants()?)
            .limits(limits))
    }

    /// The node to run on.
    pub fn place(&self) -> Result<Option<Name>> {
        self.node.as_deref().map(str::parse).transpose().map_err(as_usage)
    }
}

/// An error of the command line itself: status 2.
pub fn usage(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::Syntax, message).with_exit(2)
}

/// An error of the command line: status 2.
pub fn as_usage(error: Error) -> Error {
    error.with_exit(2)
}

/// A time; none for 0.
pub fn parse_time(text: &str) -> Result<Option<Duration>> {
    if text == "0" {
        return Ok(None);
    }
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(None),
        Ok(time) => Ok(Some(time)),
        Err(error) => Err(usage(format!("{text:?} is no time ({error}): 2s, 500ms, 0 for none"))),
    }
}

/// A size in bytes.
pub fn parse_size(text: &str) -> Result<u64> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        Ok(_) => Err(usage(format!("a size of {text:?} would allow nothing: leave it out for the default"))),
        Err(error) => Err(usage(format!("{text:?} is no size ({error}): 64MiB, 100kB, 4096"))),
    }
}

/// `HOST[::GUEST[::ro]]`.
pub fn parse_dir(text: &str) -> Result<Dir> {
    let mut parts = text.split("::");
    let host = parts.next().unwrap_or_default();
    let guest = parts.next().unwrap_or(host);
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => return Err(usage(format!("--dir {text:?}: `{other}` is not `ro`"))),
    };
    if host.is_empty() || guest.is_empty() || parts.next().is_some() {
        return Err(usage(format!("--dir {text:?}: expected HOST, HOST::GUEST or HOST::GUEST::ro")));
    }
    Ok(Dir { host: host.into(), guest: guest.to_owned(), read_only })
}
