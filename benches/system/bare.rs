//! The floor of remote calls: a bare capnp-rpc method over the transport of GVM's nodes.
//!
//! In: an address; requests. Out: times. The thread that waits for an answer reads and writes the socket itself. Must not
//! know: nodes, modules, wasm.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gvm_host::Home;
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::net::{Address, Listener, Tls, dial};

use super::add_capnp::adder;
use super::ours::nanos;
use super::worker::serve;

struct Adder;

impl adder::Server for Adder {
    async fn add(
        self: Rc<Self>,
        params: adder::AddParams,
        mut results: adder::AddResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        results.get().set_sum(params.get_a().wrapping_add(params.get_b()));
        Ok(())
    }
}

fn runtime() -> tokio::runtime::LocalRuntime {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap()
}

/// Serves one connection, at a socket or, with a home, at a port.
pub fn server(socket: &Path, tls: Option<&Path>) {
    runtime().block_on(async {
        let listener = match tls {
            None => Listener::bind(socket).unwrap(),
            Some(home) => {
                let tls = Tls::open(&Home::existing(home).unwrap()).unwrap();
                Listener::bind_tcp("127.0.0.1:0".parse().unwrap(), tls).unwrap()
            }
        };
        println!("ready {}", listener.address());
        let transport = listener.accept().await.unwrap();
        let client: adder::Client = capnp_rpc::new_client(Adder);
        Connection::start(transport, Side::Accepted, MessageLimits::SESSION, Some(client.client))
            .closed()
            .await;
    });
}

/// Answers requests until standard input ends.
pub fn work(address: &str, home: &Path) {
    let address: Address = address.parse().unwrap();
    let tls = Tls::open(&Home::existing(home).unwrap()).unwrap();
    let runtime = runtime();
    let connection = runtime.block_on(async {
        let transport = dial(&address, Some(&tls)).await.unwrap();
        Connection::start(transport, Side::Dialled, MessageLimits::SESSION, None)
    });
    let adder: adder::Client = connection.first();
    let add = async |n: i32| {
        let mut request = adder.add_request();
        request.get().set_a(n);
        request.get().set_b(1);
        let sum = request.send().promise.await.unwrap().get().unwrap().get_sum();
        assert_eq!(sum, n.wrapping_add(1));
    };
    serve("", |request, numbers| {
        let calls = numbers[0];
        Ok(match request {
            "each" => runtime.block_on(async {
                let mut times = Vec::with_capacity(calls);
                for n in 0..calls as i32 {
                    let began = Instant::now();
                    add(n).await;
                    times.push(nanos(began));
                }
                times
            }),
            "flight" => runtime.block_on(async {
                let began = Instant::now();
                let mut flying = FuturesUnordered::new();
                for n in 0..calls as i32 {
                    if flying.len() == numbers[1] {
                        flying.next().await;
                    }
                    flying.push(add(n));
                }
                while flying.next().await.is_some() {}
                vec![nanos(began) / calls as f64]
            }),
            _ => return Err(format!("{request} is unknown")),
        })
    });
}
