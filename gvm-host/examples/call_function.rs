//! Calls a function of a module that is only a file, as a person would type it, and prints the result as WAVE.
//!
//! Run it with `cargo run -p gvm-host --example call_function -- FILE 'FUNCTION(ARGUMENTS)'`, for example
//! `cargo run -p gvm-host --example call_function -- gvm-host/samples/hello.wat 'greet("world")'`.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;
use std::time::Duration;

use gvm_host::{
    Args, Call, Compiler, Config, Engine, EngineConfig, Handle, Home, Limits, ModuleRef, Stdio, Target,
    compiler, daemon, inspect, wave, workers,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|word| word == compiler::WORD) {
        std::process::exit(compiler::child_main(&args.collect::<Vec<_>>()));
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, call] = &args[..] else {
        return Err("usage: call_function FILE 'FUNCTION(ARGUMENTS)'".into());
    };
    let (function, arguments) = call
        .strip_suffix(')')
        .and_then(|call| call.split_once('('))
        .ok_or("the call looks like 'greet(\"world\")'")?;
    let bytes: Arc<[u8]> = inspect::to_binary(&std::fs::read(file)?)?.into();

    let folder = tempfile::tempdir()?;
    let home = Home::open(folder.path().join("home"))?;
    let daemon::server::Start::Started(_gpmd) =
        daemon::server::Server::start(daemon::server::Config::new(home.clone()))?
    else {
        return Err("another gpmd already runs in this home".into());
    };
    let engine = Engine::new(EngineConfig::new(home.compiled(), Compiler::current()?));
    workers()?.block_on(async {
        let node = Handle::start(Config::new(home, engine)).await?;
        let limits = Limits { timeout: Some(Duration::from_secs(10)), ..Limits::default() };
        let target = Target::function(ModuleRef::Bytes(bytes.into()), function);
        let call = Call::new(target, Args::Text(arguments.to_owned())).limits(limits);
        let outcome = node.run(None, call, Stdio::new(&limits)).await;
        match (outcome.result?, outcome.ty) {
            (Some(value), Some(ty)) => println!("{}", wave::print(&value, &ty)),
            _ => println!("(no result)"),
        }
        node.shut_down().await;
        Ok(())
    })
}
