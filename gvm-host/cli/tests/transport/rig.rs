//! The two ends of a connection of any kind, and an echo service.
//!
//! In: a kind of transport. Out: connected ends, and a service that repeats what it gets. Must not know: the
//! tests.

use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gvm_host::internals::meeting::{Met, Start};
use gvm_host::internals::tunnels::Tunnels;
use gvm_host::internals::wire::hello;
use gvm_host::internals::wire::hello::Hello;
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::internals::wire::schema::node_capnp::{
    connect_door, connected, node_door, node_greeting, streams,
};
use gvm_host::net::Tls;
use gvm_host::net::{Address, Listener, Transport, dial};
use gvm_host::{DeviceKey, Devices, Home};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Memory,
    Unix,
    Tls,
    Tunnel,
}

/// The home, the key and the listener that a kind of transport needs.
pub struct Rig {
    pub home: Home,
    pub tls: Tls,
    pub listener: Option<Listener>,
    /// The tunnels of the dialling and of the other device.
    tunnels: Option<[Tunnels; 2]>,
    address: Option<Address>,
    folder: tempfile::TempDir,
}

impl Rig {
    pub fn new(kind: Kind) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let tls = Tls::open(&home).unwrap();
        let (mut tunnels, mut address) = (None, None);
        let listener = match kind {
            Kind::Memory => None,
            Kind::Tunnel => {
                let start = |name: &str| {
                    let home = Home::open(folder.path().join(name)).unwrap();
                    let key = DeviceKey::open(&home).unwrap();
                    let open = Arc::new(AtomicBool::new(true));
                    let (devices, tls) = (Devices::default(), tls.clone());
                    let start = Start { home: &home, key: &key, relay: None, devices, open, tls };
                    (Tunnels::start(start).unwrap(), key.public())
                };
                let (((near, _), _), ((far, listener), key)) = (start("near"), start("far"));
                near.meets(Met { key, relay: None, direct: far.bound() });
                address = Some(near.address(key.id()));
                tunnels = Some([near, far]);
                Some(Listener::Tunnel(listener))
            }
            Kind::Unix => Some(Listener::bind(&folder.path().join("x.sock")).unwrap()),
            Kind::Tls => Some(Listener::bind_tcp("127.0.0.1:0".parse().unwrap(), tls.clone()).unwrap()),
        };
        let address = address.or_else(|| listener.as_ref().map(Listener::address));
        Rig { home, tls, listener, tunnels, address, folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("x.sock")
    }

    /// Returns the address to dial. Only for kinds that have one.
    pub fn address(&self) -> Address {
        assert!(self.tunnels.as_ref().is_none_or(|[near, far]| near.bound() != far.bound()));
        self.address.clone().unwrap()
    }

    /// Returns the end that dialled, and the one that accepted.
    pub async fn pair(&self) -> (Transport, Transport) {
        let Some(listener) = &self.listener else { return Transport::pair(64 << 10) };
        let address = self.address();
        let (near, far) = tokio::join!(dial(&address, Some(&self.tls)), listener.accept());
        (near.unwrap(), far.unwrap())
    }

    /// Returns both ends of a connection; the accepting end serves the echo after a greeting.
    pub async fn talk(&self) -> (Connection, Connection) {
        let (near, far) = self.pair().await;
        (Connection::start(near, Side::Dialled, MessageLimits::SESSION, None), self.serve(far))
    }

    pub fn serve(&self, transport: Transport) -> Connection {
        let greeter: node_door::Client = capnp_rpc::new_client(Greeter(self.home.id()));
        Connection::start(transport, Side::Accepted, MessageLimits::SESSION, Some(greeter.client))
    }

    /// Greets, and returns the echo service.
    pub async fn greet(&self, connection: &Connection) -> streams::Client {
        let mut greet = connection.first::<node_door::Client>().greet_request();
        hello::write(&Hello::of(self.home.id()), greet.get().init_hello());
        let answer = greet.send().promise.await.unwrap();
        let node_greeting::Ok(ok) = answer.get().unwrap().which().unwrap() else { panic!("refused") };
        hello::read(ok.get_hello().unwrap()).unwrap().admit(self.home.id()).unwrap();
        let answer = ok.get_door().unwrap().connect_request().send().promise.await.unwrap();
        let connected::Ok(ok) = answer.get().unwrap().which().unwrap() else { panic!("refused") };
        ok.get_streams().unwrap()
    }
}

struct Greeter(gvm_host::HomeId);

impl node_door::Server for Greeter {
    async fn greet(
        self: Rc<Self>,
        params: node_door::GreetParams,
        mut results: node_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        hello::read(params.get()?.get_hello()?).unwrap().admit(self.0).unwrap();
        let mut ok = results.get().init_ok();
        hello::write(&Hello::of(self.0), ok.reborrow().init_hello());
        ok.set_door(capnp_rpc::new_client(Connector));
        Ok(())
    }
}

struct Connector;

impl connect_door::Server for Connector {
    async fn connect(
        self: Rc<Self>,
        _: connect_door::ConnectParams,
        mut results: connect_door::ConnectResults,
    ) -> Result<(), capnp::Error> {
        results.get().init_ok().set_streams(capnp_rpc::new_client(Echo));
        Ok(())
    }
}

struct Echo;

/// A call that is never answered.
pub const HANG: &[u8] = b"hang";

impl streams::Server for Echo {
    /// Returns as many bytes as requested, repeating the call's.
    async fn input(
        self: Rc<Self>,
        params: streams::InputParams,
        mut results: streams::InputResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let call = params.get_call()?;
        if call == HANG {
            std::future::pending::<()>().await;
        }
        let most = params.get_most() as usize;
        results.get().set_data(&call.iter().copied().cycle().take(most).collect::<Vec<_>>());
        Ok(())
    }
}

/// Requests an echo of `call`; the request has been sent when this returns.
pub fn ask(
    streams: &streams::Client,
    call: &[u8],
    most: usize,
) -> capnp::capability::Promise<capnp::capability::Response<streams::input_results::Owned>, capnp::Error> {
    let mut request = streams.input_request();
    request.get().set_call(call);
    request.get().set_most(most as u32);
    request.send().promise
}

/// Returns the echo of `call`.
pub async fn echo(streams: &streams::Client, call: &[u8], most: usize) -> Result<Vec<u8>, capnp::Error> {
    let answer = ask(streams, call, most).await?;
    Ok(answer.get()?.get_data()?.to_vec())
}

/// Runs a test on a runtime of this thread, with a time limit.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let output = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await });
    output.expect("it ends in time")
}
