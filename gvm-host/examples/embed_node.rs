//! Embeds a node in a program: a home, a gpmd, a node, and a call of a stored module.
//!
//! Run it with `cargo run -p gvm-host --example embed_node`. It prints `68`.

#![allow(clippy::print_stdout, reason = "an example prints")]

use gvm_host::daemon::server::{self, Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::{
    Args, Call, Compiler, Config, Engine, EngineConfig, Handle, Home, Limits, ModuleRef, Stdio, Target,
    Value, compiler, inspect,
};

const MATH: &str = r#"(module (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The node compiles modules in a child process. Here that child is this program, started with one extra word.
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|word| word == compiler::WORD) {
        std::process::exit(compiler::child_main(&args.collect::<Vec<_>>()));
    }

    // A home of its own for this example; a program would use `Home::open` with a folder that stays.
    let folder = tempfile::tempdir()?;
    let home = Home::open(folder.path().join("home"))?;
    let Start::Started(_gpmd) = Server::start(server::Config::new(home.clone()))? else {
        return Err("another gpmd already runs in this home".into());
    };
    let module = inspect::to_binary(MATH.as_bytes())?;
    let version = semver::Version::new(1, 0, 0);
    Control::connect(&home)?.upload(&"math".parse()?, &version, &module, &mut |_progress| {})?;

    // A runtime of the program's own: the node runs guests on it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let engine = Engine::new(EngineConfig::new(home.compiled(), Compiler::current()?));
    runtime.block_on(async {
        let config = Config::new(home, engine).name("kitchen".parse()?).workers(runtime.handle().clone());
        let node = Handle::start(config).await?;
        let add = Target::function(ModuleRef::stored("math".parse()?), "add");
        let call = Call::new(add, Args::Values(vec![Value::S32(34), Value::S32(34)]));
        let outcome = node.run(None, call, Stdio::new(&Limits::default())).await;
        match outcome.result? {
            Some(Value::S32(sum)) => println!("{sum}"),
            other => return Err(format!("unexpected result: {other:?}").into()),
        }
        node.shut_down().await;
        Ok(())
    })
}
