//! Ports accept only holders of the home's key; all others learn nothing.
//!
//! In: TLS clients and raw sockets without the key, and relays that record the bytes. Out: refused handshakes
//! without a single secret in them. Must not know: the other side of the handshake.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use gvm_host::certificate::{NodeIdentity, certify};
use gvm_host::daemon::server::{Config, Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::link::{Link, Told, Us};
use gvm_host::gpmd::route::Route;
use gvm_host::internals::trust::identity::{Card, Identity};
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::net::{Address, Listener, Tls, dial};
use gvm_host::roster::{Role, Roster};
use gvm_host::{Applicant, Code, DeviceKey, Devices, Error, Home, Life, SecretKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::rig::{Kind, Rig, echo, run};

/// Accepts every certificate.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// How a stranger tries to connect.
#[derive(Clone, Copy, Debug)]
enum Try {
    OtherKey,
    /// Presents the home's certificate, which is not secret, and signs with another key.
    BorrowedCertificate,
    NoCertificate,
    Tls12,
}

const TRIES: [Try; 4] = [Try::OtherKey, Try::BorrowedCertificate, Try::NoCertificate, Try::Tls12];

/// A certificate and a key that need not belong together.
#[derive(Debug)]
struct Shows(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn stranger(home: &Home, how: Try) -> ClientConfig {
    let folder = tempfile::tempdir().unwrap();
    let other = DeviceKey::open(&Home::open(folder.path().join("other")).unwrap()).unwrap();
    let ours = DeviceKey::open(home).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match how {
        Try::Tls12 => &[&rustls::version::TLS12],
        _ => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let shows = |certificate: Vec<u8>| {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(other.secret().to_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        Arc::new(Shows(Arc::new(rustls::sign::CertifiedKey::new(vec![certificate.into()], key))))
    };
    let mut config = match how {
        Try::NoCertificate => builder.with_no_client_auth(),
        Try::BorrowedCertificate => builder.with_client_cert_resolver(shows(ours.certificate().unwrap())),
        Try::OtherKey | Try::Tls12 => builder.with_client_cert_resolver(shows(other.certificate().unwrap())),
    };
    config.alpn_protocols = vec![b"ghost".to_vec()];
    config
}

/// Returns everything that a stranger receives before it is disconnected, certificates included.
async fn told(at: SocketAddr, config: ClientConfig) -> Vec<u8> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(at).await.unwrap();
    let trying = async {
        let mut told = Vec::new();
        if let Ok(mut stream) = connector.connect(ServerName::try_from("ghost").unwrap(), stream).await {
            for shown in stream.get_ref().1.peer_certificates().into_iter().flatten() {
                told.extend_from_slice(shown);
            }
            // Send as much as capnp-rpc would, and read any answer.
            let _ = stream.write_all(&[0; 64]).await;
            let mut said = Vec::new();
            let read = stream.read_to_end(&mut said).await;
            assert!(read.is_err() && said.is_empty(), "{read:?}: {said:?}");
        }
        told
    };
    timeout(Duration::from_secs(8), trying).await.expect("it is disconnected")
}

#[track_caller]
fn tells_nothing(said: &[u8], secrets: &[&[u8]]) {
    for secret in secrets {
        let found = said.windows(secret.len()).any(|window| window == *secret);
        assert!(!found, "{:?} is told", String::from_utf8_lossy(secret));
    }
}

#[test]
fn strangers_are_refused() {
    run(async {
        let rig = Rig::new(Kind::Tls);
        let listener = rig.listener.as_ref().unwrap();
        let Address::Tcp(at) = listener.address() else { panic!("it is a port") };
        let trying = async {
            for how in TRIES {
                told(at, stranger(&rig.home, how)).await;
            }
        };
        tokio::select! {
            _ = listener.accept() => panic!("a stranger passed"),
            () = trying => {}
        }
    });
}

#[test]
fn both_sides_refuse_another_home() {
    run(async {
        let (rig, other) = (Rig::new(Kind::Tls), Rig::new(Kind::Tls));
        let listener = rig.listener.as_ref().unwrap();
        let dialling = async { dial(&listener.address(), Some(&other.tls)).await.err().unwrap() };
        let error = tokio::select! {
            _ = listener.accept() => panic!("a stranger passed"),
            error = dialling => error,
        };
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).unwrap();
        assert_eq!(error.code(), Code::AuthFailed);
        assert!(error.message().contains("did not prove that it belongs to this home"), "{error}");
        let without = dial(&listener.address(), None).await.err().unwrap();
        assert_eq!(without.kind(), std::io::ErrorKind::PermissionDenied);
    });
}

/// A node with a certificate that a device issued at this time; without one, none has been issued yet.
fn node_of(device: &SecretKey, issued: Option<SystemTime>) -> Tls {
    let identity = Identity::new().unwrap();
    let node = NodeIdentity {
        device: device.public().id(),
        name: "study".parse().unwrap(),
        life: Life { id: uuid::Uuid::from_u128(1), incarnation: 1 },
    };
    if let Some(issued) = issued {
        let certificate = certify(device, &identity.key().public(), &node, issued).unwrap();
        identity.renew(Card { certificate: certificate.into(), device: device.public() });
    }
    let devices = Devices::default();
    devices.set(device.public(), []);
    Tls::of_node(identity, devices).unwrap()
}

/// A node of a device in this network.
fn node_in(device: &SecretKey, network: &Roster) -> Tls {
    let identity = Identity::new().unwrap();
    let node = NodeIdentity {
        device: device.public().id(),
        name: "study".parse().unwrap(),
        life: Life { id: uuid::Uuid::from_u128(2), incarnation: 1 },
    };
    let certificate = certify(device, &identity.key().public(), &node, SystemTime::now()).unwrap();
    identity.renew(Card { certificate: certificate.into(), device: device.public() });
    let devices = Devices::default();
    devices.set(device.public(), network.devices());
    Tls::of_node(identity, devices).unwrap()
}

/// The nodes of the devices of a network accept each other, until a device is removed.
#[test]
fn nodes_know_the_nodes_of_their_network() {
    run(async {
        let [laptop, pi, other] = [(); 3].map(|()| SecretKey::generate().unwrap());
        let mut network = Roster::found(&laptop, "laptop".parse().unwrap(), 1).unwrap();
        network.admit(&laptop, pi.public(), "pi".parse().unwrap(), Role::Member, 2).unwrap();
        let meet = async |here: &Tls, there: &Tls| {
            let listener = Listener::bind_tcp("127.0.0.1:0".parse().unwrap(), here.clone()).unwrap();
            let at = listener.address();
            let accepting = tokio::time::timeout(Duration::from_millis(500), listener.accept());
            let (dialled, accepted) = tokio::join!(dial(&at, Some(there)), accepting);
            dialled.is_ok() && accepted.is_ok()
        };
        assert!(meet(&node_in(&laptop, &network), &node_in(&pi, &network)).await);
        assert!(meet(&node_in(&pi, &network), &node_in(&laptop, &network)).await);
        assert!(!meet(&node_in(&laptop, &network), &node_in(&other, &network)).await);
        let before = network.clone();
        network.remove(&laptop, pi.public(), 3).unwrap();
        assert!(!meet(&node_in(&laptop, &network), &node_in(&pi, &before)).await);
        assert!(!meet(&node_in(&pi, &before), &node_in(&laptop, &network)).await);
    });
}

/// The port of a node accepts the nodes of its device and the holders of the device's key, and nobody else. A node that
/// dials does the same.
#[test]
fn nodes_know_the_nodes_of_their_device() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let key = DeviceKey::open(&Home::open(folder.path().join("home")).unwrap()).unwrap();
        let (device, other) = (key.secret(), SecretKey::generate().unwrap());
        let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 3600));
        let port = |tls: &Tls| Listener::bind_tcp("127.0.0.1:0".parse().unwrap(), tls.clone()).unwrap();
        let ours = node_of(device, Some(now));
        let listener = port(&ours);
        let at = listener.address();
        for known in [node_of(device, Some(now)), Tls::to_nodes(&key).unwrap()] {
            let (dialled, accepted) = tokio::join!(dial(&at, Some(&known)), listener.accept());
            let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
            dialled.write_u8(7).await.unwrap();
            dialled.flush().await.unwrap();
            assert_eq!(accepted.read_u8().await.unwrap(), 7);
        }
        let strangers = [
            node_of(&other, Some(now)),
            node_of(device, Some(now - 2 * day)),
            node_of(device, Some(now + day)),
            node_of(device, None),
        ];
        for (number, stranger) in strangers.iter().enumerate() {
            let theirs = port(stranger);
            // It dials a node of the device, and the other way round.
            for (listener, dialler) in [(&listener, stranger), (&theirs, &ours)] {
                let refused = async {
                    match dial(&listener.address(), Some(dialler)).await {
                        Err(_) => true,
                        // In TLS 1.3 the side that dials is ready first. It learns of the refusal when it reads.
                        Ok(mut stream) => stream.read_u8().await.is_err(),
                    }
                };
                tokio::select! {
                    _ = listener.accept() => panic!("stranger {number} passed"),
                    refused = refused => assert!(refused, "{number}"),
                }
            }
        }
    });
}

