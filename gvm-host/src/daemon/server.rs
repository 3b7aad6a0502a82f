//! The daemon: two ports, two sockets, a registry and a store, on one thread.
//!
//! In: a home, and a function to call for each stored module. Out: a running gpmd in this process, at most
//! one per home. Must not know: the requests (the handlers), the life of a connection (`connections.rs`),
//! command-line arguments, signals.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, spawn_blocking};

use super::connections::{Accepting, Of, Places, Until, accept};
pub use super::network::ChosenRelay;
use super::network::fetch::Fetched;
use super::network::listening::{self, Listening};
use super::network::{Network, connecting, gossip, links, nearby};
use super::offers;
use super::registry::Registry;
use super::registry_handler::{Endings, Subscribers};
use super::stop::{Step, Stop};
use crate::base::error::{Code, Error, Result};
use crate::base::home::{Home, HomeId};
use crate::base::id::{Hash, Name};
use crate::gpmd::record::{Lock, Record};
use crate::modules::history::History;
use crate::modules::store::Store;
use crate::wire::connector::Door;
use crate::wire::gate::Gate;
use crate::wire::hello::Hello;
use crate::wire::transport::Listener;

/// The default port for nodes.
pub const NODE_PORT: u16 = 5989;

/// The default port for commands.
pub const COMMAND_PORT: u16 = 1111;

/// A network of more devices is large. Measured with 50: each gpmd then needs 28 MiB, and sends 9 kB per second.
pub const SMALL: usize = 50;

/// The most uploads at the same time: they share one disk, and each has a temporary file.
const MOST_UPLOADS: usize = 16;

/// Listeners that wait to be served.
const LISTENERS: usize = 16;

/// The configuration of gpmd.
pub struct Config {
    pub home: Home,
    pub ports: Ports,
    /// The addresses on which to listen for nodes and other devices. None: the loopback interface, or all interfaces while
    /// other devices may come.
    pub listen: Vec<IpAddr>,
    /// The name of the device in its network. `None` keeps the name that it has; at first, that of the host.
    pub device: Option<Name>,
    /// The relay at which devices meet that cannot reach each other. `None` keeps the choice that was made before; at first
    /// there is none.
    pub relay: Option<ChosenRelay>,
    /// Whether to look for the devices of the network by multicast DNS, and to be found so.
    pub nearby: bool,
    /// In a network of more devices, this one keeps connections to a few others, and learns of the rest by gossip.
    pub small: usize,
    /// Called with the hash of every stored module, on a thread that may block.
    pub on_stored: Option<Box<dyn Fn(Hash) + Send + Sync>>,
}

impl Config {
    /// Returns the configuration for this home: free ports, no multicast DNS, nothing to do for stored modules.
    pub fn new(home: Home) -> Config {
        Config {
            home,
            ports: Ports::default(),
            listen: Vec::new(),
            device: None,
            relay: None,
            nearby: false,
            small: SMALL,
            on_stored: None,
        }
    }
}

/// The ports on which gpmd listens, in addition to its sockets. Port 0 selects a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Where the port for commands is.
    pub listen: IpAddr,
    /// For nodes.
    pub nodes: u16,
    pub commands: u16,
}

impl Default for Ports {
    /// Returns free ports of the loopback interface.
    fn default() -> Ports {
        Ports { listen: Ipv4Addr::LOCALHOST.into(), nodes: 0, commands: 0 }
    }
}

/// The result of [`Server::start`].
pub enum Start {
    Started(Server),
    /// Another gpmd runs in the home. Has its record, if it has written one yet.
    Running(Option<Record>),
}

/// A gpmd that runs in this process. Dropping it stops gpmd in an orderly way and waits for its end.
pub struct Server {
    record: Record,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Asks a gpmd of this process to stop. Cheap to clone; `Send + Sync`.
#[derive(Clone, Debug)]
pub struct Stopper(mpsc::Sender<String>);

impl Stopper {
    /// Asks gpmd to stop, without waiting. Further calls have no effect.
    pub fn stop(&self, reason: &str) {
        let _ = self.0.try_send(reason.to_owned());
    }
}

impl Server {
    /// Starts gpmd. When this returns, both ports and both sockets answer.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` or `VERSION_MISMATCH` if the index cannot be read, `PORT_IN_USE` if another process
    /// listens on its ports or sockets, `SYNTAX` if the device does not have the address, `HOME_INSECURE` if
    /// other users can read the device key, `STORAGE_FULL`, `INTERNAL`.
    pub fn start(config: Config) -> Result<Start> {
        let Some(lock) = Lock::take(&config.home)? else {
            return Ok(Start::Running(Record::read(&config.home)));
        };
        let (ask, asked) = mpsc::channel(1);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("gpmd".into())
            .spawn(move || serve(config, lock, asked, &ready))
            .map_err(|error| Error::io("cannot start gpmd's thread", error))?;
        match started.recv() {
            Ok(record) => Ok(Start::Started(Server { record, stopper: Stopper(ask), thread: Some(thread) })),
            Err(_) => match join(thread) {
                Err(error) => Err(error),
                Ok(()) => Err(Error::internal("gpmd ended before it was ready")),
            },
        }
    }

