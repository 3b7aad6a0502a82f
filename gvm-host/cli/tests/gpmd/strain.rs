//! Processes that take more of gpmd than they should: it bounds what each may take, and serves the others.
//!
//! In: registrations, subscriptions and connections, honest and not. Out: refusals with a code, and a gpmd that still answers. Must not
//! know: how gpmd keeps its limits.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gvm_host::gpmd::control::Control;
use gvm_host::internals::wire::hello::{self, Hello};
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::internals::wire::schema::gpmd_capnp::{
    index_subscriber, registered, registration, registry, registry_door, registry_greeting,
};
use gvm_host::net::{Address, dial};
use gvm_host::{Applicant, Code, Home};

use crate::{Bed, GPMD, applicant, assert_ok, connect, run_local, started, wait_for};

/// A process of the home that speaks to gpmd without the library's manners.
async fn greeted(home: &Home) -> (Connection, registry::Client) {
    let transport = dial(&Address::Unix(home.gpmd_socket()), None).await.unwrap();
    let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
    let mut greet = connection.first::<registry_door::Client>().greet_request();
    hello::write(&Hello::of(home.id()), greet.get().init_hello());
    let answer = greet.send().promise.await.unwrap();
    let registry_greeting::Ok(ok) = answer.get().unwrap().which().unwrap() else { panic!("refused") };
    (connection, ok.get_registry().unwrap())
}

async fn register(registry: &registry::Client, applicant: &Applicant) -> registration::Client {
    let mut request = registry.register_request();
    hello::write_applicant(applicant, request.get().init_node());
    request.get().set_secret(&[7; 16]);
    let answer = request.send().promise.await.unwrap();
    match answer.get().unwrap().which().unwrap() {
        registered::Ok(ok) => ok.get_registration().unwrap(),
        registered::Error(error) => panic!("{}", hello_error(error.unwrap())),
    }
}

fn hello_error(error: gvm_host::internals::wire::schema::error_capnp::error::Reader<'_>) -> gvm_host::Error {
    gvm_host::internals::wire::error::read(error)
}

#[test]
fn the_addresses_of_a_node_are_bounded() {
    let bed = Bed::new();
    let _server = started(&bed.home());
    run_local(async {
        let long = format!("unix:/{}", "x".repeat(bed.path().as_os_str().len() + 128));
        for addresses in [vec![long], (0..5).map(|place| format!("unix:/{place}")).collect()] {
            let refused = connect(&bed.home(), Applicant { addresses, ..applicant("", 1) }).await;
            assert_eq!(refused.err().unwrap().code(), Code::LimitExceeded);
        }
        connect(&bed.home(), applicant("", 1)).await.unwrap();
    });
}

#[test]
fn more_nodes_than_fit_into_a_message_are_found() {
    const NODES: u128 = 3000;
    let bed = Bed::new();
    let home = bed.home();
    let _server = started(&home);
    run_local(async {
        let (_connection, registry) = greeted(&home).await;
        let address = format!("unix:/{}", "x".repeat(home.path().as_os_str().len() + 100));
        let mut held = Vec::new();
        for id in 1..=NODES {
            let addresses = (0..4).map(|place| format!("{address}{place}")).collect();
            held.push(
                register(&registry, &Applicant { addresses, ..applicant(&format!("n-{id}"), id) }).await,
            );
        }
        let (link, _) = connect(&home, applicant("last", NODES + 1)).await.unwrap();
        let found = link.discover().await.unwrap();
        assert_eq!(found.len(), NODES as usize + 1);
        assert!(found.is_sorted_by(|a, b| a.name < b.name), "each once");
        // One answer has a part of them.
        let first = registry.discover_request().send().promise.await.unwrap();
        let first = first.get().unwrap();
        assert!(first.get_next() > 0 && first.get_nodes().unwrap().len() == first.get_next());
    });
}

/// Acknowledges the first announcements, answers pings, and acknowledges nothing after that.
struct Rude;

impl index_subscriber::Server for Rude {
    async fn changed(
        self: Rc<Self>,
        params: index_subscriber::ChangedParams,
        _: index_subscriber::ChangedResults,
    ) -> Result<(), capnp::Error> {
        match params.get()?.get_revision() {
            0 => Ok(()),
            _ => std::future::pending().await,
        }
    }

    async fn ping(
        self: Rc<Self>,
        _: index_subscriber::PingParams,
        _: index_subscriber::PingResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }
}

#[test]
fn a_subscriber_that_acknowledges_nothing_delays_two_uploads() {
    let bed = Bed::new();
    let home = bed.home();
    let _server = started(&home);
    run_local(async {
        let (connection, registry) = greeted(&home).await;
        let mut subscribe = registry.subscribe_request();
        subscribe.get().set_subscriber(capnp_rpc::new_client(Rude));
        let _subscription = subscribe.send().promise.await.unwrap();
        let mut times = Vec::new();
        for patch in 0..4 {
            let home = home.clone();
            let uploading = tokio::task::spawn_blocking(move || {
                let begun = Instant::now();
                let version = semver::Version::new(1, 0, patch);
                let control = Control::connect(&home).unwrap();
                control.upload(&"math".parse().unwrap(), &version, b"(module)", &mut |_| {}).unwrap();
                begun.elapsed()
            });
            times.push(uploading.await.unwrap());
        }
        let slow = |time: &Duration| *time >= Duration::from_millis(900);
        assert_eq!(times.iter().map(slow).collect::<Vec<_>>(), [true, true, false, false], "{times:?}");
        connection.closed().await;
    });
}

#[test]
fn gpmd_ends_when_its_home_is_removed() {
    let bed = Bed::new();
    bed.start();
    let pid = bed.pid();
    std::fs::remove_dir_all(bed.path()).unwrap();
    wait_for(|| rustix::process::test_kill_process(pid).is_err());
}

#[test]
fn a_gpmd_without_descriptors_for_more_nodes_still_takes_commands() {
    let bed = Bed::new();
    let start = format!("ulimit -n 64; exec {GPMD} start");
    let mut command = Command::new("sh");
    command.args(["-c", &start]).env("GHOST_HOME", bed.path());
    command.env("GPMD_PORT", "0").env("GPMD_COMMAND_PORT", "0").env("GPMD_MDNS", "off");
    assert_ok(&command.output().unwrap(), "GPMD is running in the background.\n");
    let held: Vec<UnixStream> =
        (0..100).map(|_| UnixStream::connect(bed.home().gpmd_socket()).unwrap()).collect();
    let begun = Instant::now();
    for _ in 0..3 {
        let status = bed.gpmd(&["status"]);
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(held);
}
