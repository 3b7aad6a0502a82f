//! A node: what runs here, who is connected, and the one handle that all its faces share.
//!
//! In: a configuration; calls from the REPL, scripts, Python, guests. Out: outcomes and events. The
//! handle is `Send + Sync`; what speaks to others lives on one thread of its own (`actor.rs`). Must not
//! know: the terminal, flags, the environment.

mod actor;
pub mod handle;
mod joined;
pub mod live;
pub mod modules;
pub mod nested;
mod network;
pub mod runner;
mod served;
mod vouch;

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

/// Where a node listens unless a person says otherwise: a free port of the loopback interface.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a node is made with. [`Config::new`] has the defaults; each method changes one.
#[non_exhaustive]
pub struct Config {
    pub home: Home,
    /// Where the home's gpmd is; none for its socket in the home.
    pub gpmd: Option<Address>,
    /// Where other nodes may dial this one, beside its socket; port 0 takes a free one.
    pub listen: SocketAddr,
    /// None lets gpmd choose one.
    pub name: Option<Name>,
    pub accept: Accept,
    /// What peers may call here; everything where there are none.
    pub allow_calls: Vec<Rule>,
    /// How long a session that a peer holds here lasts; none ends with its connection.
    pub session_time: Option<Duration>,
    pub grants: Grants,
    /// Of every call that runs here.
    pub limits: Limits,
    pub engine: Engine,
    /// The runtime that runs guests; none takes threads that all nodes of the process share.
    pub workers: Option<Workers>,
}

impl Config {
    /// A node of this home that finds gpmd there, listens on the loopback interface, accepts every node
    /// of the home, grants nothing and limits nothing but what [`crate::base::limits`] does.
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
        }
    }

    /// Chooses the node's name. None lets gpmd choose one.
    #[must_use]
    pub fn name(mut self, name: impl Into<Option<Name>>) -> Config {
        self.name = name.into();
        self
    }

    /// Finds gpmd at this address and not at its socket in the home.
    #[must_use]
    pub fn gpmd(mut self, gpmd: impl Into<Option<Address>>) -> Config {
        self.gpmd = gpmd.into();
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

    /// Ends each session of a peer after this time.
    #[must_use]
    pub fn session_time(mut self, time: impl Into<Option<Duration>>) -> Config {
        self.session_time = time.into();
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