    /// Returns its process, version and addresses.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Returns a handle that stops gpmd from any thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until gpmd has ended, after a request of a command or a [`Stopper`].
    ///
    /// # Errors
    /// The error that ended it instead.
    pub fn wait(mut self) -> Result<()> {
        self.thread.take().map_or(Ok(()), join)
    }

    /// Stops gpmd in an orderly way: nodes are told, and each upload is stored completely or not at all.
    ///
    /// # Errors
    /// The error that ended gpmd before or during the stop.
    pub fn stop(self, reason: &str) -> Result<()> {
        self.stopper.stop(reason);
        self.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.stop("shut down");
        if let Some(thread) = self.thread.take()
            && let Err(error) = join(thread)
        {
            tracing::error!(%error, "gpmd failed");
        }
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Error::internal("gpmd's thread panicked")))
}

/// What the handlers share. Belongs to the server's thread.
pub struct State {
    pub home: Home,
    pub store: Arc<Store>,
    /// What has changed in the index of the store, for other devices.
    pub history: RefCell<History>,
    /// Modules of other devices.
    pub fetched: Fetched,
    pub registry: RefCell<Registry>,
    pub endings: Endings,
    pub network: Network,
    pub subscribers: Subscribers,
    pub uploads: Gate,
    pub places: Places,
    /// The device and inode of the home's folder.
    folder: Option<(u64, u64)>,
    /// Held while an upload is checked.
    pub checking: tokio::sync::Mutex<()>,
    pub record: Record,
    pub stop: Stop,
    on_stored: Arc<dyn Fn(Hash) + Send + Sync>,
}

impl State {
    /// Returns the id of the home.
    pub fn home_id(&self) -> HomeId {
        self.home.id()
    }

    /// Returns gpmd's greeting.
    pub fn hello(&self) -> Hello {
        Hello::of(self.home.id())
    }

    /// Changes the store on a thread that may block. Subscribers are notified of the new index before this
    /// returns.
    ///
    /// # Errors
    /// Those of the change.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        let before = store.index();
        let result = spawn_blocking(move || change(&store)).await.map_err(ended)??;
        let after = self.store.index();
        if after.revision != before.revision {
            self.subscribers.announce(&after.since(&before)).await;
            self.network.changed();
        }
        Ok(result)
    }

    /// Calls [`Config::on_stored`] for a stored module.
    pub fn stored(&self, hash: Hash) {
        let on_stored = self.on_stored.clone();
        drop(spawn_blocking(move || on_stored(hash)));
    }
}

