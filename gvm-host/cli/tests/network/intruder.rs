//! Strangers, and somebody between two devices: each learns nothing and gets nothing.
//!
//! The intruder speaks the protocol of devices itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use gvm_host::internals::trust::invitation::{Bound, Line, Side as Part};
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::internals::wire::schema::device_capnp::{admitted, device, device_door, index_news, met};
use gvm_host::internals::wire::schema::gpmd_capnp::{found, registry_door};
use gvm_host::internals::wire::schema::hello_capnp::PROTOCOL;
use gvm_host::internals::wire::tls::{OwnKey, Tls};
use gvm_host::net::{Address, Listener, dial};
use gvm_host::{Code, DeviceKey};

use crate::bed::{Device, run_local};

/// A process with a key that no network knows.
struct Intruder {
    key: DeviceKey,
    tls: Tls,
    _home: Device,
}

/// A connection of an intruder to a device.
struct Call {
    door: device_door::Client,
    connection: Connection,
    binding: Vec<u8>,
}

impl Intruder {
    fn new() -> Intruder {
        let home = Device::off();
        let key = DeviceKey::open(&home.home()).unwrap();
        let tls = Tls::of_gpmd(&OwnKey::new(&key).unwrap(), Arc::new(|_| true)).unwrap();
        Intruder { key, tls, _home: home }
    }

    async fn call(&self, device: &Device) -> Call {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, device.port()));
        let transport = dial(&Address::Tcp(at), Some(&self.tls)).await.unwrap();
        let binding = transport.binding().unwrap();
        let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
        Call { door: connection.first(), connection, binding }
    }

    /// Returns the right proof for a connection.
    fn proof(&self, line: &Line, binding: &[u8]) -> [u8; 32] {
        let own = self.key.public();
        line.proof_key().prove(Part::Joiner, Bound { binding, inviter: &line.inviter, joiner: &own })
    }
}

impl Call {
    async fn meet(&self, network: &[u8]) -> Result<Code, capnp::Error> {
        Ok(self.met(network).await?.err().expect("a stranger was met"))
    }

    async fn met(&self, network: &[u8]) -> Result<Result<device::Client, Code>, capnp::Error> {
        let mut request = self.door.meet_request();
        let mut hello = request.get().init_hello();
        hello.set_protocol(PROTOCOL);
        hello.set_version("0.1.0");
        hello.set_network(network);
        request.get().set_device(capnp_rpc::new_client(Nobody));
        let answer = request.send().promise.await?;
        match answer.get()?.which()? {
            met::Ok(ok) => Ok(Ok(ok.get_device()?)),
            met::Error(error) => Ok(Err(Code::from_number(error?.get_code()))),
        }
    }

    /// Applies; returns the number of statements, or the refusal.
    async fn join(&self, id: &[u8], proof: &[u8]) -> Result<Result<u32, (Code, String)>, capnp::Error> {
        let mut request = self.door.join_request();
        let mut application = request.get().init_application();
        application.set_protocol(PROTOCOL);
        application.set_invitation(id);
        application.set_proof(proof);
        application.set_name("intruder");
        let answer = request.send().promise.await?;
        Ok(match answer.get()?.which()? {
            admitted::Ok(ok) => Ok(ok.get_statements()?.len()),
            admitted::Removed(()) => panic!("this key was never in the network"),
            admitted::Error(error) => {
                let error = error?;
                Err((Code::from_number(error.get_code()), error.get_message()?.to_string()?))
            }
        })
    }
}

struct Nobody;

impl device::Server for Nobody {}

#[test]
fn a_stranger_does_not_get_past_tls_without_an_invitation() {
    let laptop = Device::new("laptop");
    let _pi = Device::joined("pi", &laptop);
    let founder = DeviceKey::open(&laptop.home()).unwrap().public();
    run_local(async {
        let intruder = Intruder::new();
        let call = intruder.call(&laptop).await;
        assert!(call.meet(founder.bytes()).await.is_err());
        assert!(call.join(&[0; 8], &[0; 32]).await.is_err());
        call.connection.closed().await;
    });
}

