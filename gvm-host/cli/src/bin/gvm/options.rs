//! The command line of `gvm`.
//!
//! In: flags and environment variables. Out: plain configuration. Must not know: what the commands do with it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use gvm_host::daemon::server::NODE_PORT;
use gvm_host::net::{Address, host_and_port};
use gvm_host::system::confine::{self, Needs};
use gvm_host::{
    Accept, Authorities, Code, Compiler, Config, Dir, Engine, EngineConfig, Error, Grants, Home, LISTEN,
    Limits, NodeName, Result,
};

const AFTER: &str = "\
Without a command, gvm starts a node and opens a prompt; type `help` there for a list of statements. \
If standard input is not a terminal, gvm reads a script from it: one statement per line, `#` starts a comment, \
and the first error ends the script.

Settings: flags override environment variables, which override config.toml in the home folder (its keys are \
the names of the flags), which overrides the defaults.

Exit status: 0 success, 1 error, 2 wrong usage, 130 interrupted, 141 if the reader of a pipe closes it \
early. `gvm run` exits with the status of the guest.

Examples:
  gvm demo                              try a private network, removed when you leave
  gvm --name kitchen --accept ask       start a node that asks you who may connect
  gvm eval 'math.add(1, 2)'             run one statement from a shell
  gvm run ./tool.wasm --its-flag file   run a program with your streams and its exit status
  gvm doctor kitchen                    find out why the node `kitchen` cannot be reached";

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
Prints the name and id of the node on standard output, and its events on standard error. With --json, prints \
both on standard output, as one line of JSON each. There is no prompt, so --accept ask denies every request. \
The exit status is 0 after Ctrl-C and SIGTERM.

With --http, there is no node. Instead, MODULE answers the requests at ADDR: it exports wasi:http/incoming-handler \
(world wasi:http/proxy). The limits hold for each request, and --timeout is 5 minutes by default. Guests use \
what --dir, --env, --allow-net and --grant allow. What they write is shown on standard error, with the number of \
the request; -v logs each request. After Ctrl-C and SIGTERM, requests that run get 5 seconds to end.

Examples:
  gvm serve --name kitchen
  gvm serve --name kitchen --json >> kitchen.log &
  gvm serve --http 127.0.0.1:8080 ./site.wasm
  gvm serve --http 0.0.0.0:80 --reuse 100 site";

const INSPECT: &str = "\
Examples:
  gvm inspect ./tool.wasm
  gvm inspect math@1.0.0
  gvm inspect --json ./tool.wasm | jq .grants";

const DOCTOR: &str = "\
Checks these layers in order: process, home, settings, key, modules, compiled, gpmd, answer, version, ports, \
nodes, devices, node; with NODE also: name, socket, port, tls, accept, rights; with NODE@DEVICE: device, name, port, \
accept, rights. It changes nothing: it starts a node of \
its own, runs a function on it and ends it. With NODE, that node connects to NODE once. If NODE accepts only \
some names, use --name to check with one of them.

