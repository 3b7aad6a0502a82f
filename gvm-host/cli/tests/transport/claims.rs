//! Processes of the home that claim to be another node: gpmd and nodes do not believe them.
//!
//! In: ids, incarnations and certificates, which every node can learn. Out: refusals; the real nodes are still found.
//! Must not know: the keys and secrets of the claimed nodes.

use std::rc::Rc;
use std::time::SystemTime;

use gvm_host::certificate::{NodeIdentity, certify};
use gvm_host::daemon::server;
use gvm_host::daemon::server::{Server, Start};
use gvm_host::gpmd::link::{Link, Told, Us};
use gvm_host::gpmd::route::Route;
use gvm_host::internals::trust::greeting::{Greeting, Part, Said};
use gvm_host::internals::trust::identity::Identity;
use gvm_host::internals::wire;
use gvm_host::internals::wire::bulk::{Purpose, purpose};
use gvm_host::internals::wire::hello;
use gvm_host::internals::wire::hello::Hello;
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::internals::wire::schema::gpmd_capnp::{
    certified, registered, registration, registry, registry_door, registry_greeting,
};
use gvm_host::internals::wire::schema::hello_capnp::PROTOCOL;
use gvm_host::internals::wire::schema::node_capnp::{connected, node_door, node_greeting};
use gvm_host::net::{Address, Listener, dial};
use gvm_host::{
    Accept, Applicant, Code, Config, Error, Handle, Home, Life, NodeInfo, Result, Secret, SecretKey,
};

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
    async fn register(&self, name: &str, life: Life) -> Result<(Link, Identity)> {
        let name = (!name.is_empty()).then(|| name.parse().unwrap());
        let applicant =
            Applicant { name, life, addresses: vec!["unix:/evil.sock".into()], accepts: Vec::new() };
        let reach = Route::nodes(&self.home);
        let us = Us::new(applicant)?;
        let identity = us.identity.clone();
        let (link, _) = Link::connect(&self.home, reach, us, Told::default()).await?;
        Ok((link, identity))
    }

    /// Greets a node with these claims and this certificate, as any process of the home could, and asks to connect with
    /// a signature by this key. Returns the certificate of the node.
    async fn meet(
        &self,
        node: &NodeInfo,
        claims: &NodeInfo,
        shown: &[u8],
        key: &SecretKey,
    ) -> Result<Vec<u8>> {
        let transport = dial(&node.address.parse().unwrap(), None).await.unwrap();
        let connection = Connection::start(transport, Side::Dialled, MessageLimits::SESSION, None);
        let mut greet = connection.first::<node_door::Client>().greet_request();
        let said =
            Hello { node: Some(claims.clone()), expected: Some(node.life()), ..Hello::of(self.home.id()) };
        hello::write(&said, greet.get().init_hello());
        let nonce = [7; 32];
        greet.get().set_certificate(shown);
        greet.get().set_nonce(&nonce);
        let answer = greet.send().promise.await.unwrap();
        let ok = match answer.get().unwrap().which().unwrap() {
            node_greeting::Ok(ok) => ok,
            node_greeting::Error(error) => return Err(wire::error::read(error.unwrap())),
        };
        let answers = Said {
            certificate: ok.get_certificate().unwrap().to_vec(),
            nonce: ok.get_nonce().unwrap().try_into().unwrap(),
        };
        let theirs = answers.certificate.clone();
        let asks = Said { certificate: shown.to_vec(), nonce };
        let greeting = Greeting { binding: Vec::new(), asks, answers };
        let mut connect = ok.get_door().unwrap().connect_request();
        connect.get().set_session(capnp_rpc::new_future_client(std::future::pending()));
        connect.get().set_streams(capnp_rpc::new_future_client(std::future::pending()));
        connect.get().set_signature(greeting.sign(Part::Asks, key).unwrap().bytes());
        let answer = connect.send().promise.await.unwrap();
        match answer.get().unwrap().which().unwrap() {
            connected::Ok(_) => Ok(theirs),
            connected::Error(error) => Err(wire::error::read(error.unwrap())),
        }
    }
}

