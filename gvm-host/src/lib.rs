//! The Ghost Virtual Machine as a library: nodes that run WebAssembly for each other, and the daemon that knows
//! them. `gvm`, `gpmd` and the Python package are made of it; a program of yours may be, too.
//!
//! - [`home::Home`] is the folder that makes programs one person's: keys, modules, sockets.
//! - [`gpmd::server::Server`] is the daemon of a home in this process, [`gpmd::control::Control`] speaks with one
//!   anywhere: modules are uploaded through it.
//! - [`node::Handle`] is a node: it discovers, connects, and runs a [`call::Call`] here or there, which ends in one
//!   [`call::Outcome`] with a [`value::Value`] or an [`error::Error`]. Cheap to clone, `Send + Sync`; every future it
//!   gives may be dropped, which stops what it waits for, wherever that runs.
//! - [`repl::parse`] reads calls as people type them, [`wave`] and [`json`] write values.
//!
//! Limits are in [`limits`], what a guest may be granted in [`imports`]. `ARCHITECTURE.md` draws the path of a call
//! through these modules, `docs/errors.md` tells each error code and what to do about it.
//!
//! # A network in one program
//!
//! ```standalone_crate
//! use gvm_host::call::{Args, Call, ModuleRef, Target};
//! use gvm_host::engine::{Compiler, Engine, Settings, compiler, inspect};
//! use gvm_host::gpmd::control::Control;
//! use gvm_host::gpmd::server::{self, Server, Start};
//! use gvm_host::home::Home;
//! use gvm_host::imports::Stdio;
//! use gvm_host::limits::Limits;
//! use gvm_host::node::{self, Handle, workers};
//! use gvm_host::value::Value;
//!
//! const MATH: &str = r#"(module (func (export "add") (param i32 i32) (result i32)
//!     (i32.add (local.get 0) (local.get 1))))"#;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Modules are compiled in a child process: this very program, begun with a word of its own.
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
//!     let engine = Engine::new(Settings {
//!         pooling: false,
//!         compiled: home.compiled(),
//!         compiler: Compiler::current()?,
//!     });
//!     // Futures of nodes run on any tokio runtime; this one is theirs.
//!     workers()?.block_on(async {
//!         let near = Handle::start(node::Config::new(home.clone(), engine.clone())).await?;
//!         let far = Handle::start(node::Config::new(home, engine)).await?;
//!         near.connect(far.name().clone()).await?;
//!
//!         let add = Target {
//!             module: ModuleRef::Stored { name: "math".parse()?, version: None },
//!             interface: None,
//!             function: Some("add".to_owned()),
//!         };
//!         let call = Call::new(add, Args::Values(vec![Value::S32(34), Value::S32(34)]));
//!         let outcome = near.run_on(far.name().clone(), call, Stdio::new(&Limits::default())).await;
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
    "GVM stands on Unix sockets, signals and the modes of files: Linux is its platform, macOS should do, and on \
     Windows it runs in WSL"
);

pub mod call;
mod contain;
pub mod doctor;
pub mod durable;
pub mod engine;
pub mod error;
pub mod gpmd;
pub mod home;
pub mod id;
pub mod imports;
pub mod inert;
pub mod json;
pub mod key;
pub mod limits;
pub mod near;
pub mod node;
pub mod peer;
pub mod process;
pub mod quote;
pub mod repl;
pub mod settings;
pub mod signal;
pub mod value;
pub mod wave;
pub mod wire;
