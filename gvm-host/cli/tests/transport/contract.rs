//! The contract that every kind of transport keeps.
//!
//! In: a rig of each kind. Out: the same tests for each. Must not know: how a kind authenticates the other
//! end.

use std::time::{Duration, Instant};

use gvm_host::List;
use gvm_host::internals::wire::bulk::{Fetcher, Holder, Purpose, purpose, serve};
use gvm_host::internals::wire::large;
use gvm_host::internals::wire::large::{Blob, Content};
use gvm_host::internals::wire::rpc::{Closed, Connection, MessageLimits, Side};
use gvm_host::internals::wire::schema::value_capnp::Number;
use gvm_host::net::{Address, OtherEnd, Place, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::rig::{HANG, Kind, Rig, ask, echo, run};

const SOON: Duration = Duration::from_secs(2);

/// Runs every test of the contract over every kind.
macro_rules! contract {
    (@ $module:ident $kind:ident: $($test:ident)*) => {
        mod $module {
            use super::{Kind, run};
            $(#[test] fn $test() { run(super::$test(Kind::$kind)) })*
        }
    };
    ($($test:ident)*) => {
        contract!(@ memory Memory: $($test)*);
        contract!(@ unix Unix: $($test)*);
        contract!(@ tls Tls: $($test)*);
        contract!(@ tunnel Tunnel: $($test)*);
    };
}

contract! {
    greets_and_calls
    many_calls_at_once_are_not_confused
    a_large_message_passes_both_ways
    a_bulk_connection_carries_bytes
    an_orderly_end_loses_nothing
    an_abrupt_end_is_seen
    a_half_closed_connection_ends
    garbage_ends_only_its_connection
    a_silent_dialler_does_not_delay_others
    a_silent_side_is_noticed
}

async fn greets_and_calls(kind: Kind) {
    let rig = Rig::new(kind);
    let (near, far) = rig.talk().await;
    for end in [&near, &far] {
        match (kind, end.peer()) {
            (Kind::Memory, OtherEnd::InMemory) => {}
            (Kind::Unix, OtherEnd::Local { pid }) => assert_eq!(*pid, Some(std::process::id() as i32)),
            (Kind::Tls, OtherEnd::Home { at }) => {
                assert!(matches!(at, Place::Port(at) if at.ip().is_loopback()))
            }
            (Kind::Tunnel, OtherEnd::Home { at }) => assert_eq!(*at, Place::Tunnel),
            other => panic!("{other:?}"),
        }
    }
    let streams = rig.greet(&near).await;
    assert_eq!(echo(&streams, b"ghost", 7).await.unwrap(), b"ghostgh");
}

async fn many_calls_at_once_are_not_confused(kind: Kind) {
    let rig = Rig::new(kind);
    let (near, _far) = rig.talk().await;
    let streams = rig.greet(&near).await;
    let calls = (1..=1000_u32).map(|number| {
        let streams = streams.clone();
        async move { (number, echo(&streams, &number.to_be_bytes(), number as usize * 4).await.unwrap()) }
    });
    for (number, answer) in futures::future::join_all(calls).await {
        assert!(answer.len() == number as usize * 4, "{number}");
        assert!(answer.chunks(4).all(|chunk| chunk == number.to_be_bytes()), "{number}");
    }
}

async fn a_large_message_passes_both_ways(kind: Kind) {
    let rig = Rig::new(kind);
    let (near, _far) = rig.talk().await;
    let streams = rig.greet(&near).await;
    let large: Vec<u8> = (0..7_000_000_u32).map(|index| (index % 251) as u8).collect();
    assert!(echo(&streams, &large, large.len()).await.unwrap() == large);
    assert_eq!(echo(&streams, b"a", 1).await.unwrap(), b"a");
}

async fn a_bulk_connection_carries_bytes(kind: Kind) {
    struct Held(Vec<u8>);
    impl Holder for Held {
        fn get(&self, id: u64) -> Option<Content> {
            (id == 1).then(|| Content::Bytes(self.0.as_slice().into()))
        }
        fn sent(&self, _: u64) {}
    }
    let rig = Rig::new(kind);
    let (near, far) = rig.pair().await;
    let bytes: Vec<u8> = (0..32_000_000_u32).map(|index| (index % 251) as u8).collect();
    let held = Held(bytes.clone());
    let serving = async {
        let Purpose::Bulk(ticket, far) = purpose(far).await.unwrap() else { panic!("it is for bulk") };
        assert_eq!(ticket, [3; 16]);
        serve(far, &held).await.unwrap();
    };
    let fetching = async {
        let fetcher = Fetcher::open(near, [3; 16]).await.unwrap();
        let fetch = async |id, bytes| {
            let room = large::room(Number::U8, bytes).unwrap();
            fetcher.fetch(Blob { id, bytes: bytes as u64, element: Number::U8 }, room).await
        };
        assert!(fetch(1, bytes.len()).await == Some(List::U8(bytes.clone().into())));
        assert_eq!(fetch(2, 1).await, None);
    };
    timeout(Duration::from_secs(20), futures::future::join(serving, fetching)).await.unwrap();
}

async fn an_orderly_end_loses_nothing(kind: Kind) {
    let rig = Rig::new(kind);
    let (near, far) = rig.talk().await;
    let streams = rig.greet(&near).await;
    let calls: Vec<_> = (0..2000).map(|_| ask(&streams, b"x", 1000)).collect();
    // Its answer arrives after those of all earlier calls.
    echo(&streams, b"last", 4).await.unwrap();
    far.finish().await;
    for call in calls {
        assert_eq!(call.await.unwrap().get().unwrap().get_data().unwrap().len(), 1000);
    }
    assert_eq!(timeout(SOON, near.closed()).await.unwrap(), Closed::Theirs);
}

async fn an_abrupt_end_is_seen(kind: Kind) {
    let rig = Rig::new(kind);
    let (near, far) = rig.pair().await;
    let near = Connection::start(near, Side::Dialled, MessageLimits::SESSION, None);
    let closed = near.closed();
    let waits = near.first::<gvm_host::internals::wire::schema::node_capnp::streams::Client>();
    let dropping = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(far);
    };
    let (call, ()) = tokio::join!(timeout(SOON, echo(&waits, HANG, 1)), dropping);
    assert_eq!(call.unwrap().unwrap_err().kind, capnp::ErrorKind::Disconnected);
    assert_ne!(timeout(SOON, closed).await.unwrap(), Closed::Ours);
}

async fn a_half_closed_connection_ends(kind: Kind) {
    let rig = Rig::new(kind);
    let (mut near, far) = rig.pair().await;
    let far = rig.serve(far);
    near.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, far.closed()).await.unwrap(), Closed::Theirs);
    let mut rest = Vec::new();
    timeout(SOON, near.read_to_end(&mut rest)).await.unwrap().unwrap();
}