#[track_caller]
fn denied(met: Result<Vec<u8>>, why: &str) {
    let error = met.unwrap_err();
    assert_eq!(error.code(), Code::ConnectionDenied, "{error}");
    assert!(error.message().contains(why), "{error}");
}

/// A node of 0.1.0 greets without a certificate. It learns that the releases differ, on both sides.
#[test]
fn another_protocol_is_a_mismatch() {
    let network = Network::new();
    run(async {
        let study = network.node("study", "all").await;
        for protocol in [1, PROTOCOL + 1] {
            let transport = dial(&study.info().address.parse().unwrap(), None).await.unwrap();
            let connection = Connection::start(transport, Side::Dialled, MessageLimits::SESSION, None);
            let mut greet = connection.first::<node_door::Client>().greet_request();
            let said = Hello { protocol, ..Hello::of(network.home.id()) };
            hello::write(&said, greet.get().init_hello());
            let answer = greet.send().promise.await.unwrap();
            let Ok(node_greeting::Error(error)) = answer.get().unwrap().which() else { panic!("greeted") };
            let error = wire::error::read(error.unwrap());
            assert_eq!(error.code(), Code::VersionMismatch, "{error}");
            assert!(error.message().contains(&format!("speaks protocol {protocol}")), "{error}");
            assert!(error.help().unwrap().contains("same release"), "{error:?}");
        }
    });
}

#[test]
fn a_claimed_name_is_refused() {
    let network = Network::new();
    run(async {
        let study = network.node("study", "all").await;
        let victim = network.node("victim", "study").await;
        let own = Life { id: uuid::Uuid::from_u128(99), incarnation: 1 };
        let (evil, identity) = network.register("evil", own).await.unwrap();
        let (me, target) = (evil.node(), victim.info().clone());
        let study_info = study.info().clone();
        let name_alone = NodeInfo { name: study_info.name.clone(), ..me.clone() };
        let life_alone = NodeInfo { name: me.name.clone(), ..study_info.clone() };
        let unknown = NodeInfo { id: uuid::Uuid::from_u128(7), ..me.clone() };
        let stranger = SecretKey::generate().unwrap();
        let mine = identity.card().unwrap().certificate;
        // Whoever is allowed to greet a node learns its certificate.
        let theirs = network.meet(&study_info, &me, &mine, identity.key()).await.unwrap();
        for _ in 0..2 {
            for claim in [&study_info, &name_alone, &life_alone, &unknown] {
                denied(network.meet(&target, claim, b"", identity.key()).await, "no certificate");
                denied(network.meet(&target, claim, &mine, identity.key()).await, "is that of `evil`");
                let forged = NodeIdentity {
                    device: stranger.public().id(),
                    name: claim.name.bare().parse().unwrap(),
                    life: claim.life(),
                };
                let forged =
                    certify(&stranger, &identity.key().public(), &forged, SystemTime::now()).unwrap();
                denied(network.meet(&target, claim, &forged, identity.key()).await, "not trusted");
            }
            // The certificate of another is of no use without its key.
            denied(network.meet(&target, &study_info, &theirs, identity.key()).await, "did not sign");
            denied(network.meet(&target, &me, &theirs, identity.key()).await, "is that of `study`");
            denied(network.meet(&target, &me, &mine, &stranger).await, "did not sign");
            // With its own identity it gets as far as the accept policy.
            denied(network.meet(&target, &me, &mine, identity.key()).await, "not accept");
            // The real node can connect, before and after. While it is connected, the claims are refused too.
            study.connect(victim.name().clone()).await.unwrap();
            assert_eq!(victim.list().await.unwrap().len(), 1);
        }
        victim.shut_down().await;
        study.shut_down().await;
    });
}

/// A node that answers at the address of another, with everything that it could have learnt.
struct Impostor {
    claims: Hello,
    certificate: Vec<u8>,
    key: Option<SecretKey>,
}