#[test]
fn dialling_another_protocol_is_refused() {
    run(async {
        let rig = Rig::new(Kind::Tls);
        let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(web.local_addr().unwrap());
        let answering = async {
            let (mut stream, _) = web.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream
        };
        let (refused, _stream) = tokio::join!(dial(&address, Some(&rig.tls)), answering);
        assert_eq!(refused.err().unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    });
}

/// A gpmd with a node and a module whose names are easy to find in recorded bytes.
struct Known {
    home: Home,
    server: Server,
    _folder: tempfile::TempDir,
}

const NODE: &str = "very-secret-node";
const MODULE: &str = "very-secret-module";
const BYTES: &str = "very-secret-bytes";
const ARGUMENT: &str = "very-secret-argument";

impl Known {
    fn new() -> Known {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let Start::Started(server) = Server::start(Config::new(home.clone())).unwrap() else {
            panic!("another runs")
        };
        Known { home, server, _folder: folder }
    }

    fn ports(&self) -> [SocketAddr; 2] {
        let record = self.server.record();
        [&record.address, &record.command_address].map(|address| address[4..].parse().unwrap())
    }

    fn applicant(&self) -> Applicant {
        Applicant {
            name: Some(NODE.parse().unwrap()),
            life: Life { id: uuid::Uuid::from_u128(0x1234_5678_9abc_def0), incarnation: 77 },
            addresses: vec!["unix:/nowhere.sock".into()],
            accepts: Vec::new(),
        }
    }
}

fn upload(home: &Home, reach: &Route) {
    let module = format!("(module (memory 1) (data (i32.const 0) \"{BYTES}\"))");
    let version = semver::Version::new(1, 0, 0);
    let control = Control::connect_by(home, reach).unwrap();
    control.upload(&MODULE.parse().unwrap(), &version, module.as_bytes(), &mut |_| {}).unwrap();
}

#[test]
fn strangers_learn_nothing_of_gpmd() {
    let known = Known::new();
    upload(&known.home, &Route::commands(&known.home));
    run(async {
        let reach = Route::nodes(&known.home);
        let (_link, _events) =
            Link::connect(&known.home, reach, Us::new(known.applicant()).unwrap(), Told::default())
                .await
                .unwrap();
        let (id, shown) = (known.home.id(), known.home.id().to_string());
        let path = known.home.path().to_str().unwrap().to_owned();
        let version = env!("CARGO_PKG_VERSION");
        let secrets: [&[u8]; 6] = [
            NODE.as_bytes(),
            MODULE.as_bytes(),
            &id.0,
            shown.as_bytes(),
            path.as_bytes(),
            version.as_bytes(),
        ];
        for at in known.ports() {
            for how in TRIES {
                tells_nothing(&told(at, stranger(&known.home, how)).await, &secrets);
            }
            for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[0xff; 100]] {
                let mut stream = TcpStream::connect(at).await.unwrap();
                stream.write_all(bytes).await.unwrap();
                let mut said = Vec::new();
                let _ = timeout(Duration::from_secs(8), stream.read_to_end(&mut said)).await.unwrap();
                // At most a TLS alert.
                assert!(said.len() <= 7, "{said:?}");
            }
        }
    });
}