Exit status: 0 if every check passes, 1 if a check fails.

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
    /// Run a module or call one of its functions, and exit with the status of the guest
    ///
    /// TARGET is a stored module (`math`, `math@1.2.0`), a call of one of its functions
    /// (`'math.add(1, 2)'`), or a path to a .wasm or .wat file. Words after TARGET go to the guest,
    /// also those that start with `-`. The guest can read your standard input, and use only what you
    /// grant with --dir, --env, --allow-net and --grant. Needs gpmd only with --node or --grant nodes.
    #[command(override_usage = "gvm run [OPTIONS] TARGET [ARGS]...", after_help = RUN)]
    Run {
        /// Call this function of the module instead of its main, for example 'add(1, 2)'
        #[arg(long, value_name = "CALL")]
        invoke: Option<String>,
        /// The module, call or file to run, and the arguments for its main
        #[arg(value_name = "TARGET", trailing_var_arg = true, required = true)]
        target_and_args: Vec<OsString>,
    },
    /// Run statements as you would type them at the prompt; the first error ends the command
    #[command(override_usage = "gvm eval [OPTIONS] <EXPR>...", after_help = EVAL)]
    Eval {
        /// Statements to run in order, for example 'Node.connect(b)' 'Node.run(b, math.add(1, 2))'
        #[arg(value_name = "EXPR", required = true)]
        exprs: Vec<String>,
    },
    /// Run a node without a prompt, or serve a module over HTTP, until Ctrl-C or SIGTERM
    #[command(override_usage = "gvm serve [OPTIONS]\n       gvm serve [OPTIONS] --http <ADDR> <MODULE>",
        after_help = SERVE)]
    Serve {
        /// Serve MODULE over HTTP at this address, for example 127.0.0.1:8080; port 0 chooses a free one
        #[arg(long, value_name = "ADDR[:PORT]", requires = "target")]
        http: Option<String>,
        /// With --http: let an instance of the module serve N requests, one after another [default: 1]
        #[arg(long, value_name = "N", default_value = "1", hide_default_value = true, requires = "http",
            value_parser = count())]
        reuse: usize,
        /// The module for --http: a stored module (`site`, `site@1.2.0`), or a path to a .wasm or .wat file
        #[arg(value_name = "MODULE", requires = "http")]
        target: Option<OsString>,
    },
    /// Show the exports, imports, size and hash of a module, and the grants that it may need
    #[command(override_usage = "gvm inspect [OPTIONS] <TARGET>", after_help = INSPECT)]
    Inspect {
        /// A stored module (`math`, `math@1.2.0`), or a path to a .wasm or .wat file
        target: String,
    },
    /// Create a module project, with a README that shows how to build, upload and call it
    New {
        /// The folder to create; its last part becomes the name of the module
        #[arg(value_name = "NAME")]
        path: PathBuf,
        /// The programming language
        #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
        lang: super::new::Language,
    },
    /// Try a private network: gpmd, two nodes, sample modules and a prompt, in one process
    Demo,
    /// Find out what is broken and how to fix it: home, key, gpmd, addresses, TLS, accept policy
    #[command(after_help = DOCTOR)]
    Doctor {
        /// Check the connection to this node too
        node: Option<String>,
    },
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages to a folder
    Man {
        /// Write all pages to this folder, instead of the main page to standard output
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// Headings of `--help`.
const NODE: &str = "Node";
const OTHERS: &str = "Access for other nodes";
const LIMITS: &str = "Call limits";
const GRANTS: &str = "Grants for guests";

#[derive(Args, Clone)]
pub struct Options {
    /// Name of the node, for example kitchen [default: node- and four digits]
    #[arg(long, global = true, value_name = "NAME", help_heading = NODE)]
    pub name: Option<String>,
    /// Home folder, with the key, modules and sockets [default: ~/.ghost-network]
    #[arg(long, global = true, env = "GHOST_HOME", value_name = "DIR", hide_env_values = true,
        value_parser = path(), help_heading = NODE)]
    pub home: Option<PathBuf>,
    /// Address of gpmd, for example 192.0.2.7:5989 [default: the socket in the home; default port: 5989]
    #[arg(long, global = true, env = "GPMD_ADDRESS", value_name = "HOST[:PORT]", hide_env_values = true,
        help_heading = NODE)]
    pub gpmd: Option<String>,
    /// Address where other nodes can connect, besides the socket; 0.0.0.0 listens on every address of this
    /// device [default: 127.0.0.1, on a free port]
    #[arg(long, global = true, value_name = "ADDR[:PORT]", help_heading = NODE)]
    pub listen: Option<String>,
    /// Who may connect: all, none, ask (asks you at the prompt), or names such as kitchen,attic [default: all]
    #[arg(long, global = true, value_name = "POLICY", help_heading = OTHERS)]
    pub accept: Option<String>,
    /// Let connected nodes call only what matches: math.add, 'math.*', math (its main), or '*'. NODE=PATTERN is
    /// for one node. Can be repeated [default: everything]
    #[arg(long = "allow-call", global = true, value_name = "[NODE=]PATTERN", help_heading = OTHERS)]
    pub allow_calls: Vec<String>,
    /// Which modules run here: any, or own (only those of this home: none that other devices have or other nodes send)
    /// [default: any]
    #[arg(long, global = true, value_name = "WHICH", help_heading = OTHERS)]
    pub modules: Option<WhichModules>,
    /// End the session of a connected node after this time, for example 1h; the node may connect again
    /// [default: never]
    #[arg(long, global = true, value_name = "TIME", help_heading = OTHERS)]
    pub session_time: Option<String>,
    /// Stop a call after this time, for example 2s or 500ms; 0 means no limit [default: 0, and 5 minutes for
    /// calls on other nodes]
    #[arg(long, global = true, value_name = "TIME", help_heading = LIMITS)]
    pub timeout: Option<String>,
    /// Limit the memory of a guest, for example 64MiB [default: 256MiB]
    #[arg(long, global = true, value_name = "SIZE", help_heading = LIMITS)]
    pub max_memory: Option<String>,
    /// Limit what a call writes to standard output and error, for example 1MiB [default: 16MiB]
    #[arg(long, global = true, value_name = "SIZE", help_heading = LIMITS)]
    pub max_output: Option<String>,
    /// Stop a call after N units of work, about one per wasm instruction [default: no limit]
    #[arg(long, global = true, value_name = "N", help_heading = LIMITS)]
    pub fuel: Option<u64>,
    /// Let guests use a folder, for example ./data, or ./data::/data::ro (as /data, read-only). Can be repeated
    #[arg(long = "dir", global = true, value_name = "HOST[::GUEST[::ro]]", help_heading = GRANTS)]
    pub dirs: Vec<String>,
    /// Set an environment variable for guests; without =VALUE, pass on the variable of gvm itself. Can be
    /// repeated
    #[arg(long = "env", global = true, value_name = "NAME[=VALUE]", help_heading = GRANTS)]
    pub env: Vec<String>,
    /// Let guests connect to this address over TCP and UDP, for example example.org:443. Can be repeated
    #[arg(long = "allow-net", global = true, value_name = "HOST:PORT", help_heading = GRANTS)]
    pub allow_net: Vec<String>,
    /// Accept only servers with a certificate of the authorities in this PEM file, when guests send HTTPS requests
    /// [default: the authorities of the system]
    #[arg(long, global = true, value_name = "FILE", value_parser = path(), help_heading = GRANTS)]
    pub tls_ca: Option<PathBuf>,
    /// Set a configuration value for guests (interface wasi:config/store). Can be repeated
    #[arg(long = "config", global = true, value_name = "NAME=VALUE", help_heading = GRANTS)]
    pub config: Vec<String>,
    /// Let guests use other nodes with the rights of this node (nodes: interface gvm:node/nodes), or keep keys and
    /// values in the home (keyvalue: interfaces of wasi:keyvalue). Can be repeated
    #[arg(long = "grant", global = true, value_name = "WHAT", help_heading = GRANTS)]
    pub grants: Vec<SessionRights>,
    /// With run: connect to this node and make the call there
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// Print each result as one line of JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more to standard error; -vv logs even more, and RUST_LOG selects the level for each module
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Whether a flag grants something, and not only the settings of the home.
    #[arg(skip)]
    pub granted_by_flags: bool,
    #[arg(skip)]
    read_grants: OnceLock<Grants>,
}