#[test]
fn a_stranger_can_only_try_to_join_while_an_invitation_is_open() {
    let laptop = Device::new("laptop");
    let line: Line = laptop.invite().parse().unwrap();
    let founder = DeviceKey::open(&laptop.home()).unwrap().public();
    run_local(async {
        let intruder = Intruder::new();
        let call = intruder.call(&laptop).await;
        assert_eq!(call.meet(founder.bytes()).await.unwrap(), Code::AuthFailed);
        let registry: registry_door::Client = call.connection.first();
        let unknown = registry.greet_request().send().promise.await.err().unwrap();
        assert_eq!(unknown.kind, capnp::ErrorKind::Unimplemented);
        let wrong = call.join(line.id().bytes(), &[7; 32]).await.unwrap().unwrap_err();
        let none = call.join(&[0; 8], &[7; 32]).await.unwrap().unwrap_err();
        assert_eq!(wrong, none, "a stranger does not learn which invitations exist");
        assert_eq!(wrong.0, Code::InvitationInvalid);
        call.join(&[0; 8], &[]).await.unwrap().unwrap_err();
        // Too many tries on one connection; the right proof comes too late.
        let late = call.join(line.id().bytes(), &intruder.proof(&line, &call.binding)).await.unwrap();
        assert_eq!(late.unwrap_err().0, Code::Overloaded);
        drop(call);
        // Strangers have few places.
        let mut calls = Vec::new();
        for _ in 0..16 {
            let call = intruder.call(&laptop).await;
            call.join(&[0; 8], &[]).await.unwrap().unwrap_err();
            calls.push(call);
        }
        let more = intruder.call(&laptop).await.join(&[0; 8], &[]).await;
        assert_eq!(more.unwrap_err().kind, capnp::ErrorKind::Overloaded);
    });
    assert_eq!(laptop.names(), ["laptop"]);
    Device::new("pi").join(&line.to_string());
}

#[test]
fn a_proof_is_good_on_its_own_connection_only() {
    let laptop = Device::new("laptop");
    let line: Line = laptop.invite().parse().unwrap();
    run_local(async {
        let intruder = Intruder::new();
        let (one, two) = (intruder.call(&laptop).await, intruder.call(&laptop).await);
        let recorded = intruder.proof(&line, &one.binding);
        let id = line.id();
        let replayed = two.join(id.bytes(), &recorded).await.unwrap();
        assert_eq!(replayed.unwrap_err().0, Code::InvitationInvalid);
        // The proof of the other side, sent back.
        let own = intruder.key.public();
        let bound = Bound { binding: &two.binding, inviter: &line.inviter, joiner: &own };
        let reflected = line.proof_key().prove(Part::Inviter, bound);
        assert!(two.join(id.bytes(), &reflected).await.unwrap().is_err());
        // Who has the secret joins; the same device gets the same answer again, another one does not.
        assert_eq!(one.join(id.bytes(), &recorded).await.unwrap().unwrap(), 2);
        assert_eq!(one.join(id.bytes(), &recorded).await.unwrap().unwrap(), 2);
        laptop.invite();
        let other = Intruder::new();
        let call = other.call(&laptop).await;
        let used = call.join(id.bytes(), &other.proof(&line, &call.binding)).await.unwrap();
        assert_eq!(used.unwrap_err().0, Code::InvitationInvalid);
    });
    assert_eq!(laptop.names(), ["intruder", "laptop"]);
}

/// What a member is told of an index: the number of the history, its names and those that are gone; all of it, or the changes.
type News = (u64, bool, Vec<String>, Vec<String>);

async fn news(device: &device::Client, history: u64, since: u64) -> News {
    let mut request = device.index_request();
    request.get().set_history(history);
    request.get().set_since(since);
    let answer = request.send().promise.await.unwrap();
    let news = answer.get().unwrap();
    let names = |text: &str| {
        let index: serde_json::Value = serde_json::from_str(text).unwrap();
        index["modules"].as_object().unwrap().keys().cloned().collect()
    };
    match news.which().unwrap() {
        index_news::All(found) => {
            let found::Ok(ok) = found.unwrap().which().unwrap() else { panic!("refused") };
            let mut read = ok.get_bytes().unwrap().read_request();
            read.get().set_length(1 << 16);
            let answer = read.send().promise.await.unwrap();
            let text = String::from_utf8(answer.get().unwrap().get_data().unwrap().to_vec()).unwrap();
            (news.get_history(), true, names(&text), Vec::new())
        }
        index_news::Change(change) => {
            let change = change.unwrap();
            assert_eq!(change.get_base(), since);
            let gone = change.get_gone().unwrap().iter().map(|name| name.unwrap().to_string().unwrap());
            let text = change.get_index().unwrap().to_str().unwrap();
            (news.get_history(), false, names(text), gone.collect())
        }
    }
}

