//! gpmd and its clients of different releases: each learns that, and neither hangs.
//!
//! In: greetings with another number of the protocol, on real sockets. Out: `VERSION_MISMATCH` on both sides; a node that goes on and
//! registers again when a gpmd of its release is back. Must not know: what changed between releases.

use std::rc::Rc;
use std::time::Duration;

use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::link::Event;
use gvm_host::internals::wire::error;
use gvm_host::internals::wire::hello::{self, Hello};
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::internals::wire::schema::gpmd_capnp::{
    control_door, control_greeting, registry_door, registry_greeting,
};
use gvm_host::internals::wire::schema::hello_capnp::PROTOCOL;
use gvm_host::net::{Address, Listener, dial};
use gvm_host::{Code, Error, Home};

use super::{Bed, applicant, connect, run_local, started};

/// A gpmd of another release. It greets and offers nothing.
struct Other {
    home: Home,
    protocol: u16,
}

impl Other {
    fn hello(&self) -> Hello {
        Hello { protocol: self.protocol, ..Hello::of(self.home.id()) }
    }
}

impl registry_door::Server for Other {
    async fn greet(
        self: Rc<Self>,
        _: registry_door::GreetParams,
        mut results: registry_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        hello::write(&self.hello(), results.get().init_ok().init_hello());
        Ok(())
    }
}

impl control_door::Server for Other {
    async fn greet(
        self: Rc<Self>,
        _: control_door::GreetParams,
        mut results: control_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        hello::write(&self.hello(), results.get().init_ok().init_hello());
        Ok(())
    }
}

/// Serves the sockets of a home as a gpmd of another release does. Does not end.
async fn serve(home: Home, [nodes, commands]: [Listener; 2], protocol: u16) {
    let mut connections = Vec::new();
    loop {
        let other = Other { home: home.clone(), protocol };
        let (transport, offered) = tokio::select! {
            node = nodes.accept() => (node, capnp_rpc::new_client::<registry_door::Client, _>(other).client),
            command = commands.accept() => (command, capnp_rpc::new_client::<control_door::Client, _>(other).client),
        };
        connections.push(Connection::start(
            transport.unwrap(),
            Side::Accepted,
            MessageLimits::CONTROL,
            Some(offered),
        ));
    }
}

#[track_caller]
fn is_mismatch(error: &Error) {
    assert_eq!(error.code(), Code::VersionMismatch, "{error}");
    assert!(error.message().contains("speaks protocol"), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("same release")), "{error:?}");
}

#[test]
fn gpmd_refuses_clients_of_other_releases() {
    let bed = Bed::new();
    let home = bed.home();
    let _server = started(&home);
    run_local(async {
        for protocol in [0, PROTOCOL - 1, PROTOCOL + 1, u16::MAX] {
            let said = Hello { protocol, ..Hello::of(home.id()) };
            let reach = async |socket| {
                let transport = dial(&Address::Unix(socket), None).await.unwrap();
                Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None)
            };
            let connection = reach(home.gpmd_socket()).await;
            let mut greet = connection.first::<registry_door::Client>().greet_request();
            hello::write(&said, greet.get().init_hello());
            let answer = greet.send().promise.await.unwrap();
            let Ok(registry_greeting::Error(told)) = answer.get().unwrap().which() else { panic!("greeted") };
            is_mismatch(&error::read(told.unwrap()));
            let connection = reach(home.command_socket()).await;
            let mut greet = connection.first::<control_door::Client>().greet_request();
            hello::write(&said, greet.get().init_hello());
            let answer = greet.send().promise.await.unwrap();
            let Ok(control_greeting::Error(told)) = answer.get().unwrap().which() else { panic!("greeted") };
            is_mismatch(&error::read(told.unwrap()));
        }
        connect(&home, applicant("", 1)).await.unwrap();
    });
}

#[test]
fn a_gpmd_of_another_release_is_refused_and_waited_out() {
    let bed = Bed::new();
    let home = bed.home();
    run_local(async {
        let server = started(&home);
        let (link, mut events) = connect(&home, applicant("", 1)).await.unwrap();
        let node = link.node();
        tokio::task::spawn_blocking(|| server.stop("replaced")).await.unwrap().unwrap();
        assert_eq!(events.recv().await, Some(Event::Lost("replaced".into())));
        // It starts in its place.
        let other =
            [home.gpmd_socket(), home.command_socket()].map(|socket| Listener::bind(&socket).unwrap());
        let other = tokio::task::spawn_local(serve(home.clone(), other, PROTOCOL + 1));
        is_mismatch(&connect(&home, applicant("", 2)).await.err().unwrap());
        let reached = home.clone();
        is_mismatch(
            &tokio::task::spawn_blocking(move || Control::connect(&reached).err()).await.unwrap().unwrap(),
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!link.is_up());
        other.abort();
        let _ = other.await;
        let server = started(&home);
        while events.recv().await != Some(Event::Back) {}
        assert_eq!(link.discover().await.unwrap()[0].life(), node.life());
        drop(link);
        tokio::task::spawn_blocking(|| drop(server)).await.unwrap();
    });
}
