//! Sessions through the library's API: a program decides who may connect, and hears why its peers left.
//!
//! In: nodes in this process. Out: events, rights, and the errors of calls whose session ends. Must not know:
//! how nodes connect.

use gvm_host::daemon::server;
use gvm_host::daemon::server::{Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::{
    Accept, Args, Call, Code, Config, Effect, Event, Handle, Home, Limits, ModuleRef, Stdio, Target, inspect,
    workers,
};
use tokio::sync::broadcast;

use crate::nodes::engine;

/// `spin` writes a dot before it loops forever.
const MODULE: &[u8] = br#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\01\00\00\00.")
    (func (export "yes"))
    (func (export "no"))
    (func (export "spin")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (loop (br 0))))"#;

async fn next(events: &mut broadcast::Receiver<Event>) -> Event {
    tokio::time::timeout(std::time::Duration::from_secs(20), events.recv()).await.unwrap().unwrap()
}

fn function(name: &str) -> Target {
    Target {
        module: ModuleRef::Stored { name: "m".parse().unwrap(), version: None },
        interface: None,
        function: Some(name.into()),
    }
}

/// Creates a home with a gpmd that has the module.
fn stocked() -> (tempfile::TempDir, Home, Server) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(folder.path().join("home")).unwrap();
    let Start::Started(server) = Server::start(server::Config::new(home.clone())).unwrap() else {
        panic!("another runs")
    };
    let module = inspect::to_binary(MODULE).unwrap();
    let control = Control::connect(&home).unwrap();
    control.upload(&"m".parse().unwrap(), &semver::Version::new(1, 0, 0), &module, &mut |_| {}).unwrap();
    (folder, home, server)
}

/// Revoking a session also ends the revoking node's calls on the peer; so does shutting the node down.
#[test]
fn the_end_of_a_session_ends_both_directions() {
    let (_folder, home, _server) = stocked();
    let engine = engine(&home);
    workers().unwrap().block_on(async {
        let start = async |name: &str| {
            let name = name.parse().unwrap();
            Handle::start(Config::new(home.clone(), engine.clone()).name(name)).await.unwrap()
        };
        let (near, far) = (start("near").await, start("far").await);
        for revoked in [true, false] {
            near.connect(far.name().clone()).await.unwrap();
            let call = Call::new(function("spin"), Args::Text(String::new()));
            let stdio = Stdio::new(&Limits::default());
            let output = stdio.output.clone();
            let spinning = tokio::spawn({
                let (near, far) = (near.clone(), far.name().clone());
                async move { near.run(Some(far), call, stdio).await }
            });
            assert_eq!(output.next().await[0].data, b".");
            if revoked {
                near.revoke(far.name().clone()).await.unwrap();
            } else {
                let mut events = near.events();
                let leaving = tokio::spawn({
                    let near = near.clone();
                    async move { near.shut_down().await }
                });
                assert_eq!(next(&mut events).await, Event::Leaving { calls: 1 });
                near.hurry().await;
                leaving.await.unwrap();
            }
            let error = spinning.await.unwrap().result.unwrap_err();
            assert_eq!(error.code(), Code::NodeDown, "{error}");
            assert_ne!(error.effect(), Effect::NotStarted);
        }
    });
}

#[test]
fn a_program_decides_who_may_connect() {
    let (_folder, home, _server) = stocked();
    let engine = engine(&home);
    workers().unwrap().block_on(async {
        let config = |name: &str| Config::new(home.clone(), engine.clone()).name(name.parse().unwrap());
        let asks = config("far").accept(Accept::Ask).allow_call("m.yes".parse().unwrap());
        let (near, far) = (Handle::start(config("near")).await.unwrap(), Handle::start(asks).await.unwrap());
        let (mut near_events, mut far_events) = (near.events(), far.events());
        let name = far.name().clone();
        let denied = near.connect(name.clone()).await.unwrap_err();
        assert_eq!(denied.code(), Code::ConnectionDenied, "no one answers yet");
        let Event::Asked { id, .. } = next(&mut far_events).await else { panic!("not asked") };
        assert!(matches!(next(&mut far_events).await, Event::AskEnded { id: ended, .. } if ended == id));
        assert_eq!(far.answer(id, true).await.unwrap_err().code(), Code::NodeNotFound);

        let answering = far.answering();
        for yes in [false, true] {
            let answer = async {
                assert_eq!(next(&mut near_events).await, Event::Waiting { name: name.clone() });
                let Event::Asked { id, name } = next(&mut far_events).await else { panic!("not asked") };
                assert_eq!(name.as_str(), "near");
                far.answer(id, yes).await.unwrap();
                let why = if yes { "allowed" } else { "denied" }.to_owned();
                let allowed = Some(yes);
                assert_eq!(next(&mut far_events).await, Event::AskEnded { id, name, allowed, why });
            };
            let (connected, ()) = tokio::join!(near.connect(name.clone()), answer);
            assert_eq!(connected.is_ok(), yes);
        }
        assert_eq!(next(&mut far_events).await, Event::Connected { name: near.name().clone() });
        drop(answering);

        // A connected node knows its rights, and learns nothing beyond them.
        assert_eq!(near.rights(name.clone()).await.unwrap().calls, Some(vec!["m.yes".to_owned()]));
        assert_eq!(far.rights(near.name().clone()).await.unwrap().calls, None);
        assert!(near.describe(Some(name.clone()), function("yes")).await.is_ok());
        for target in ["no", "nothing"] {
            let refused = near.describe(Some(name.clone()), function(target)).await.unwrap_err();
            assert_eq!((refused.code(), refused.effect()), (Code::NotPermitted, Effect::NotStarted));
        }
        let instance = near.spawn(Some(name.clone()), function("yes"), Limits::default()).await.unwrap();
        assert!(near.instance(&instance).is_some());

        far.revoke(near.name().clone()).await.unwrap();
        assert_eq!(next(&mut near_events).await, Event::Down { name: name.clone(), why: "revoked".into() });
        assert!(near.instance(&instance).is_none(), "it ended with the session");
        assert_eq!(near.rights(name).await.unwrap_err().code(), Code::NodeNotConnected);
        far.shut_down().await;
        near.shut_down().await;
        assert_eq!(near.list().await.unwrap_err().code(), Code::NodeDown);
    });
}
