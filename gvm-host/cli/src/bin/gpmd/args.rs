//! The arguments of `gpmd`.
//!
//! In: the command line, environment variables and the settings of the home. Out: plain values, and a
//! connection to the daemon. Must not know: what the commands do with them.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand};
use gvm_cli::settings::Settings;
use gvm_host::daemon::server::{COMMAND_PORT, ChosenRelay, NODE_PORT, Ports};
use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::route::Route;
use gvm_host::net::Address;
use gvm_host::{Code, Error, Home, Result};

/// The Ghost port mapper daemon: registers the nodes of a home and stores its modules
///
/// Each home folder has one gpmd. Nodes (`gvm`) register with it and find each other through it.
/// Modules that you upload to it can be called on every node of the home. When gpmd stops, nodes keep
/// running and stay connected to each other.
#[derive(Parser)]
#[command(name = "gpmd", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = MANUAL)]
pub struct Args {
    /// Home folder, with the key, modules, sockets and logs [default: ~/.ghost-network]
    ///
    /// The folder belongs to one user and has mode 0700. Several homes on a device are independent of
    /// each other.
    #[arg(long, global = true, value_name = "DIR", env = "GHOST_HOME", hide_env_values = true,
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub home: Option<PathBuf>,

    /// Print results and errors as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// Log more; -vv logs even more, and RUST_LOG selects the level for each module
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// With start: port for nodes; 0 takes a free port [default: 5989]
    ///
    /// Nodes and commands on this device do not need the port: they find the daemon by its sockets in
    /// the home. A connection to the ports must prove that it has the device key of the home.
    #[arg(long, global = true, env = "GPMD_PORT", value_name = "PORT", hide_env_values = true)]
    pub port: Option<u16>,

    /// With start: port for commands; 0 takes a free port [default: 1111]
    #[arg(long, global = true, env = "GPMD_COMMAND_PORT", value_name = "PORT", hide_env_values = true)]
    pub command_port: Option<u16>,

    /// With start: address to listen on, for example 192.0.2.7; may be repeated
    /// [default: 127.0.0.1, and all addresses while other devices may come]
    ///
    /// Other devices reach this one on the port for nodes. Without this option, gpmd listens on all
    /// addresses only while an invitation is open or the network has other devices.
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Vec<IpAddr>,

    /// With start: whether to look for other devices of the network by multicast DNS, and to be found so
    /// [default: on]
    #[arg(long, global = true, env = "GPMD_MDNS", value_enum, value_name = "SWITCH", hide_env_values = true)]
    pub mdns: Option<Switch>,

    /// With start: a network of more devices uses gossip. For tests.
    #[arg(long, global = true, env = "GPMD_SMALL", value_name = "DEVICES", hide = true)]
    pub small: Option<usize>,

    /// With start: relay for devices behind NATs, where this one meets the devices that it cannot reach directly: the line
    /// that `gpmd relay` printed, the URL of another relay, or n0 for public ones; `off` for none [default: off]
    ///
    /// The choice is remembered. A device that joins a network takes over the relay of the device that invited it, unless it
    /// has one. A relay sees only encrypted packets.
    #[arg(long, global = true, env = "GPMD_RELAY", value_name = "RELAY", hide_env_values = true)]
    pub relay: Option<ChosenRelay>,

    /// With status, wasm and kill: do it on another device of the network
    #[arg(long, global = true, value_name = "DEVICE")]
    pub on: Option<String>,