impl node_door::Server for Impostor {
    async fn greet(
        self: Rc<Self>,
        params: node_door::GreetParams,
        mut results: node_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        let asked = params.get()?;
        let said = |certificate: &[u8], nonce: &[u8]| Said {
            certificate: certificate.to_vec(),
            nonce: nonce.try_into().unwrap(),
        };
        let greeting = Greeting {
            binding: Vec::new(),
            asks: said(asked.get_certificate()?, asked.get_nonce()?),
            answers: said(&self.certificate, &[9; 32]),
        };
        let mut ok = results.get().init_ok();
        hello::write(&self.claims, ok.reborrow().init_hello());
        ok.set_certificate(&self.certificate);
        ok.set_nonce(&[9; 32]);
        ok.set_door(capnp_rpc::new_future_client(std::future::pending()));
        if let Some(key) = &self.key {
            ok.set_signature(greeting.sign(Part::Answers, key).unwrap().bytes());
        }
        Ok(())
    }
}

#[test]
fn a_node_that_answers_for_another_is_refused() {
    let network = Network::new();
    run(async {
        let study = network.node("study", "all").await;
        let path = network.home.path().join("evil.sock");
        let listener = Listener::bind(&path).unwrap();
        let life = Life { id: uuid::Uuid::from_u128(99), incarnation: 1 };
        let applicant = Applicant {
            name: Some("posed".parse().unwrap()),
            life,
            addresses: vec![listener.address().to_string()],
            accepts: Vec::new(),
        };
        let reach = Route::nodes(&network.home);
        let us = Us::new(applicant).unwrap();
        let identity = us.identity.clone();
        let (posed, _word) = Link::connect(&network.home, reach, us, Told::default()).await.unwrap();
        let life = Life { id: uuid::Uuid::from_u128(98), ..life };
        let (_other, evil) = network.register("evil", life).await.unwrap();
        let cards = [&identity, &evil].map(|identity| identity.card().unwrap().certificate.to_vec());
        let [genuine, evil] = cards;
        let cases = [
            (Vec::new(), None, "no certificate"),
            (evil, None, "did not sign"),
            (genuine.clone(), None, "did not sign"),
            (genuine, Some(SecretKey::generate().unwrap()), "did not sign"),
        ];
        for (certificate, key, why) in cases {
            let claims = Hello { node: Some(posed.node()), ..Hello::of(network.home.id()) };
            let answering = async {
                let transport = listener.accept().await.unwrap();
                let Purpose::Calls(transport) = purpose(transport).await.unwrap() else {
                    panic!("not a call")
                };
                let impostor: node_door::Client =
                    capnp_rpc::new_client(Impostor { claims, certificate, key });
                let limits = MessageLimits::SESSION;
                let connection = Connection::start(transport, Side::Accepted, limits, Some(impostor.client));
                connection.closed().await;
            };
            let (refused, ()) =
                futures::future::join(study.connect("posed".parse().unwrap()), answering).await;
            let error = refused.unwrap_err();
            assert_eq!(error.code(), Code::AuthFailed, "{error}");
            assert!(error.message().contains(why), "{error}");
            assert!(study.list().await.unwrap().is_empty());
        }
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
    let applicant = Applicant { name, life, addresses: vec!["unix:/x.sock".into()], accepts: Vec::new() };
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
        // The earlier registration certifies nothing any longer; dropping it ends nothing.
        let mut request = earlier.certify_request();
        request.get().set_key(SecretKey::generate().unwrap().public().bytes());
        let answer = request.send().promise.await.unwrap();
        assert!(matches!(answer.get().unwrap().which().unwrap(), certified::Error(_)));
        let near = network.node("near", "all").await;
        drop((earlier, _first));
        let found = near.discover().await.unwrap();
        assert!(found.iter().any(|node| node.name.as_str() == "moved"), "{found:?}");
        drop(later);
        near.shut_down().await;
    });
}
