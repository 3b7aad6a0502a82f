//! The arguments of `gpmd`.
//!
//! In: the command line and the environment. Out: plain values. Must not know: what is done with them.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand};
use gvm_cli::settings::Settings;
use gvm_host::Home;
use gvm_host::daemon::server::{COMMAND_PORT, NODE_PORT, Ports};
use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::route::Route;
use gvm_host::net::Address;
use gvm_host::{Code, Error, Result};

/// The Ghost port mapper daemon: knows the nodes of this device and keeps its modules.
///
/// Each device has one gpmd per home folder. Nodes (`gvm`) register with it and find each other
/// through it; modules uploaded to it run on every node of the device. Nodes keep running, and
/// keep their connections to each other, while gpmd is away.
#[derive(Parser)]
#[command(name = "gpmd", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = MANUAL)]
pub struct Args {
    /// The home folder: modules, sockets, logs
    ///
    /// One person's folder on one device, mode 0700. Several homes live side by side without
    /// meeting. Default: ~/.ghost-network
    #[arg(long, global = true, value_name = "DIR", env = "GHOST_HOME", hide_env_values = true,
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub home: Option<PathBuf>,

    /// Report as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// Log more (twice: everything); RUST_LOG says it in detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// With start: the port for nodes, 0 for a free one [default: 5989]
    ///
    /// Nodes and commands of the home find the daemon without this: by its sockets in the home. Who
    /// has the home's device key may use the ports.
    #[arg(long, global = true, env = "GPMD_PORT", value_name = "PORT", hide_env_values = true)]
    pub port: Option<u16>,

    /// With start: the port for commands, 0 for a free one [default: 1111]
    #[arg(long, global = true, env = "GPMD_COMMAND_PORT", value_name = "PORT", hide_env_values = true)]
    pub command_port: Option<u16>,

    /// With start: the address to listen at [default: 127.0.0.1]
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Option<IpAddr>,

    /// With other commands: reach the daemon at its port for commands, HOST[:PORT]
    #[arg(long, global = true, value_name = "ADDR", hide_short_help = true)]
    pub gpmd: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start the daemon; returns once it answers
    ///
    /// Starts gpmd in the background and returns once its ports answer. Where one runs
    /// already, says so and exits 0.
    Start {
        /// Stay in the foreground and log to standard error (also `-nd`, no daemon)
        #[arg(long)]
        foreground: bool,
        #[arg(short = 'n', hide = true)]
        no: bool,
        #[arg(short = 'd', hide = true)]
        daemon: bool,
        /// How the background process is told what it is
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Stop the daemon in order: nodes are told, uploads end whole or not at all
    #[command(alias = "stop")]
    Kill,
    /// Say whether the daemon runs, where, and which nodes are live
    Status,
    /// Upload, list, fetch and remove modules
    Wasm {
        #[command(subcommand)]
        command: Wasm,
    },
    /// Print a completion script for a shell
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

#[derive(Subcommand)]
pub enum Wasm {
    /// Upload a module; every node of the device can run it from then on
    ///
    /// Takes a core WebAssembly module or a component, binary or text (.wat). It is validated first
    /// and acknowledged once it is durable on disk. The same name, version and bytes again change
    /// nothing.
    Upload {
        /// What the module is called: lower-case words joined by hyphens
        #[arg(long)]
        name: String,
        /// Its semantic version, such as 1.2.3 or v1.2.3
        #[arg(long)]
        version: String,
        /// The file, or - for standard input
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List the modules of the home
    List,
    /// Show one version of a module: kind, size, hash, functions, WIT
    Show {
        /// NAME or NAME@VERSION
        module: String,
        #[arg(long)]
        version: Option<String>,
    },
    /// Fetch a module's bytes into a file
    Get {
        /// NAME or NAME@VERSION
        module: String,
        #[arg(long)]
        version: Option<String>,
        /// The file to write, or - for standard output [default: NAME-VERSION.wasm]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Remove a version of a module, or all of them; who runs one goes on
    #[command(alias = "rm")]
    Remove {
        /// NAME or NAME@VERSION
        module: String,
        #[arg(long)]
        version: Option<String>,
    },
    /// Choose the version that a call without one gets; without VERSION, the highest again
    Pin {
        /// NAME or NAME@VERSION
        module: String,
        version: Option<String>,
    },
}

impl Args {
    /// The home that was chosen, or the default.
    pub fn home(&self) -> Result<PathBuf> {
        match (&self.home, std::env::home_dir()) {
            (Some(home), _) if !home.as_os_str().is_empty() => Ok(home.clone()),
            (_, Some(user)) if !user.as_os_str().is_empty() => Ok(user.join(".ghost-network")),
            _ => Err(Error::new(Code::Syntax, "no home folder is known: give one with --home")),
        }
    }

    /// Takes from the home's `config.toml` what the command line and the environment leave open.
    pub fn settle(&mut self) -> Result<()> {
        let settings = Settings::read(&self.home()?)?.gpmd;
        self.listen = self.listen.or(settings.listen.map(|listen| listen.value));
        self.port = self.port.or(settings.port.map(|port| port.value));
        self.command_port = self.command_port.or(settings.command_port.map(|port| port.value));
        Ok(())
    }

    /// The ports that a daemon started with this listens on.
    pub fn ports(&self) -> Ports {
        Ports {
            listen: self.listen.unwrap_or(Ports::default().listen),
            nodes: self.port.unwrap_or(NODE_PORT),
            commands: self.command_port.unwrap_or(COMMAND_PORT),
        }
    }

    /// A conversation with the daemon, by the way that was chosen.
    pub fn control(&self, home: &Home) -> Result<Control> {
        match self.gpmd.as_deref() {
            None | Some("") => Control::connect(home),
            Some(text) => {
                let address = Address::typed(text, COMMAND_PORT).map_err(as_usage)?;
                Control::connect_by(home, &Route::at(address, home)?)
            }
        }
    }
}

/// An error of the command line: status 2.
pub fn as_usage(error: Error) -> Error {
    error.with_exit(2)
}

const EXAMPLES: &str = "\
Examples:
  gpmd start
  gpmd wasm upload --name=math --version=v0.0.1 --file=math.wasm
  gpmd wasm list
  gpmd kill";

const MANUAL: &str = "\
Examples:
  gpmd start
      Start the daemon of the home in the background.
  gpmd --home /tmp/other start -nd --port 0 --command-port 0
      Start another, for another home, in the foreground, on free ports.
  gpmd wasm upload --name=math --version=v0.0.1 --file=math.wasm
      Store a module; `math.add(1,2)` then works on every node of the device.
  gpmd wasm pin math 0.0.1
      Roll back to an earlier version; `gpmd wasm pin math` goes forward again.
  gpmd status --json
      What runs, for a script.

Settings: a flag stands above the environment, that above config.toml in the home folder ([gpmd] with
listen, port, command-port), that above the default.

Exit status:
  0  it was done
  1  a coded error, as `CODE: sentence` on standard error
  2  wrong usage
  141  the reader of a pipe has gone

Files, in the home folder:
  device.key          the home's key; whoever can read it can act as you
  ghost.modules.json  the index of modules; made to be read
  modules/            the modules, by their SHA-256
  gpmd.sock           where nodes find the daemon
  command.sock        where commands find it
  gpmd.json           what the running daemon says of itself
  gpmd.log            its log; gpmd.log.1 the one before, from 4 MiB on
  config.toml         settings of a person";
