//! The client that commands use to talk to gpmd, from a plain thread.
//!
//! In: a home, and the requests of a command. Out: gpmd's answers. Must not know: command-line arguments,
//! terminals.
//!
//! Every function blocks. Inside an async runtime, call it from `spawn_blocking`.

use std::time::{Duration, Instant};

use semver::Version;
use tokio::runtime::LocalRuntime;
use tokio::time::timeout;

use super::link::ANSWER;
use super::record::{Record, is_running};
use super::route::{Route, not_running};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::{Name, parse_version};
use crate::base::inert;
use crate::base::node::NodeInfo;
use crate::base::process;
use crate::modules::index::Entry;
use crate::wire;
use crate::wire::hello::{self, Hello};
use crate::wire::rpc::{Connection, MessageLimits, Side};
use crate::wire::schema::gpmd_capnp::{
    alive, control, control_door, control_greeting, pinned, removed, status, upload, upload_begun, uploaded,
};

/// Bytes of a module sent in one message.
const PIECE: usize = 256 << 10;

/// How long gpmd may take to accept a piece of a module: enough for a slow disk.
const TAKE: Duration = Duration::from_secs(30);

/// How long gpmd may take to check and store a module, or to change its index.
const STORE: Duration = Duration::from_secs(300);

/// How long gpmd may take to stop. It waits for uploads.
const STOP: Duration = Duration::from_secs(40);

/// A connection to gpmd for commands. Belongs to one thread.
pub struct Control {
    // The order of the fields is the order of the drops: capabilities, then the connection, then the runtime.
    pub(super) control: control::Client,
    _connection: Connection,
    pub(super) runtime: LocalRuntime,
    home: Home,
    /// Whether the commands are for the gpmd of this home.
    pub(super) is_own: bool,
}

/// Answers gpmd's pings during an upload.
struct Alive;

impl alive::Server for Alive {
    async fn ping(
        self: std::rc::Rc<Self>,
        _: alive::PingParams,
        _: alive::PingResults,
    ) -> std::result::Result<(), capnp::Error> {
        Ok(())
    }
}

/// The state of gpmd and its nodes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    pub pid: u32,
    pub version: String,
    pub home: String,
    /// The port for nodes, `tcp:HOST:PORT`.
    pub address: String,
    /// The port for commands.
    pub command_address: String,
    /// The socket for nodes, `unix:PATH`.
    pub socket: String,
    /// The socket for commands.
    pub command_socket: String,
    /// Sorted by name.
    pub nodes: Vec<NodeInfo>,
    /// The number of modules in the home, counted by name.
    pub modules: u32,
    /// When gpmd started, in milliseconds since 1970.
    #[serde(rename = "since")]
    pub since_ms: i64,
}

/// The result of an upload.
#[derive(Clone, Debug, PartialEq)]
pub struct Uploaded {
    pub entry: Entry,
    /// False if the same bytes were already stored with this name and version.
    pub created: bool,
}

impl Control {
    /// Connects to the home's gpmd by its command socket.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `VERSION_MISMATCH`, `AUTH_FAILED`, `OVERLOADED`.
    pub fn connect(home: &Home) -> Result<Control> {
        Control::connect_by(home, &Route::commands(home))
    }

