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
mod vouch;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::id::Name;
use crate::imports::Grants;
use crate::limits::Limits;
use crate::peer::accept::Accept;
use crate::peer::rights::Rule;
use crate::wire::transport::Address;

pub use self::handle::{Event, Handle};

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
    /// of the home, grants nothing and limits nothing but what [`crate::limits`] does.
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

/// The thread of this process that carries large values between nodes, shared by all its nodes.
///
/// # Errors
/// `INTERNAL` where the system gives no thread.
pub fn bulk() -> Result<&'static tokio::runtime::Runtime> {
    static BULK: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let threads = || {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        threads.worker_threads(1).thread_name("gvm-bulk").enable_all();
        threads
    };
    once(&BULK, threads, "starting the thread of large values")
}

/// The threads of this process that run wasm, shared by all its nodes.
///
/// # Errors
/// `INTERNAL` where the system gives no threads.
pub fn workers() -> Result<&'static tokio::runtime::Runtime> {
    static WORKERS: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let threads = || {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        threads.thread_name("gvm-worker").enable_all();
        threads
    };
    once(&WORKERS, threads, "starting the worker threads")
}

fn once(
    place: &'static OnceLock<tokio::runtime::Runtime>,
    threads: impl FnOnce() -> tokio::runtime::Builder,
    what: &str,
) -> Result<&'static tokio::runtime::Runtime> {
    if let Some(made) = place.get() {
        return Ok(made);
    }
    let made = threads().build().map_err(|error| Error::io(what, error))?;
    Ok(place.get_or_init(|| made))
}
