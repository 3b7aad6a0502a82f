//! What a guest may import, and what its node grants it.
//!
//! In: a node's grants, a call's streams and arguments. Out: linkers for both kinds of module, and
//! the WASI context of one instance. Deny by default: a guest gets arguments, clocks, randomness,
//! its output, and nothing else that is not in [`Grants`]. Must not know: who calls.

pub mod net;
pub mod nodes;
pub mod offered;
pub(crate) mod p1;

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
    /// Addresses that guests may reach over TCP and UDP, and names that they may look up.
    pub net: net::Net,
    /// Whether guests may use the network of nodes as this node itself may.
    pub nodes: bool,
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
        p1::add_to_linker(&mut core)?;
        let mut component = wasmtime::component::Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut component)?;
        net::add_to_linker(&mut component)?;
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
    let net = grants.net.clone();
    // Names are looked up by `net`, whatever WASI's own lookup may do.
    let some = !net.is_empty();
    builder.allow_tcp(some).allow_udp(some).allow_ip_name_lookup(false).socket_addr_check(
        move |address, reason| {
            let yes = net.permits(address, reason);
            Box::pin(async move { yes })
        },
    );
    Ok(builder.build_p1())
}