    /// Connects to the home's gpmd by the given route.
    ///
    /// # Errors
    /// Those of [`Control::connect`].
    pub fn connect_by(home: &Home, route: &Route) -> Result<Control> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .map_err(|error| Error::io("cannot start a runtime", error))?;
        let (connection, control) = runtime.block_on(async {
            let transport = route.dial().await?;
            let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
            let control = greet(home, route, connection.first()).await?;
            Ok::<_, Error>((connection, control))
        })?;
        Ok(Control { control, _connection: connection, runtime, home: home.clone(), is_own: true })
    }

    /// Returns the state of gpmd and its nodes.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `OVERLOADED`.
    pub fn status(&self) -> Result<Status> {
        let request = self.control.status_request();
        let answer = self.runtime.block_on(answered(ANSWER, request.send().promise))?;
        read_status(answer.get().and_then(|answer| answer.get_status()).map_err(failed)?)
    }

    /// Uploads a module. When this returns, the module is durable and every registered node has been told.
    /// `progress` receives the number of bytes that gpmd has accepted.
    ///
    /// # Errors
    /// `MODULE_INVALID`, `MODULE_EXISTS`, `STORAGE_FULL`, `OVERLOADED`, `GPMD_NOT_RUNNING`.
    pub fn upload(
        &self,
        name: &Name,
        version: &Version,
        bytes: &[u8],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Uploaded> {
        self.runtime.block_on(async {
            let upload = self.begin(name, version, bytes.len() as u64).await?;
            let mut sent = 0;
            for piece in bytes.chunks(PIECE) {
                let mut request = upload.write_request();
                request.get().set_offset(sent);
                request.get().set_data(piece);
                answered(TAKE, request.send()).await?;
                sent += piece.len() as u64;
                progress(sent);
            }
            let answer = answered(STORE, upload.finish_request().send().promise).await?;
            match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
                uploaded::Ok(ok) => {
                    let entry = ok.get_entry().and_then(super::entry::read).map_err(failed)?;
                    Ok(Uploaded { entry, created: ok.get_created() })
                }
                uploaded::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
            }
        })
    }

    async fn begin(&self, name: &Name, version: &Version, size: u64) -> Result<upload::Client> {
        let mut request = self.control.upload_request();
        let mut params = request.get();
        params.set_name(name.as_str());
        params.set_version(version.to_string());
        params.set_size(size);
        params.set_alive(capnp_rpc::new_client(Alive));
        let answer = answered(ANSWER, request.send().promise).await?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            upload_begun::Upload(upload) => upload.map_err(failed),
            upload_begun::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Removes one version of a module, or all of them. Returns the versions that were removed.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`, `STORAGE_FULL`, `GPMD_NOT_RUNNING`.
    pub fn remove(&self, name: &str, version: Option<&Version>) -> Result<Vec<Version>> {
        let mut request = self.control.remove_request();
        request.get().set_name(name);
        if let Some(version) = version {
            request.get().set_version(version.to_string());
        }
        let answer = self.runtime.block_on(answered(STORE, request.send().promise))?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            removed::Removed(versions) => {
                let versions = versions.map_err(failed)?;
                versions
                    .iter()
                    .map(|version| {
                        let text = version.map_err(failed)?;
                        parse_version(&String::from_utf8_lossy(text.as_bytes()))
                    })
                    .collect()
            }
            removed::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Chooses the version that a request without a version gets. `None` chooses the highest again.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`, `STORAGE_FULL`, `GPMD_NOT_RUNNING`.
    pub fn pin(&self, name: &str, version: Option<&Version>) -> Result<()> {
        let mut request = self.control.pin_request();
        request.get().set_name(name);
        if let Some(version) = version {
            request.get().set_version(version.to_string());
        }
        let answer = self.runtime.block_on(answered(STORE, request.send().promise))?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            pinned::Ok(()) => Ok(()),
            pinned::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Stops gpmd in an orderly way, and waits until its process has ended.
    ///
    /// # Errors
    /// `OVERLOADED` if it does not stop in time; `GPMD_NOT_RUNNING`.
    pub fn shut_down(self, reason: &str) -> Result<()> {
        let record = Record::read(&self.home);
        let mut request = self.control.shut_down_request();
        request.get().set_reason(reason);
        match self.runtime.block_on(answered(STOP, request.send().promise)) {
            // It ended before it could answer.
            Err(error) if error.code() == Code::GpmdNotRunning => {}
            other => drop(other?),
        }
        if !self.is_own {
            return Ok(());
        }
        let home = self.home.clone();
        drop(self);
        wait_until_gone(&home, record)
    }
}

fn wait_until_gone(home: &Home, record: Option<Record>) -> Result<()> {
    let started = Instant::now();
    while is_running(home) {
        if started.elapsed() > STOP {
            let message = format!("gpmd does not stop within {} seconds", STOP.as_secs());
            return Err(Error::new(Code::Overloaded, message).with_help("run `gvm doctor` to find out why"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // The daemon releases the lock last; its process ends within milliseconds after that.
    let last = Instant::now();
    while let Some(record) = &record
        && process::lives(record.pid)
        && last.elapsed() < Duration::from_millis(500)
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

async fn greet(home: &Home, route: &Route, greeter: control_door::Client) -> Result<control::Client> {
    let mut request = greeter.greet_request();
    hello::write(&Hello::of(home.id()), request.get().init_hello());
    let answer = answered(ANSWER, request.send().promise);
    let answer = answer.await.map_err(|error| route.wrong_port(error, "commands"))?;
    match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
        control_greeting::Ok(ok) => {
            hello::read(ok.get_hello().map_err(failed)?)?.admit(home.id())?;
            ok.get_control().map_err(failed)
        }
        control_greeting::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

fn read_status(from: status::Reader<'_>) -> Result<Status> {
    let text = |text: capnp::Result<capnp::text::Reader<'_>>| {
        text.map(|text| inert::line(&String::from_utf8_lossy(text.as_bytes())).into_owned()).map_err(failed)
    };
    Ok(Status {
        pid: from.get_pid(),
        version: text(from.get_version())?,
        home: text(from.get_home())?,
        address: text(from.get_address())?,
        command_address: text(from.get_command_address())?,
        socket: text(from.get_socket())?,
        command_socket: text(from.get_command_socket())?,
        nodes: from.get_nodes().map_err(failed)?.iter().map(hello::read_node).collect::<Result<_>>()?,
        modules: from.get_modules(),
        since_ms: from.get_since(),
    })
}

/// Waits for gpmd's answer, at most this long.
pub(super) async fn answered<T>(
    within: Duration,
    promise: impl Future<Output = std::result::Result<T, capnp::Error>>,
) -> Result<T> {
    match timeout(within, promise).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(Error::new(Code::Overloaded, "gpmd does not answer: it is suspended or overloaded")
            .with_help("run `gvm doctor` to find out which")),
    }
}

pub(super) fn failed(error: capnp::Error) -> Error {
    match error.kind {
        capnp::ErrorKind::Disconnected => not_running().with_source(error),
        _ => wire::error::from_capnp(error, "gpmd", Code::GpmdNotRunning),
    }
}
