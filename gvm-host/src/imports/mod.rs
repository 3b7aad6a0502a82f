//! What a guest may import, and what its node grants it.
//!
//! In: a node's grants, a call's streams and arguments. Out: linkers for both kinds of module, and
//! the WASI context of one instance. Deny by default: a guest gets arguments, clocks, randomness,
//! its output, and nothing else that is not in [`Grants`]. Must not know: who calls.

pub mod nodes;
pub mod offered;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Engine;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiView};

use crate::call::Stream;
use crate::engine::State;
use crate::engine::streams::{Input, Outlet, Output};
use crate::error::{Code, Error, Result};
use crate::limits::{self, Limits};

/// A host folder that guests see under a name of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    pub host: PathBuf,
    pub guest: String,
    pub read_only: bool,
}

/// What a node lets its guests have. The default is nothing. Grants come from the node that runs
/// the guest, never from the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub dirs: Vec<Dir>,
    pub env: Vec<(String, String)>,
    /// Addresses that guests may reach over TCP and UDP.
    pub net: Vec<SocketAddr>,
    /// Whether any of `net` was given by name, which guests then may look up.
    pub names: bool,
    /// Whether guests may use the network of nodes as this node itself may.
    pub nodes: bool,
}

impl Grants {
    /// Allows an address, or every address that a name stands for now.
    ///
    /// # Errors
    /// `SYNTAX` where it is no `HOST:PORT`, `INTERNAL` where the name cannot be looked up.
    pub fn allow_net(&mut self, host_port: &str) -> Result<()> {
        if let Ok(address) = host_port.parse() {
            self.net.push(address);
            return Ok(());
        }
        let well_formed = host_port.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !well_formed {
            return Err(Error::new(Code::Syntax, format!("{host_port:?} is no HOST:PORT")));
        }
        let found = host_port.to_socket_addrs().map_err(|error| {
            let sentence =
                format!("{host_port:?} cannot be looked up ({error}): correct it, or give its address");
            Error::new(Code::Syntax, sentence).with_source(error)
        })?;
        self.net.extend(found);
        self.names = true;
        Ok(())
    }
}

/// What a call waits for before it runs, in words for whoever shows it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Preparing(Arc<Mutex<Option<String>>>);

/// It waits for as long as this lives.
pub struct Waits<'a>(&'a Preparing);

impl Preparing {
    /// Begins to wait.
    pub fn begin(&self, what: String) -> Waits<'_> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        Waits(self)
    }

    /// What it waits for now.
    pub fn what(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The streams of one call and what the guest is told of them.
#[derive(Clone)]
pub struct Stdio {
    pub output: Output,
    pub preparing: Preparing,
    /// None is an input that is empty.
    pub input: Option<Input>,
    pub stdin_terminal: bool,
    pub stdout_terminal: bool,
    pub stderr_terminal: bool,
}

impl Stdio {
    /// Output up to a limit that no terminal shows, and no input.
    pub fn new(limits: &Limits) -> Stdio {
        Stdio {
            output: Output::new(limits.output.unwrap_or(limits::OUTPUT)),
            preparing: Preparing::default(),
            input: None,
            stdin_terminal: false,
            stdout_terminal: false,
            stderr_terminal: false,
        }
    }
}

/// Linkers with everything that any guest may import, made once an engine.
pub(crate) struct Linkers {
    pub core: wasmtime::Linker<State>,
    pub component: wasmtime::component::Linker<State>,
}

impl Linkers {
    pub fn new(engine: &Engine) -> wasmtime::Result<Linkers> {
        let mut core = wasmtime::Linker::new(engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut core, State::wasi)?;
        wasmtime_wasi::p0::add_to_linker_async(&mut core, State::wasi)?;
        let mut component = wasmtime::component::Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut component)?;
        nodes::add_to_linker(&mut component)?;
        Ok(Linkers { core, component })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        self.wasi().ctx()
    }
}

/// The WASI context of one instance, for both previews. Its streams lead through the outlet.
pub(crate) fn wasi(grants: &Grants, stdio: &Stdio, outlet: &Outlet, argv: &[String]) -> Result<WasiP1Ctx> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(argv)
        .envs(&grants.env)
        .stdin(outlet.reader(stdio.stdin_terminal))
        .stdout(outlet.writer(Stream::Stdout, stdio.stdout_terminal))
        .stderr(outlet.writer(Stream::Stderr, stdio.stderr_terminal));
    for dir in &grants.dirs {
        let perms = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder.preopened_dir(&dir.host, &dir.guest, perms).map_err(|error| {
            Error::new(Code::Syntax, format!("--dir {}: {error:#}", dir.host.display())).with_exit(2)
        })?;
    }
    if grants.net.is_empty() {
        builder.allow_tcp(false).allow_udp(false);
    } else {
        let allowed: Arc<[SocketAddr]> = grants.net.as_slice().into();
        builder.allow_ip_name_lookup(grants.names).socket_addr_check(move |address, reason| {
            use wasmtime_wasi::sockets::SocketAddrUse;
            // Binding to any port of one's own is what a client does before it connects.
            let own =
                matches!(reason, SocketAddrUse::TcpBind | SocketAddrUse::UdpBind) && address.port() == 0;
            let yes = own || allowed.contains(&address);
            Box::pin(async move { yes })
        });
    }
    Ok(builder.build_p1())
}