    /// With other commands: address of the daemon's port for commands, for example 192.0.2.7:1111
    /// [default: the socket in the home; default port: 1111]
    #[arg(long, global = true, value_name = "HOST[:PORT]", hide_short_help = true)]
    pub gpmd: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start the daemon in the background
    ///
    /// Returns when the daemon answers. If it is already running, prints that and exits with status 0.
    Start {
        /// Run in the foreground and log to standard error (short form: -nd, for "no daemon")
        #[arg(long)]
        foreground: bool,
        #[arg(short = 'n', hide = true)]
        no: bool,
        #[arg(short = 'd', hide = true)]
        daemon: bool,
        /// Name of this device in its network [default: the name of the host]
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        /// Be the process in the background; `start` passes this flag
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Stop the daemon: notifies the nodes, and completes or discards uploads in progress
    #[command(alias = "stop")]
    Kill,
    /// Show the daemon's process and addresses, and the running nodes
    Status,
    /// Invite another device to this network; prints the command to run there
    ///
    /// The line is good for one device and a limited time. Anyone who has it can join, so send it as
    /// you would send a password. Starts the daemon if it is not running.
    Invite {
        /// How long the invitation is open
        #[arg(long, value_name = "TIME", default_value = "10m")]
        expires: String,
        /// A member is a device of yours; a guest may only connect to nodes whose --accept names it
        #[arg(long, value_enum, default_value_t = InvitedRole::Member)]
        role: InvitedRole,
        /// Name of the other device in the network [default: the name that it has]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Show a QR code too
        #[arg(long)]
        qr: bool,
    },
    /// List the open invitations, or revoke one
    Invitations {
        #[command(subcommand)]
        command: Option<Invitations>,
    },
    /// Join the network of another device, with the line that `gpmd invite` printed there
    ///
    /// Starts the daemon if it is not running.
    Join {
        /// The line, beginning with gvm-join:
        line: String,
    },
    /// List the devices of the network: whether they are connected, how, and their nodes
    Devices,
    /// Remove another device from the network; it cannot return without a new invitation
    Remove {
        /// Name or id of the device
        device: String,
    },
    /// Leave the network: this device removes itself, and gets a new key and a network of its own
    Leave,
    /// Run a relay for devices behind NATs, for example on a rented machine; prints the line for `--relay`
    ///
    /// Runs in the foreground until it is interrupted. It listens on one port for TCP and UDP: the one of --port, or 5990. The
    /// relay passes on encrypted packets of devices that have the line, and cannot read them. The line stays the same as
    /// long as the home has the same device.key.
    Relay {
        /// Name or address at which devices reach the relay [default: the address of this machine]
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
    },
    /// Upload, list, download and remove modules
    Wasm {
        #[command(subcommand)]
        command: Wasm,
    },
    /// Print a completion script for a shell
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Subcommand)]
pub enum Invitations {
    /// Revoke an open invitation
    Revoke {
        /// The id, or its beginning
        id: String,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum InvitedRole {
    Member,
    Guest,
}

#[derive(Subcommand)]
pub enum Wasm {
    /// Upload a module, so that every node of the home can run it
    ///
    /// Accepts a core WebAssembly module or a component, as binary or text (.wat). Validates it, and
    /// returns when it is stored on disk. Uploading the same content with the same name and version again
    /// changes nothing.
    Upload {
        /// Name of the module: lower-case words joined by hyphens, for example my-tool
        #[arg(long)]
        name: String,
        /// Semantic version, for example 1.2.3 or v1.2.3
        #[arg(long)]
        version: String,
        /// The file to upload, or - for standard input
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List all modules and versions of the home, or of all devices
    List {
        /// Of all devices of the network that are up
        #[arg(long)]
        network: bool,
    },
    /// Show one version of a module: kind, size, hash, functions and WIT
    Show {
        /// NAME or NAME@VERSION, for example math@1.2.3
        module: String,
        /// The version [default: the pinned version, or the highest]
        #[arg(long)]
        version: Option<String>,
    },
    /// Download a module to a file
    Get {
        /// NAME or NAME@VERSION, for example math@1.2.3
        module: String,
        /// The version [default: the pinned version, or the highest]
        #[arg(long)]
        version: Option<String>,
        /// The file to write, or - for standard output [default: NAME-VERSION.wasm]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Remove one version of a module, or all versions; calls in progress continue
    #[command(alias = "rm")]
    Remove {
        /// NAME or NAME@VERSION, for example math@1.2.3
        module: String,
        /// The version [default: all versions]
        #[arg(long)]
        version: Option<String>,
    },
    /// Pin the version that calls use when they name none
    Pin {
        /// NAME or NAME@VERSION, for example math@1.2.3
        module: String,
        /// The version to pin; without it, calls use the highest version again
        version: Option<String>,
    },
}

impl Args {
    /// Returns the path of the home: from the options, or the default.
    pub fn home(&self) -> Result<PathBuf> {
        match (&self.home, std::env::home_dir()) {
            (Some(home), _) if !home.as_os_str().is_empty() => Ok(home.clone()),
            (_, Some(user)) if !user.as_os_str().is_empty() => Ok(user.join(".ghost-network")),
            _ => Err(Error::new(Code::Syntax, "this user has no home folder")
                .with_help("set the folder for GVM with `--home` or GHOST_HOME")),
        }
    }

    /// Fills in the options that neither the command line nor the environment sets, from `config.toml`.
    pub fn settle(&mut self) -> Result<()> {
        let settings = Settings::read(&self.home()?)?.gpmd;
        if self.listen.is_empty() {
            self.listen.extend(settings.listen.map(|listen| listen.value));
        }
        let switch = |on| if on { Switch::On } else { Switch::Off };
        self.mdns = self.mdns.or(settings.mdns.map(|mdns| switch(mdns.value)));
        self.relay = self.relay.take().or(settings.relay.map(|relay| relay.value));
        self.port = self.port.or(settings.port.map(|port| port.value));
        self.command_port = self.command_port.or(settings.command_port.map(|port| port.value));
        Ok(())
    }

    /// Returns the name for this device, if `start` was given one.
    pub fn device(&self) -> Option<&str> {
        match &self.command {
            Command::Start { device, .. } => device.as_deref(),
            _ => None,
        }
    }

    /// Returns the ports for a daemon that is started with these options.
    pub fn ports(&self) -> Ports {
        Ports {
            listen: self.listen.first().copied().unwrap_or(Ports::default().listen),
            nodes: self.port.unwrap_or(NODE_PORT),
            commands: self.command_port.unwrap_or(COMMAND_PORT),
        }
    }

    /// Connects to the daemon: at the address in `--gpmd`, or by its socket in the home; and to the one of another device
    /// through it if `--on` says so.
    pub fn control(&self, home: &Home) -> Result<Control> {
        let own = match self.gpmd.as_deref() {
            None | Some("") => Control::connect(home)?,
            Some(text) => {
                let address = Address::typed(text, COMMAND_PORT).map_err(as_usage)?;
                Control::connect_by(home, &Route::at(address, home)?)?
            }
        };
        match &self.on {
            Some(device) => own.on(device),
            None => Ok(own),
        }
    }

    /// Checks that `--on` is given only with commands that another device takes.
    pub fn check_on(&self) -> Result<()> {
        let is_taken = matches!(self.command, Command::Status | Command::Kill | Command::Wasm { .. });
        match &self.on {
            Some(_) if !is_taken => {
                let error = Error::new(Code::Syntax, "`--on` goes with `status`, `wasm` and `kill` only");
                Err(as_usage(error.with_help("run the command on the other device")))
            }
            _ => Ok(()),
        }
    }
}

/// Makes an error one of wrong usage: exit status 2.
pub fn as_usage(error: Error) -> Error {
    error.with_exit(2)
}

const EXAMPLES: &str = "\
Examples:
  gpmd start
  gpmd wasm upload --name=math --version=v0.0.1 --file=math.wasm
  gpmd wasm list
  gpmd invite
  gpmd kill";

const MANUAL: &str = "\
Examples:
  gpmd start
      Start the daemon of the home in the background.
  gpmd --home /tmp/other start -nd --port 0 --command-port 0
      Start the daemon of another home, in the foreground, on free ports.
  gpmd wasm upload --name=math --version=v0.0.1 --file=math.wasm
      Store a module. `math.add(1,2)` then works on every node of the home.
  gpmd wasm pin math 0.0.1
      Make calls use an earlier version. `gpmd wasm pin math` goes back to the highest.
  gpmd invite
      Print a line for another device. There, `gpmd join LINE` joins this network.
  gpmd relay --host vm.example.net
      Run a relay on a machine that all devices can reach, for those that cannot reach each other.
  gpmd --on pi wasm upload --name=math --version=v0.0.1 --file=math.wasm
      Store a module on another device of the network.
  gpmd status --json
      Show the status to a script.

Settings: flags override environment variables, which override config.toml in the home folder ([gpmd] with
listen, port, command-port, mdns, relay), which overrides the defaults.

Exit status:
  0    success
  1    an error, printed as `CODE: message` on standard error
  2    wrong usage
  141  the reader of a pipe closed it early

Files in the home folder:
  device.key          the private key of the device; anyone who can read it can act as you
  ghost.network.json  the devices of the network, each admitted or removed by a signature
  ghost.modules.json  the index of modules
  modules/            the modules, named by their SHA-256
  gpmd.sock           the socket for nodes
  command.sock        the socket for commands
  gpmd.json           process id and addresses of the running daemon
  gpmd.log            the log; at 4 MiB it becomes gpmd.log.1 and a new one begins
  config.toml         your settings";