/// Runs the server's thread.
fn serve(
    config: Config,
    lock: Lock,
    mut asked: mpsc::Receiver<String>,
    ready: &std::sync::mpsc::SyncSender<Record>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| Error::io("cannot start gpmd's runtime", error))?;
    let home = config.home.clone();
    let result = runtime.block_on(async {
        let (accept_more, mut more) = mpsc::channel(LISTENERS);
        let listening = Listening::new(config.listen.clone(), config.ports.nodes);
        let (device, relay, is_nearby) = (config.device.clone(), config.relay.clone(), config.nearby);
        let network = Network::open(&config.home, device, relay, listening, accept_more, config.small)?;
        network.start_tunnels()?;
        let node_ports = listening::start(&network).map_err(|error| taken(error, config.ports.nodes))?;
        let ports = config.ports;
        let command_port = SocketAddr::new(ports.listen, ports.commands);
        let command_port = Listener::bind_tcp(command_port, network.tls_for_commands()?);
        let command_port = command_port.map_err(|error| taken(error, ports.commands))?;
        let node_socket = Listener::bind(&config.home.gpmd_socket())?;
        let command_socket = Listener::bind(&config.home.command_socket())?;
        let door = Door::bind(&config.home.dial_socket())?;
        let bound = Bound {
            address: network.own_address().to_string(),
            command_address: command_port.address().to_string(),
            socket: node_socket.address().to_string(),
            command_socket: command_socket.address().to_string(),
        };
        let state = Rc::new(open(config, network, bound)?);
        let (address, commands) = (&state.record.address, &state.record.command_address);
        tracing::info!(home = %state.home.path().display(), address, commands, "gpmd is running");
        let until = Until::default();
        let own = [
            Accepting {
                listener: node_socket,
                of: Of::NodesAndDevices,
                offer: offers::nodes,
                until: until.clone(),
            },
            Accepting {
                listener: command_socket,
                of: Of::Commands,
                offer: offers::commands,
                until: until.clone(),
            },
            Accepting { listener: command_port, of: Of::Commands, offer: offers::commands, until },
        ];
        let mut accepting = JoinSet::new();
        for listener in own.into_iter().chain(node_ports) {
            accepting.spawn_local(accept(listener, state.clone()));
        }
        accepting.spawn_local(connecting::serve(door, state.clone()));
        links::settle(&state).await;
        let gossiping = tokio::task::spawn_local(gossip::follow(state.clone()));
        let following = tokio::task::spawn_local(listening::follow(state.clone()));
        let looking = is_nearby.then(|| tokio::task::spawn_local(nearby::follow(state.clone())));
        let _ = ready.send(state.record.clone());
        loop {
            tokio::select! {
                reason = asked.recv() => {
                    state.stop.ask(reason.unwrap_or_else(|| "shut down".into()));
                    break;
                }
                () = state.stop.reach(Step::Asked) => break,
                Some(listener) = more.recv() => {
                    accepting.spawn_local(accept(listener, state.clone()));
                }
            }
        }
        state.stop.carry_out(&state.subscribers).await;
        while accepting.join_next().await.is_some() {}
        let _ = following.await;
        let _ = gossiping.await;
        if let Some(looking) = looking {
            let _ = looking.await;
        }
        tracing::info!("gpmd has ended");
        Ok(())
    });
    // The record is removed before the lock is released, so that no record exists without a lock.
    Record::remove(&home);
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(lock);
    result
}

/// The addresses on which gpmd listens.
struct Bound {
    address: String,
    command_address: String,
    socket: String,
    command_socket: String,
}

/// Explains that a port is in use.
fn taken(error: Error, port: u16) -> Error {
    match error.code() {
        Code::PortInUse => Error::new(
            Code::PortInUse,
            format!("port {port} is already in use, by the gpmd of another home or another program"),
        )
        .with_help(
            "choose other ports with `--port` and `--command-port`, or free ones with \
             `gpmd start --port 0 --command-port 0`",
        ),
        _ => error,
    }
}

fn open(config: Config, network: Network, bound: Bound) -> Result<State> {
    let store = Arc::new(Store::open(&config.home)?);
    let history = History::new(uuid::Uuid::new_v4().as_u64_pair().1, store.index());
    remove_stale_sockets(&config.home.nodes());
    let record = Record {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        address: bound.address,
        command_address: bound.command_address,
        socket: bound.socket,
        command_socket: bound.command_socket,
        since_ms: now_ms(),
    };
    record.write(&config.home)?;
    Ok(State {
        fetched: Fetched::read(&config.home),
        store,
        history: RefCell::new(history),
        registry: RefCell::default(),
        endings: Endings::default(),
        network,
        subscribers: Subscribers::default(),
        uploads: Gate::new(MOST_UPLOADS),
        places: Places::new(open_files()),
        folder: folder_of(&config.home),
        checking: tokio::sync::Mutex::default(),
        record,
        stop: Stop::default(),
        home: config.home,
        on_stored: config.on_stored.map_or_else(|| Arc::new(|_| {}) as _, Arc::from),
    })
}

/// Removes the sockets of nodes that crashed. The socket of a running node answers and is kept.
fn remove_stale_sockets(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        crate::wire::unix::remove_stale(&entry.path());
    }
}

impl State {
    /// Returns whether the home is still the folder that it was when gpmd started.
    pub fn has_home(&self) -> bool {
        folder_of(&self.home) == self.folder
    }
}

fn folder_of(home: &Home) -> Option<(u64, u64)> {
    std::fs::metadata(home.path()).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Returns how many files this process may open.
fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Returns the time in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the error of a blocking task that panicked or was aborted.
pub fn ended(error: JoinError) -> Error {
    Error::internal(format!("a task of gpmd failed: {error}")).with_source(error)
}
