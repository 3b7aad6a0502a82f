//! Serves a session: one node lets another call one function, for one minute, and nothing else.
//!
//! Run it with `cargo run -p gvm-host --example serve_session`. It prints what the second node may call, the
//! result of a permitted call, and the error of a call that is not permitted.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use gvm_host::daemon::server::{self, Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::{
    Args, Call, Code, Compiler, Config, Engine, EngineConfig, Handle, Home, Limits, ModuleRef, Stdio, Target,
    Value, compiler, inspect, workers,
};

const COUNTER: &str = r#"(module (global $n (mut i32) (i32.const 0))
    (func (export "next") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
    (func (export "reset") (global.set $n (i32.const 0))))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|word| word == compiler::WORD) {
        std::process::exit(compiler::child_main(&args.collect::<Vec<_>>()));
    }
    let folder = tempfile::tempdir()?;
    let home = Home::open(folder.path().join("home"))?;
    let Start::Started(_gpmd) = Server::start(server::Config::new(home.clone()))? else {
        return Err("another gpmd already runs in this home".into());
    };
    let module = inspect::to_binary(COUNTER.as_bytes())?;
    let version = semver::Version::new(1, 0, 0);
    Control::connect(&home)?.upload(&"counter".parse()?, &version, &module, &mut |_progress| {})?;

    let engine = Engine::new(EngineConfig::new(home.compiled(), Compiler::current()?));
    workers()?.block_on(async {
        // The serving node: peers may call `counter.next`, in sessions of one minute.
        let config = Config::new(home.clone(), engine.clone())
            .name("server".parse()?)
            .allow_call("counter.next".parse()?)
            .session_time(Duration::from_secs(60));
        let server = Handle::start(config).await?;

        let client = Handle::start(Config::new(home, engine).name("client".parse()?)).await?;
        client.connect(server.name().clone()).await?;
        let rights = client.rights(server.name().clone()).await?;
        println!("may call: {}", rights.calls.unwrap_or_default().join(", "));

        let call = |function: &str| -> Result<Call, gvm_host::Error> {
            let target = Target::function(ModuleRef::stored("counter".parse()?), function);
            Ok(Call::new(target, Args::Values(Vec::new())))
        };
        let there = || Some(server.name().clone());
        let stdio = || Stdio::new(&Limits::default());
        match client.run(there(), call("next")?, stdio()).await.result? {
            Some(Value::S32(count)) => println!("next: {count}"),
            other => return Err(format!("unexpected result: {other:?}").into()),
        }
        match client.run(there(), call("reset")?, stdio()).await.result {
            Err(error) if error.code() == Code::NotPermitted => println!("{error}"),
            other => return Err(format!("`reset` was not refused: {other:?}").into()),
        }
        client.shut_down().await;
        server.shut_down().await;
        Ok(())
    })
}
