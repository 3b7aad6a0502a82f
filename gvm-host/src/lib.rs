//! The Ghost Virtual Machine as a library: nodes that run WebAssembly for each other, and the daemon where they
//! register. The programs `gvm` and `gpmd` and the Python package are built on it.
//!
//! - [`Home`] is the folder of one person on one device: keys, modules, sockets.
//! - [`Handle`] is a running node. It discovers and connects to other nodes, and it runs a [`Call`] here or on
//!   another node. A call ends in one [`Outcome`]: a [`Value`] or an [`Error`]. A handle is cheap to clone and
//!   `Send + Sync`. Dropping one of its futures stops the work, wherever it runs.
//! - [`Engine`] compiles and runs modules. [`Compiler`] names the program that compiles them.
//! - [`daemon::server::Server`] runs a home's gpmd in this process. [`gpmd::control::Control`] connects to a
//!   gpmd in any process, and uploads, lists and removes modules.
//! - [`parse`] parses calls as people type them. [`wave`] and [`json`] write values.
//!
//! [`limits`] has every limit with its reason; [`Grants`] says what a guest may use. `ARCHITECTURE.md` shows the
//! layers and the path of a call; `docs/errors.md` explains each error code. `gvm-host/examples` has whole
//! programs.
//!
//! # A network in one program
//!
//! ```standalone_crate
//! use gvm_host::daemon::server::{self, Server, Start};
//! use gvm_host::gpmd::control::Control;
//! use gvm_host::{
//!     Args, Call, Compiler, Config, Engine, EngineConfig, Handle, Home, Limits, ModuleRef, Stdio, Target, Value,
//!     compiler, inspect, workers,
//! };
//!
//! const MATH: &str = r#"(module (func (export "add") (param i32 i32) (result i32)
//!     (i32.add (local.get 0) (local.get 1))))"#;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Modules are compiled in a child process: this program, started with a special argument.
//!     let mut args = std::env::args_os();
//!     if args.nth(1).is_some_and(|word| word == compiler::WORD) {
//!         std::process::exit(compiler::child_main(&args.collect::<Vec<_>>()));
//!     }
//!     let folder = tempfile::tempdir()?;
//!     let home = Home::open(folder.path().join("home"))?;
//!     let Start::Started(_gpmd) = Server::start(server::Config::new(home.clone()))? else {
//!         return Err("the home has a gpmd already".into());
//!     };
//!     let bytes = inspect::to_binary(MATH.as_bytes())?;
//!     let version = semver::Version::new(1, 0, 0);
//!     Control::connect(&home)?.upload(&"math".parse()?, &version, &bytes, &mut |_progress| {})?;
//!
//!     let engine = Engine::new(EngineConfig::new(home.compiled(), Compiler::current()?));
//!     // Futures of nodes run on any tokio runtime; this one is shared by the nodes of the process.
//!     workers()?.block_on(async {
//!         let near = Handle::start(Config::new(home.clone(), engine.clone())).await?;
//!         let far = Handle::start(Config::new(home, engine)).await?;
//!         near.connect(far.name().clone()).await?;
//!
//!         let add = Target::function(ModuleRef::stored("math".parse()?), "add");
//!         let call = Call::new(add, Args::Values(vec![Value::S32(34), Value::S32(34)]));
//!         let there = Some(far.name().clone());
//!         let outcome = near.run(there, call, Stdio::new(&Limits::default())).await;
//!         assert_eq!(outcome.result?, Some(Value::S32(68)));
//!
//!         near.shut_down().await;
//!         far.shut_down().await;
//!         Ok(())
//!     })
//! }
//! ```

#[cfg(not(unix))]
compile_error!(
    "GVM needs Unix sockets, signals and file modes. It runs on Linux, it should run on macOS, and on Windows it \
     runs in WSL"
);

mod base;
mod call;
pub mod daemon;
mod engine;
pub mod gpmd;
mod imports;
mod modules;
mod node;
mod peer;
mod trust;
mod wire;

pub use base::bytes::{Bytes, Landing, Owner, Prepared as PreparedMemory, prepare};
pub use base::device::{DeviceId, NodeName, NodePattern};
pub use base::error::{CODES, Code, Effect, Error, Reason, Result};
pub use base::event::Event;
pub use base::home::{Home, HomeId};
pub use base::id::{Hash, Name, call_id, parse_version};
pub use base::limits::Limits;
pub use base::node::{Applicant, Life, NodeInfo, Secret};
pub use base::threads::workers;
pub use base::value::{Case, Field, FuncType, List, ResultType, Type, Value};
pub use base::{json, limits, wave};
pub use call::parse;
pub use call::rights::{Pattern, Rights, Rule, SessionRights};
pub use call::stdio::{Preparing, Stdio};
pub use call::streams::{Closed, Input, Output};
pub use call::{Args, Broken, Call, Chunk, ModuleBytes, ModuleRef, Outcome, Stream, Target};
pub use engine::{Compiler, Engine, EngineConfig, Entry, Function, Module, compiler};
pub use imports::authorities::Authorities;
pub use imports::{Dir, Grants};
pub use modules::file::{Content, ModuleFile};
pub use modules::{index, inspect, names, offered, store};
pub use node::http;
pub use node::live::Place;
pub use node::modules::Modules;
pub use node::nested::{Nested, Ready, SEPARATOR};
pub use node::runner::{Caller, Prepared, Runner};
pub use node::waiting::{look, wait, wait_for};
pub use node::{Config, Handle, LISTEN};
pub use peer::accept::Accept;
pub use peer::questions::Answering;
pub use trust::device::DeviceKey;
pub use trust::devices::{Devices, Known};
pub use trust::key::{PublicKey, SecretKey, Signature};
pub use trust::relay;
pub use trust::{certificate, roster};

pub use wire::value::size as size_in_message;

/// Helpers for text that people read: quotes for a shell, suggestions, escapes for text from guests and peers.
pub mod text {
    pub use crate::base::{inert, near, quote, sanitize};
}

/// Helpers for files and processes.
pub mod system {
    pub use crate::base::{durable, process};
    pub use crate::node::confine;
}

/// Addresses and connections, for programs that diagnose problems with them.
pub mod net {
    pub use crate::daemon::interfaces;
    pub use crate::wire::tls::Tls;
    pub use crate::wire::transport::{
        Address, Listener, OtherEnd, Place, Transport, dial, dial_words, host_and_port,
    };
    pub use crate::wire::unix::listener;
}

/// For the tests and benchmarks of this repository. It may change in any version.
#[doc(hidden)]
pub mod internals {
    pub use crate::daemon::{meeting, tunnels};
    pub mod engine {
        pub use crate::engine::{canonical, types};
    }
    pub mod trust {
        pub use crate::trust::*;
    }
    pub mod wire {
        pub use crate::wire::*;
    }
}