/// A member that knows an index is told what has changed, and not the rest again.
#[test]
fn a_member_is_told_the_changes_of_an_index() {
    let laptop = Device::new("laptop");
    let line: Line = laptop.invite().parse().unwrap();
    let founder = DeviceKey::open(&laptop.home()).unwrap().public();
    let file = laptop.file("module.wat", "(module (func (export \"f\")))");
    let upload = async |name: &str| {
        let (name, file) = (format!("--name={name}"), format!("--file={file}"));
        laptop.ok_beside(&["wasm", "upload", &name, "--version=1.0.0", &file]).await;
    };
    run_local(async {
        upload("one").await;
        let member = Intruder::new();
        let call = member.call(&laptop).await;
        let proof = member.proof(&line, &call.binding);
        assert_eq!(call.join(line.id().bytes(), &proof).await.unwrap().unwrap(), 2);
        let call = member.call(&laptop).await;
        let device = call.met(founder.bytes()).await.unwrap().unwrap();
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (history, all, names, _) = news(&device, 0, 0).await;
        assert_eq!((all, names), (true, own(&["one"])));
        assert_eq!(news(&device, history, 1).await, (history, false, own(&[]), own(&[])));
        upload("two").await;
        assert_eq!(news(&device, history, 1).await, (history, false, own(&["two"]), own(&[])));
        laptop.ok_beside(&["wasm", "remove", "one"]).await;
        assert_eq!(news(&device, history, 1).await, (history, false, own(&["two"]), own(&["one"])));
        assert_eq!(news(&device, history, 2).await, (history, false, own(&[]), own(&["one"])));
        // Another history, and a revision that never was.
        for (history, since) in [(history ^ 1, 2), (history, 99)] {
            let (_, all, names, _) = news(&device, history, since).await;
            assert_eq!((all, names), (true, own(&["two"])), "{since}");
        }
    });
}

/// Passes bytes on between whoever connects and this port. Returns its address. It ends with the test's process.
fn pass_on(port: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = from.read(&mut bytes) {
                        if to.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    at
}

#[test]
fn who_passes_bytes_on_learns_nothing_and_prevents_nothing() {
    let laptop = Device::new("laptop");
    let line: Line = laptop.invite().parse().unwrap();
    let through = Line { addresses: vec![pass_on(laptop.port())], ..line };
    let pi = Device::new("pi");
    pi.join(&through.to_string());
    assert!(laptop.names() == ["laptop", "pi"]);
}

#[test]
fn a_device_speaks_only_to_the_one_that_invited_it() {
    let laptop = Device::new("laptop");
    let line: Line = laptop.invite().parse().unwrap();
    run_local(async {
        // Somebody answers at the address with a key of their own.
        let intruder = Intruder::new();
        let listener = Listener::bind_tcp("127.0.0.1:0".parse().unwrap(), intruder.tls.clone()).unwrap();
        let Address::Tcp(at) = listener.address() else { panic!("a port") };
        let listening = tokio::task::spawn_local(async move {
            // No handshake succeeds: the joining device ends it.
            while listener.accept().await.is_err() {}
        });
        let to_intruder = Line { addresses: vec![at], ..line.clone() };
        let (told, text) = (Device::new("pi"), to_intruder.to_string());
        let said = tokio::task::spawn_blocking(move || told.fails(&["join", &text], Code::DeviceDown));
        let said = said.await.unwrap();
        assert!(said.contains("cannot reach the inviting device"), "{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        listening.abort();
    });
    // Both addresses, the wrong one first: the right one is found, and the invitation is still good.
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 9))];
    addresses.extend(&line.addresses);
    let pi = Device::new("pi");
    pi.join(&Line { addresses, ..line }.to_string());
    assert!(laptop.is_up("pi"));
}
