//! What a guest may import, and what its node grants it.
//!
//! In: a node's grants, a call's streams and arguments. Out: linkers for both kinds of module, and the WASI context of
//! one instance. By default a guest gets its arguments, clocks, randomness and its standard streams; everything else
//! must be in [`Grants`]. Must not know: the caller.

pub mod authorities;
pub(crate) mod http;
pub mod keyvalue;
pub mod net;
pub mod nodes;
pub(crate) mod outlet;
pub(crate) mod p1;
pub(crate) mod state;

use std::path::PathBuf;
use std::sync::OnceLock;

use wasmtime::Engine;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use self::outlet::Outlet;
use self::state::State;
use crate::base::error::{Code, Error, Result};
use crate::base::limits;
use crate::call::Stream;
use crate::call::stdio::Terminals;

/// The version of WASI 0.2 under which wasmtime defines its interfaces. A module may import any other 0.2.x.
pub(crate) const WASI: &str = "0.2.12";

/// A host folder, and the name under which guests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    pub host: PathBuf,
    pub guest: String,
    pub read_only: bool,
}

/// What a node grants its guests. The default is nothing. Grants come from the node that runs the guest, never from
/// the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub dirs: Vec<Dir>,
    pub env: Vec<(String, String)>,
    /// The addresses that guests may reach over TCP and UDP, and the names that they may look up.
    pub net: net::Net,
    /// The authorities whose certificates guests accept when they send requests over TLS.
    pub authorities: authorities::Authorities,
    /// The values of `wasi:config`.
    pub config: Vec<(String, String)>,
    /// Whether guests may use the network of nodes with the rights of this node.
    pub nodes: bool,
    /// Whether guests of stored modules may keep keys and values in the home.
    pub keyvalue: bool,
}

/// Linkers with everything that a guest may import. Each is created once per engine, with its first module.
#[derive(Default)]
pub(crate) struct Linkers {
    core: OnceLock<wasmtime::Linker<State>>,
    component: OnceLock<wasmtime::component::Linker<State>>,
}

impl Linkers {
    /// Returns the linker for core modules.
    pub fn core(&self, engine: &Engine) -> wasmtime::Result<&wasmtime::Linker<State>> {
        once(&self.core, || {
            let mut linker = wasmtime::Linker::new(engine);
            wasmtime_wasi::p1::add_to_linker_async(&mut linker, State::wasi)?;
            wasmtime_wasi::p0::add_to_linker_async(&mut linker, State::wasi)?;
            p1::add_to_linker(&mut linker)?;
            Ok(linker)
        })
    }

    /// Returns the linker for components.
    pub fn component(&self, engine: &Engine) -> wasmtime::Result<&wasmtime::component::Linker<State>> {
        once(&self.component, || {
            let mut linker = wasmtime::component::Linker::new(engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            net::add_to_linker(&mut linker)?;
            http::add_to_linker(&mut linker)?;
            keyvalue::add_to_linker(&mut linker)?;
            wasmtime_wasi_config::add_to_linker(&mut linker, State::config)?;
            nodes::add_to_linker(&mut linker)?;
            Ok(linker)
        })
    }
}

fn once<T>(place: &OnceLock<T>, make: impl FnOnce() -> wasmtime::Result<T>) -> wasmtime::Result<&T> {
    if let Some(made) = place.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(place.get_or_init(|| made))
}

/// Creates the WASI context of one instance, for both previews. Its streams use the outlet.
pub(crate) fn wasi(
    grants: &Grants,
    terminals: Terminals,
    outlet: &Outlet,
    argv: &[&str],
) -> Result<WasiP1Ctx> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(argv)
        .envs(&grants.env)
        .stdin(outlet.reader(terminals.stdin))
        .stdout(outlet.writer(Stream::Stdout, terminals.stdout))
        .stderr(outlet.writer(Stream::Stderr, terminals.stderr))
        .max_random_size(limits::RANDOM_BYTES)
        // `net` looks up names; WASI's own lookup is off.
        .allow_ip_name_lookup(false);
    for dir in &grants.dirs {
        let perms = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder.preopened_dir(&dir.host, &dir.guest, perms).map_err(|error| {
            Error::new(
                Code::Syntax,
                format!("cannot open the folder {} (`--dir`): {error:#}", dir.host.display()),
            )
            .with_exit(2)
        })?;
    }
    if grants.net.is_empty() {
        builder.allow_tcp(false).allow_udp(false);
    } else {
        let net = grants.net.clone();
        builder.allow_tcp(true).allow_udp(true).socket_addr_check(move |address, reason| {
            let yes = net.permits(address, reason);
            Box::pin(async move { yes })
        });
    }
    Ok(builder.build_p1())
}