async fn garbage_ends_only_its_connection(kind: Kind) {
    let rig = Rig::new(kind);
    let (near, _far) = rig.talk().await;
    let streams = rig.greet(&near).await;
    for garbage in [&[0xff; 4096][..], b"GET / HTTP/1.1\r\nHost: ghost\r\n\r\n\r\n\r\n", &[0xa5; 100_000]] {
        let (mut bad, far) = rig.pair().await;
        let far = rig.serve(far);
        let _ = bad.write_all(garbage).await;
        let _ = bad.shutdown().await;
        let why = timeout(SOON, far.closed()).await.unwrap();
        assert!(matches!(why, Closed::Broken(_)), "{why:?}");
    }
    assert_eq!(echo(&streams, b"a", 1).await.unwrap(), b"a");
}

/// Some dial and send nothing, not even the handshake, or send it byte by byte.
async fn a_silent_dialler_does_not_delay_others(kind: Kind) {
    let rig = Rig::new(kind);
    let Some(listener) = &rig.listener else { return };
    let address = rig.address();
    let begun = Instant::now();
    match &address {
        Address::Tcp(at) => {
            // More handshakes than are allowed at once, and one that never completes.
            let silent = (0..200).map(|_| tokio::net::TcpStream::connect(at));
            let silent = futures::future::try_join_all(silent).await.unwrap();
            let mut slow = tokio::net::TcpStream::connect(at).await.unwrap();
            let dripping = async {
                while slow.write_all(&[0x16]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                begun.elapsed()
            };
            let honest = async {
                let dialled = tokio::spawn({
                    let (address, tls) = (address.clone(), rig.tls.clone());
                    async move { dial(&address, Some(&tls)).await.map(|transport| transport.peer) }
                });
                timeout(SOON, listener.accept()).await.unwrap().unwrap();
                dialled.await.unwrap().unwrap();
                // No other connection is accepted.
                assert!(timeout(Duration::from_secs(7), listener.accept()).await.is_err());
            };
            let (cut_off, ()) = tokio::join!(dripping, honest);
            assert!(cut_off < Duration::from_secs(7), "{cut_off:?}");
            let mut said = Vec::new();
            for mut stream in silent {
                let _ = timeout(SOON, stream.read_to_end(&mut said)).await.expect("it is closed");
            }
            assert!(said.is_empty());
        }
        Address::Tunnel { socket, .. } => {
            let mut silent = Vec::new();
            for _ in 0..200 {
                silent.push(tokio::net::UnixStream::connect(socket).await.unwrap());
            }
            let (near, far) = timeout(SOON, rig.pair()).await.unwrap();
            drop((near, far));
            // What asks for nothing is closed.
            let mut said = Vec::new();
            for mut stream in silent {
                let _ = timeout(Duration::from_secs(7), stream.read_to_end(&mut said))
                    .await
                    .expect("it is closed");
            }
            assert!(said.is_empty());
        }
        _ => {
            let _silent = tokio::net::UnixStream::connect(rig.socket()).await.unwrap();
            let _taken = listener.accept().await.unwrap();
            let (near, far) = timeout(SOON, rig.pair()).await.unwrap();
            drop((near, far));
        }
    }
}

async fn a_silent_side_is_noticed(kind: Kind) {
    let rig = Rig::new(kind);
    // One connection whose sides answer, and one whose other side reads everything and sends nothing.
    let (alive, other) = rig.talk().await;
    let streams = rig.greet(&alive).await;
    alive.watch(move || {
        let streams = streams.clone();
        async move { echo(&streams, b"ping", 4).await }
    });
    let (near, mut far) = rig.pair().await;
    let near = Connection::start(near, Side::Dialled, MessageLimits::SESSION, None);
    let deaf = near.first::<gvm_host::internals::wire::schema::node_capnp::streams::Client>();
    let waits = tokio::task::spawn_local({
        let deaf = deaf.clone();
        async move { echo(&deaf, HANG, 1).await }
    });
    near.watch(move || {
        let deaf = deaf.clone();
        async move { echo(&deaf, b"ping", 4).await }
    });
    let begun = Instant::now();
    let mut sink = vec![0; 1 << 16];
    let reading = async { while far.read(&mut sink).await.is_ok_and(|count| count > 0) {} };
    let (why, ()) = tokio::join!(near.closed(), reading);
    assert_eq!(why, Closed::Silent);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(waits.await.unwrap().unwrap_err().kind, capnp::ErrorKind::Disconnected);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(timeout(Duration::from_millis(10), alive.closed()).await.is_err());
    drop(other);
}