/// The values of `--modules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WhichModules {
    /// Those of this home, of other devices, and those that other nodes send.
    Any,
    /// Those of this home.
    Own,
}

/// The values of `--grant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SessionRights {
    /// Other nodes
    Nodes,
    /// Keys and values
    Keyvalue,
}

/// Parses a number of at least 1.
fn count() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..).map(|count| count as usize)
}

/// Parses a path. Accepts an empty one, so that `GHOST_HOME= gvm` uses the default.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Options {
    /// Opens the home folder; creates it if it does not exist.
    pub fn home(&self) -> Result<Home> {
        Home::open(self.home_path()?)
    }

    /// Returns the path of the home folder, which may not exist.
    pub fn home_path(&self) -> Result<PathBuf> {
        Ok(match &self.home {
            Some(path) if !path.as_os_str().is_empty() => path.clone(),
            _ => std::env::home_dir().map(|user| user.join(".ghost-network")).ok_or_else(|| {
                Error::new(Code::Syntax, "this user has no home folder")
                    .with_help("set the folder for GVM with `--home` or GHOST_HOME")
            })?,
        })
    }

    /// Returns the limits that the options set.
    pub fn limits(&self) -> Result<Limits> {
        let size = |text: &Option<String>| text.as_deref().map(parse_size).transpose();
        Ok(Limits {
            timeout: self.timeout.as_deref().map(parse_time).transpose()?.flatten(),
            memory: size(&self.max_memory)?,
            output: size(&self.max_output)?,
            fuel: match self.fuel {
                Some(0) => {
                    return Err(
                        usage("`--fuel 0` allows no work at all").with_help("omit `--fuel` for no limit")
                    );
                }
                fuel => fuel,
            },
        })
    }

    /// Returns what guests may use. Names of hosts are looked up once: a confined process cannot do it again.
    pub fn grants(&self) -> Result<Grants> {
        if let Some(grants) = self.read_grants.get() {
            return Ok(grants.clone());
        }
        let mut grants = Grants::default();
        for text in &self.dirs {
            grants.dirs.push(parse_dir(text)?);
        }
        for text in &self.env {
            match text.split_once('=') {
                Some((key, value)) => grants.env.push((key.to_owned(), value.to_owned())),
                // Like `wasmtime run --env NAME`: a variable that is not set is left out.
                None => grants.env.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
            }
        }
        self.allow_net.iter().try_for_each(|text| grants.net.allow(text))?;
        // Read once, as the names: a confined process cannot do it again.
        match &self.tls_ca {
            Some(file) => grants.authorities = Authorities::of_file(file)?,
            None if !grants.net.is_empty() => grants.authorities = Authorities::of_system(),
            None => {}
        }
        grants.config = self.config.iter().map(|text| parse_config(text)).collect::<Result<_>>()?;
        grants.keyvalue = self.grants.contains(&SessionRights::Keyvalue);
        grants.nodes = self.grants.contains(&SessionRights::Nodes);
        Ok(self.read_grants.get_or_init(|| grants).clone())
    }

    /// Returns whether the options grant anything.
    pub fn grants_anything(&self) -> bool {
        let lists =
            [self.dirs.is_empty(), self.env.is_empty(), self.config.is_empty(), self.allow_net.is_empty()];
        lists.contains(&false) || !self.grants.is_empty()
    }

    /// Refuses grants with `--node`: the node that runs the guest grants.
    pub fn no_grants_with_node(&self) -> Result<()> {
        if self.node.is_some() && self.granted_by_flags {
            let flags = "`--dir`, `--env`, `--config`, `--allow-net` and `--grant`";
            return Err(usage(format!("{flags} have no effect with `--node`"))
                .with_help("start the other node with these flags"));
        }
        Ok(())
    }

    /// Returns an engine that uses the compiled code of this home.
    pub fn engine(&self, home: &Home, pooling: bool) -> Result<Engine> {
        Ok(Engine::new(EngineConfig::new(home.compiled(), Compiler::current()?).pooling(pooling)))
    }

    /// Returns the address of gpmd, if it is not in the home.
    pub fn gpmd(&self) -> Result<Option<Address>> {
        let given = self.gpmd.as_deref().filter(|text| !text.is_empty());
        given.map(|text| Address::typed(text, NODE_PORT)).transpose().map_err(as_usage)
    }

    /// Returns the address where the node listens.
    pub fn listening(&self) -> Result<SocketAddr> {
        match &self.listen {
            Some(text) => host_and_port(text, 0).map_err(as_usage),
            None => Ok(LISTEN),
        }
    }

    /// Returns the configuration for a node.
    pub fn node_config(&self, home: Home, pooling: bool) -> Result<Config> {
        let name = self.name.as_deref().map(str::parse).transpose().map_err(as_usage)?;
        let accept = self.accept.as_deref().unwrap_or("all").parse::<Accept>().map_err(as_usage)?;
        let rules: Result<Vec<_>> = self.allow_calls.iter().map(|rule| rule.parse()).collect();
        // The timeout goes with each call of this node. Set here, it would also bound the calls of other nodes.
        let limits = Limits { timeout: None, ..self.limits()? };
        let engine = self.engine(&home, pooling)?;
        let mut config = Config::new(home, engine)
            .listen(self.listening()?)
            .accept(accept)
            .allow_calls(rules.map_err(as_usage)?)
            .grants(self.grants()?)
            .limits(limits);
        if self.modules == Some(WhichModules::Own) {
            config = config.own_modules();
        }
        config.name = name;
        config.gpmd = self.gpmd()?;
        config.session_time = self.session_time.as_deref().map(parse_time).transpose()?.flatten();
        Ok(config)
    }

    /// Confines this process to what a node of this home needs, and to `changes`, files that it writes. Returns the home as the
    /// node then sees it. Must be called before the process has other threads.
    ///
    /// # Errors
    /// Those of the options; `INTERNAL`.
    pub fn confine_node(&self, home: &Home, changes: &[PathBuf]) -> Result<Home> {
        if let Some(Address::Tcp(_)) = self.gpmd()? {
            // It needs the key of the device to reach its gpmd.
            return Ok(home.clone());
        }
        self.confine(home, Some(self.listening()?.port()), &[], changes)?;
        Ok(home.confined())
    }

    /// Confines this process to what one call needs that no other node takes part in. Must be called before the process has other
    /// threads.
    ///
    /// # Errors
    /// Those of the options; `INTERNAL`.
    pub fn confine_call(&self, home: &Home) -> Result<()> {
        let mut reads = home.index_logs();
        reads.push(home.index());
        self.confine(home, None, &reads, &[])
    }

    fn confine(
        &self,
        home: &Home,
        listens: Option<u16>,
        reads: &[PathBuf],
        changes: &[PathBuf],
    ) -> Result<()> {
        let grants = self.grants()?;
        let in_force = confine::confine(&Needs { home, grants: &grants, listens, reads, changes })?;
        tracing::info!("confined: {}", in_force.words());
        Ok(())
    }

    /// Returns the node to run on, from `--node`.
    pub fn place(&self) -> Result<Option<NodeName>> {
        self.node.as_deref().map(str::parse).transpose().map_err(as_usage)
    }
}