/// Forwards everything to `to` and keeps a copy.
async fn eavesdrop(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    async fn copy(
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        heard: Arc<Mutex<Vec<u8>>>,
    ) {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            heard.lock().unwrap().extend_from_slice(&bytes[..count]);
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(to).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(copy(near_in, far_out, ear.clone()));
            tokio::spawn(copy(far_in, near_out, ear.clone()));
        }
    });
    (at, heard)
}

#[test]
fn eavesdroppers_learn_nothing() {
    let known = Known::new();
    let [nodes, commands] = known.ports();
    run(async {
        let (nodes, heard_of_nodes) = eavesdrop(nodes).await;
        let (commands, heard_of_commands) = eavesdrop(commands).await;
        let reach = Route::at(Address::Tcp(nodes), &known.home).unwrap();
        let (link, _events) =
            Link::connect(&known.home, reach, Us::new(known.applicant()).unwrap(), Told::default())
                .await
                .unwrap();
        assert_eq!(link.discover().await.unwrap().len(), 1);
        let reach = Route::at(Address::Tcp(commands), &known.home).unwrap();
        let (home, uploading) = (known.home.clone(), reach);
        tokio::task::spawn_blocking(move || upload(&home, &uploading)).await.unwrap();
        let id = known.home.id();
        let secrets: [&[u8]; 4] = [NODE.as_bytes(), MODULE.as_bytes(), BYTES.as_bytes(), &id.0];
        for heard in [heard_of_nodes, heard_of_commands] {
            let heard = heard.lock().unwrap();
            assert!(heard.len() > 1000, "{} bytes", heard.len());
            tells_nothing(&heard, &secrets);
        }
    });
}

#[test]
fn eavesdroppers_between_nodes_learn_nothing() {
    run(async {
        let rig = Rig::new(Kind::Tls);
        let listener = rig.listener.as_ref().unwrap();
        let Address::Tcp(at) = listener.address() else { panic!("it is a port") };
        let (at, heard) = eavesdrop(at).await;
        let address = Address::Tcp(at);
        let (near, far) = tokio::join!(dial(&address, Some(&rig.tls)), listener.accept());
        let _far = rig.serve(far.unwrap());
        let near = Connection::start(near.unwrap(), Side::Dialled, MessageLimits::SESSION, None);
        let streams = rig.greet(&near).await;
        let answer = echo(&streams, ARGUMENT.as_bytes(), 1000).await.unwrap();
        assert!(answer.starts_with(ARGUMENT.as_bytes()));
        let heard = heard.lock().unwrap();
        assert!(heard.len() > 1000, "{} bytes", heard.len());
        let id = rig.home.id();
        tells_nothing(&heard, &[ARGUMENT.as_bytes(), &id.0, env!("CARGO_PKG_VERSION").as_bytes()]);
    });
}
