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

pub use self::handle::Handle;

/// Where a node listens unless a person says otherwise: a free port of the loopback interface.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a node is made with.
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
        }
    }
}
