//! A node: the calls that run here, the connected nodes, and the handle that all users of the node share.
//!
//! In: a configuration; calls from the REPL, scripts, Python and guests. Out: outcomes and events. Must not
//! know: the terminal, flags, the environment. The handle is `Send + Sync`; the connections to gpmd and to
//! other nodes belong to one thread (`actor.rs`).

mod actor;
pub mod confine;
pub mod handle;
pub mod http;
mod joined;
mod lines;
pub mod live;
pub mod modules;
pub mod nested;
mod network;
pub mod runner;
mod served;
mod share;
pub mod waiting;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::base::home::Home;
use crate::base::id::Name;
use crate::base::limits::Limits;
use crate::call::rights::Rule;
use crate::engine::Engine;
use crate::imports::Grants;
use crate::peer::accept::Accept;
use crate::wire::transport::Address;
use tokio::runtime::Handle as Workers;

pub use self::handle::Handle;

/// The default address on which a node listens: a free port of the loopback interface.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The configuration of a node. [`Config::new`] has the defaults; each method changes one.
#[non_exhaustive]
pub struct Config {
    pub home: Home,
    /// The address of the home's gpmd. `None` means its socket in the home.
    pub gpmd: Option<Address>,
    /// The address on which other nodes reach this one, in addition to its socket. Port 0 selects a free one.
    pub listen: SocketAddr,
    /// `None` lets gpmd choose a name.
    pub name: Option<Name>,
    pub accept: Accept,
    /// The calls that peers may make here. Empty allows every call.
    pub allow_calls: Vec<Rule>,
    /// How long a peer's session here lasts. `None` lasts as long as its connection.
    pub session_time: Option<Duration>,
    pub grants: Grants,
    /// The limits of every call that runs here.
    pub limits: Limits,
    pub engine: Engine,
    /// The runtime that runs guests. `None` uses threads that all nodes of the process share.
    pub workers: Option<Workers>,
    /// Whether modules of other devices run here.
    foreign: bool,
}

impl Config {
    /// Returns the default configuration: gpmd's socket in the home, the loopback interface, all nodes of the
    /// home accepted, no grants, and only the limits of [`crate::base::limits`].
    pub fn new(home: Home, engine: Engine) -> Config {
        Config {
            home,
            gpmd: None,
            listen: LISTEN,
            name: None,
            accept: Accept::All,
            allow_calls: Vec::new(),
            session_time: None,
            grants: Grants::default(),
            limits: Limits::default(),
            engine,
            workers: None,
            foreign: true,
        }
    }

    /// Chooses the node's name.
    #[must_use]
    pub fn name(mut self, name: Name) -> Config {
        self.name = Some(name);
        self
    }

    /// Finds gpmd at this address and not at its socket in the home.
    #[must_use]
    pub fn gpmd(mut self, gpmd: Address) -> Config {
        self.gpmd = Some(gpmd);
        self
    }

    /// Listens at this address, beside the node's socket. Port 0 takes a free port.
    #[must_use]
    pub fn listen(mut self, listen: SocketAddr) -> Config {
        self.listen = listen;
        self
    }

    /// Accepts connections by this policy.
    #[must_use]
    pub fn accept(mut self, accept: Accept) -> Config {
        self.accept = accept;
        self
    }

    /// Lets peers call what this rule allows. Without any rule they may call everything.
    #[must_use]
    pub fn allow_call(mut self, rule: Rule) -> Config {
        self.allow_calls.push(rule);
        self
    }

    /// Lets peers call what these rules allow, in addition to earlier ones.
    #[must_use]
    pub fn allow_calls(mut self, rules: impl IntoIterator<Item = Rule>) -> Config {
        self.allow_calls.extend(rules);
        self
    }

    /// Runs only modules of the node's own home: no modules of other devices, and none that peers send.
    #[must_use]
    pub fn own_modules(mut self) -> Config {
        self.foreign = false;
        self
    }

    /// Ends each session of a peer after this time.
    #[must_use]
    pub fn session_time(mut self, time: Duration) -> Config {
        self.session_time = Some(time);
        self
    }

    /// Grants this to guests. The default grants nothing.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Config {
        self.grants = grants;
        self
    }

    /// Limits every call that runs here.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Config {
        self.limits = limits;
        self
    }

    /// Runs guests on this multi-threaded runtime.
    #[must_use]
    pub fn workers(mut self, workers: Workers) -> Config {
        self.workers = Some(workers);
        self
    }
}
