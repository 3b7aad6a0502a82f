//! Nodes that reach each other through sockets and through ports.
//!
//! In: nodes in this process. Out: calls that arrive by either way; the addresses that nodes report. Must not
//! know: the messages that cross.

use gvm_host::daemon::server;
use gvm_host::daemon::server::{Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::{
    Args, Call, Code, Compiler, Config, Engine, EngineConfig, Handle, Home, Limits, ModuleRef, Stdio, Target,
    Value, inspect, workers,
};

/// An engine that compiles with the real program.
pub fn engine(home: &Home) -> Engine {
    let compiler = Compiler::program(env!("CARGO_BIN_EXE_gvm")).args(["__compile"]);
    Engine::new(EngineConfig::new(home.compiled(), compiler).pooling(false))
}

#[test]
fn the_port_works_without_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(folder.path().join("home")).unwrap();
    let Start::Started(server) = Server::start(server::Config::new(home.clone())).unwrap() else {
        panic!("another runs")
    };
    let add = b"(module (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))";
    let add = inspect::to_binary(add).unwrap();
    let control = Control::connect(&home).unwrap();
    control.upload(&"math".parse().unwrap(), &semver::Version::new(1, 0, 0), &add, &mut |_| {}).unwrap();
    let engine = engine(&home);
    workers().unwrap().block_on(async {
        let config = |name: &str| Config::new(home.clone(), engine.clone()).name(name.parse().unwrap());
        // One node reaches gpmd through its port, the other through its socket.
        let by_port = config("a").gpmd(server.record().address.parse().unwrap());
        let a = Handle::start(by_port).await.unwrap();
        let b = Handle::start(config("b")).await.unwrap();
        let places = b.info().addresses.clone();
        assert_eq!(places[0], b.info().address);
        assert!(places[0].starts_with("unix:") && places[1].starts_with("tcp:127.0.0.1:"), "{places:?}");
        std::fs::remove_file(&places[0]["unix:".len()..]).unwrap();
        a.connect(b.name().clone()).await.unwrap();
        let add = Target {
            module: ModuleRef::Stored { name: "math".parse().unwrap(), version: None },
            interface: None,
            function: Some("add".into()),
        };
        let call = Call::new(add, Args::Values(vec![Value::S32(34), Value::S32(34)]));
        let outcome = a.run(Some(b.name().clone()), call, Stdio::new(&Limits::default())).await;
        assert_eq!(outcome.result.unwrap(), Some(Value::S32(68)));

        // A node that listens on all addresses reports one that can be dialled.
        let everywhere = config("everywhere").listen("0.0.0.0:0".parse().unwrap());
        let everywhere = Handle::start(everywhere).await.unwrap();
        let places = everywhere.info().addresses.clone();
        assert!(places[1].starts_with("tcp:") && !places[1].contains("0.0.0.0"), "{places:?}");
        std::fs::remove_file(&places[0]["unix:".len()..]).unwrap();
        a.connect(everywhere.name().clone()).await.unwrap();
        everywhere.shut_down().await;

        // A port that is in use is an error for a node too.
        let taken = b.info().addresses[1]["tcp:".len()..].parse().unwrap();
        let refused = Handle::start(config("c").listen(taken)).await;
        assert_eq!(refused.err().unwrap().code(), Code::PortInUse);
        b.shut_down().await;
        let gone = a.connect("b".parse().unwrap()).await;
        assert_eq!(gone.unwrap_err().code(), Code::NodeNotFound);
        a.shut_down().await;
    });
    drop(control);
    drop(server);
}