/// Returns an error of wrong usage: exit status 2.
pub fn usage(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::Syntax, message).with_exit(2)
}

/// Makes an error one of wrong usage: exit status 2.
pub fn as_usage(error: Error) -> Error {
    error.with_exit(2)
}

/// Parses a duration; `None` for 0.
pub fn parse_time(text: &str) -> Result<Option<Duration>> {
    if text == "0" {
        return Ok(None);
    }
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(None),
        Ok(time) => Ok(Some(time)),
        Err(error) => Err(usage(format!("{text:?} is not a duration: {error}"))
            .with_help("write a number and a unit, such as 2s or 500ms; 0 means no limit")),
    }
}

/// Parses a size in bytes.
pub fn parse_size(text: &str) -> Result<u64> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        Ok(_) => {
            Err(usage(format!("a limit of {text:?} allows nothing")).with_help("omit it for the default"))
        }
        Err(error) => Err(usage(format!("{text:?} is not a size: {error}"))
            .with_help("write a number of bytes, or a number and a unit, such as 4096, 100kB or 64MiB")),
    }
}

/// Parses `NAME=VALUE`.
pub fn parse_config(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(usage(format!("`--config {text}` has no value")).with_help("write it as NAME=VALUE")),
    }
}

/// Parses `HOST[::GUEST[::ro]]`.
pub fn parse_dir(text: &str) -> Result<Dir> {
    let mut parts = text.split("::");
    let host = parts.next().unwrap_or_default();
    let guest = parts.next().unwrap_or(host);
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => {
            return Err(usage(format!("`--dir {text}`: expected `ro` or `rw`, found `{other}`")));
        }
    };
    if host.is_empty() || guest.is_empty() || parts.next().is_some() {
        return Err(usage(format!("`--dir {text}` is not a folder grant"))
            .with_help("write HOST, HOST::GUEST or HOST::GUEST::ro"));
    }
    Ok(Dir { host: host.into(), guest: guest.to_owned(), read_only })
}
