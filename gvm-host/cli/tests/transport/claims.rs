//! Processes of the home that claim to be another node: gpmd and nodes do not believe them.
//!
//! In: ids and incarnations, which every node can discover. Out: refusals; the real nodes are still found.
//! Must not know: the secrets of the claimed nodes.

use gvm_host::daemon::server;
use gvm_host::daemon::server::{Server, Start};
use gvm_host::gpmd::link::Link;
use gvm_host::gpmd::route::Route;
use gvm_host::internals::wire::hello;
use gvm_host::internals::wire::hello::Hello;
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::internals::wire::schema::gpmd_capnp::{
    registered, registration, registry, registry_door, registry_greeting,
};
use gvm_host::internals::wire::schema::node_capnp::{node_door, node_greeting};
use gvm_host::net::{Address, dial};
use gvm_host::{Accept, Applicant, Code, Config, Error, Handle, Home, Life, NodeInfo, Result, Secret};

use crate::nodes::engine;
use crate::rig::run;

struct Network {
    home: Home,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Network {
    fn new() -> Network {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let Start::Started(server) = Server::start(server::Config::new(home.clone())).unwrap() else {
            panic!("another runs")
        };
        Network { home, _server: server, _folder: folder }
    }

    async fn node(&self, name: &str, accept: &str) -> Handle {
        let accept: Accept = accept.parse().unwrap();
        let name = name.parse().unwrap();
        let config = Config::new(self.home.clone(), engine(&self.home));
        Handle::start(config.name(name).accept(accept)).await.unwrap()
    }

    /// Registers this life, as any process of the home could.
    async fn register(&self, name: &str, life: Life) -> Result<Link> {
        let name = (!name.is_empty()).then(|| name.parse().unwrap());
        let applicant = Applicant { name, life, addresses: vec!["unix:/evil.sock".into()] };
        let reach = Route::nodes(&self.home);
        Link::connect(&self.home, reach, applicant, Box::new(|_| {})).await.map(|(link, _)| link)
    }

    /// Greets a node and claims to be another.
    async fn greet(&self, node: &NodeInfo, claims: NodeInfo, ticket: Option<Secret>) -> Result<()> {
        let transport = dial(&node.address.parse().unwrap(), None).await.unwrap();
        let connection = Connection::start(transport, Side::Dialled, MessageLimits::SESSION, None);
        let mut greet = connection.first::<node_door::Client>().greet_request();
        let said = Hello { node: Some(claims), expected: Some(node.life()), ..Hello::of(self.home.id()) };
        hello::write(&said, greet.get().init_hello());
        ticket.iter().for_each(|ticket| greet.get().set_ticket(ticket.bytes()));
        let answer = greet.send().promise.await.unwrap();
        match answer.get().unwrap().which().unwrap() {
            node_greeting::Ok(_) => Ok(()),
            node_greeting::Error(error) => Err(gvm_host::internals::wire::error::read(error.unwrap())),
        }
    }
}

#[track_caller]
fn denied(greeted: Result<()>) {
    assert_eq!(greeted.map_err(|error| error.code()), Err(Code::ConnectionDenied));
}

#[test]
fn a_claimed_name_is_refused() {
    let network = Network::new();
    run(async {
        let study = network.node("study", "all").await;
        let victim = network.node("victim", "study").await;
        let own = Life { id: uuid::Uuid::from_u128(99), incarnation: 1 };
        let evil = network.register("evil", own).await.unwrap();
        let (me, target) = (evil.node(), victim.info().clone());
        let study_info = study.info().clone();
        let name_alone = NodeInfo { name: study_info.name.clone(), ..me.clone() };
        let life_alone = NodeInfo { name: me.name.clone(), ..study_info.clone() };
        let unknown = NodeInfo { id: uuid::Uuid::from_u128(7), ..me.clone() };
        for _ in 0..2 {
            for claim in [&study_info, &name_alone, &life_alone, &unknown] {
                denied(network.greet(&target, claim.clone(), None).await);
                denied(network.greet(&target, claim.clone(), Some(Secret::random())).await);
                let ticket = evil.witness().introduce(&target).await.unwrap();
                denied(network.greet(&target, claim.clone(), Some(ticket)).await);
            }
            // With its own identity it may greet; the accept policy comes later.
            let ticket = evil.witness().introduce(&target).await.unwrap();
            network.greet(&target, me.clone(), Some(ticket)).await.unwrap();
            // A ticket is valid once, and for one node.
            denied(network.greet(&target, me.clone(), Some(ticket)).await);
            let ticket = evil.witness().introduce(&study_info).await.unwrap();
            denied(network.greet(&target, me.clone(), Some(ticket)).await);
            // The real node can connect, before and after. While it is connected, the claims are refused too.
            study.connect(victim.name().clone()).await.unwrap();
            assert_eq!(victim.list().await.unwrap().len(), 1);
        }
        victim.shut_down().await;
        study.shut_down().await;
    });
}

#[test]
fn a_registration_cannot_be_taken_over() {
    let network = Network::new();
    run(async {
        let study = network.node("study", "all").await;
        let near = network.node("near", "all").await;
        let life = study.info().life();
        for name in ["study", "evil", ""] {
            let refused = network.register(name, life).await.err().map(|error: Error| error.code());
            assert_eq!(refused, Some(Code::AuthFailed), "{name:?}");
        }
        let taken = network.register("study", Life { incarnation: life.incarnation + 1, ..life }).await;
        assert_eq!(taken.err().map(|error| error.code()), Some(Code::NodeNameTaken));
        // Discovery still returns the real nodes, with their addresses.
        let found = near.discover().await.unwrap();
        let found: Vec<_> = found.iter().map(|node| (node.name.as_str(), node.address.as_str())).collect();
        assert_eq!(found, [("near", &*near.info().address), ("study", &*study.info().address)]);
        near.connect(study.name().clone()).await.unwrap();
        near.shut_down().await;
        study.shut_down().await;
    });
}

/// Registers a life with a secret at gpmd, over a separate connection.
async fn by_hand(home: &Home, secret: Secret) -> (Connection, registration::Client) {
    let transport = dial(&Address::Unix(home.gpmd_socket()), None).await.unwrap();
    let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
    let mut greet = connection.first::<registry_door::Client>().greet_request();
    hello::write(&Hello::of(home.id()), greet.get().init_hello());
    let answer = greet.send().promise.await.unwrap();
    let registry_greeting::Ok(ok) = answer.get().unwrap().which().unwrap() else { panic!("refused") };
    let registry: registry::Client = ok.get_registry().unwrap();
    let life = Life { id: uuid::Uuid::from_u128(5), incarnation: 5 };
    let name = Some("moved".parse().unwrap());
    let applicant = Applicant { name, life, addresses: vec!["unix:/x.sock".into()] };
    let mut register = registry.register_request();
    hello::write_applicant(&applicant, register.get().init_node());
    register.get().set_secret(secret.bytes());
    let answer = register.send().promise.await.unwrap();
    let registered::Ok(ok) = answer.get().unwrap().which().unwrap() else { panic!("refused") };
    (connection, ok.get_registration().unwrap())
}

/// A node whose earlier connection still seems open registers again by its secret; the earlier one is told.
#[test]
fn a_node_with_its_secret_registers_again() {
    let network = Network::new();
    run(async {
        let secret = Secret::random();
        let (_first, earlier) = by_hand(&network.home, secret).await;
        let mut ended = Box::pin(earlier.ended_request().send().promise);
        let soon = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(soon, &mut ended).await.is_err(), "it lasts");
        let (_second, later) = by_hand(&network.home, secret).await;
        tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.unwrap().unwrap();
        // The earlier registration issues no tickets any longer; dropping it ends nothing.
        let mut introduce = earlier.introduce_request();
        let near = network.node("near", "all").await;
        hello::write_node(near.info(), introduce.get().init_to());
        assert!(introduce.send().promise.await.is_err());
        drop((earlier, _first));
        let found = near.discover().await.unwrap();
        assert!(found.iter().any(|node| node.name.as_str() == "moved"), "{found:?}");
        drop(later);
        near.shut_down().await;
    });
}
