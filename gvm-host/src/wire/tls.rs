//! Authentication over TCP: mutual TLS 1.3 between processes of one device, and between devices.
//!
//! In: the device's key or a node's identity, whom to accept, a connected socket. Out: a private connection to a process that
//! is accepted, or `AUTH_FAILED`. Must not know: the messages that cross it.
//!
//! gpmd and its commands present the device's own certificate. Nodes present the certificate that gpmd gave them, so they
//! need not read the device's key. Names and authorities do not count, only the device's key. The unencrypted bytes show
//! only that this is TLS: no server name, a constant protocol name, no session tickets that identify a caller.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::socket::{Socket, Stream};
use super::transport::{OtherEnd, Place, Transport};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::trust::certificate;
use crate::trust::device::DeviceKey;
use crate::trust::devices::Devices;
use crate::trust::identity::Identity;
use crate::trust::key::{PublicKey, SecretKey};

/// The protocol name (ALPN), which both sides send unencrypted: the same for every port.
const PROTOCOL: &[u8] = b"ghost";

/// The TLS configuration by which the processes of a device recognise each other. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    /// Whether the other end is reported by its key.
    by_key: bool,
}

/// Decides whether the owner of a device key is accepted.
pub type Accepts = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// The device key that a process shows. Clones share it, also after it was replaced. `Send + Sync`.
#[derive(Clone, Debug)]
pub struct OwnKey(Arc<RwLock<Arc<CertifiedKey>>>);

impl OwnKey {
    /// Shows this key.
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot use it.
    pub fn new(key: &DeviceKey) -> Result<OwnKey> {
        Ok(OwnKey(Arc::new(RwLock::new(of_device(key)?))))
    }

    /// Shows another key from now on. Connections that exist stay.
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot use it.
    pub fn replace(&self, key: &DeviceKey) -> Result<()> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = of_device(key)?;
        Ok(())
    }

    fn now(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesClientCert for OwnKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for OwnKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

fn of_device(key: &DeviceKey) -> Result<Arc<CertifiedKey>> {
    certified(key.certificate()?, key.secret()).map(Arc::new).map_err(unusable)
}

impl Tls {
    /// Creates the configuration from the home's device key; creates the key if there is none.
    ///
    /// # Errors
    /// `HOME_INSECURE` if other users can read the key; `STORAGE_FULL`, `INTERNAL`.
    pub fn open(home: &Home) -> Result<Tls> {
        Tls::new(&DeviceKey::open(home)?)
    }

    /// Creates the configuration of a holder of the device's key. It trusts the other holders.
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot use the key.
    pub fn new(key: &DeviceKey) -> Result<Tls> {
        Tls::of_device(key, Trusted::Device(key.public()))
    }

    /// Creates the configuration of a holder of the device's key who dials nodes, for a diagnosis.
    ///
    /// # Errors
    /// Those of [`Tls::new`].
    pub fn to_nodes(key: &DeviceKey) -> Result<Tls> {
        Tls::of_device(key, Trusted::NodesOf(key.public()))
    }

    /// Creates the configuration of a gpmd that shows this key and accepts the device keys that `accepts` accepts. The other
    /// end is then known as [`OtherEnd::Device`].
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot be used.
    pub fn of_gpmd(own: &OwnKey, accepts: Accepts) -> Result<Tls> {
        let shown = Arc::new(own.clone());
        let tls = Tls::with(Trusted::Keys(Chosen(accepts)), shown.clone(), shown)?;
        Ok(Tls { by_key: true, ..tls })
    }

    fn of_device(key: &DeviceKey, trusted: Trusted) -> Result<Tls> {
        let shown = certified(key.certificate()?, key.secret()).map_err(unusable)?;
        let shown = Arc::new(SingleCertAndKey::from(shown));
        Tls::with(trusted, shown.clone(), shown)
    }

    /// Creates the configuration of a node. It trusts the nodes of these devices, and the holders of its own device's key.
    /// There can be no connection before the node has a certificate.
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot be used.
    pub fn of_node(identity: Identity, devices: Devices) -> Result<Tls> {
        let shown = Arc::new(Shown(identity));
        Tls::with(Trusted::Nodes(devices), shown.clone(), shown)
    }

    fn with(
        trusted: Trusted,
        client: Arc<dyn ResolvesClientCert>,
        server: Arc<dyn ResolvesServerCert>,
    ) -> Result<Tls> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(Verifier { trusted, algorithms });
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(client);
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.enable_sni = false;
        // Every connection proves the key anew.
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(server);
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            by_key: false,
        })
    }

    /// Runs the client's side of the handshake with the listener at `at`. It has no time limit of its own:
    /// the caller sets one.
    ///
    /// # Errors
    /// `PermissionDenied` with an `AUTH_FAILED` inside if the other side does not hold this home's key;
    /// errors of the socket.
    pub(super) async fn connect(&self, stream: Socket, at: Place) -> io::Result<Transport> {
        // The API requires a name; it is not sent.
        let name = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        let stream = self.connector.connect(name, stream).await.map_err(|error| refused(error, at))?;
        Ok(transport(stream, at, self.by_key))
    }

    /// Runs the server's side of the handshake, on a connection that `from` dialled.
    ///
    /// # Errors
    /// Those of [`Tls::connect`].
    pub(super) async fn accept(&self, stream: Socket, from: Place) -> io::Result<Transport> {
        let stream = self.acceptor.accept(stream).await.map_err(|error| refused(error, from))?;
        Ok(transport(stream, from, self.by_key))
    }
}

fn transport(stream: impl Into<TlsStream<Socket>>, at: Place, by_key: bool) -> Transport {
    let stream = stream.into();
    let at = match at {
        Place::Port(at) => Place::Port(SocketAddr::new(at.ip().to_canonical(), at.port())),
        Place::Tunnel => at,
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let key = shown.filter(|_| by_key).and_then(|shown| key_of(shown).ok().flatten());
    let other = match key {
        Some(key) => OtherEnd::Device { at, key },
        None => OtherEnd::Home { at },
    };
    Transport::new(Stream::Tls(Box::new(stream)), other)
}

/// Returns the Ed25519 key in a certificate; `None` if it has a key of another kind.
fn key_of(shown: &CertificateDer<'_>) -> std::result::Result<Option<PublicKey>, rustls::Error> {
    let certificate = ParsedCertificate::try_from(shown)?;
    let spki = certificate.subject_public_key_info();
    let Some(raw) = spki.as_ref().len().checked_sub(32).and_then(|head| spki.as_ref().get(head..)) else {
        return Ok(None);
    };
    // The key is the end of the structure; the comparison checks the algorithm.
    Ok(PublicKey::read(raw).filter(|key| spki == SubjectPublicKeyInfoDer::from(key.to_der())))
}

/// Converts a handshake error that TLS reported into `AUTH_FAILED`. Network errors stay as they are.
fn refused(error: io::Error, at: Place) -> io::Error {
    let Some(why) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return error;
    };
    let same_home = "start both sides again with the same home";
    let (why, help) = match why {
        rustls::Error::InvalidCertificate(_) => ("it has another key".to_owned(), same_home),
        rustls::Error::AlertReceived(_) => (format!("it refused the key of this side ({why})"), same_home),
        rustls::Error::InvalidMessage(_) => ("it does not speak TLS".to_owned(), "check the address"),
        why => (why.to_string(), same_home),
    };
    let sentence = format!("the other side ({at}) did not prove that it belongs to this home: {why}");
    let refused = Error::new(Code::AuthFailed, sentence).with_help(help).with_source(error);
    io::Error::new(io::ErrorKind::PermissionDenied, refused)
}

/// Returns whether the other side has refused this one, which TLS tells after the handshake of the side that dials.
pub fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

fn unusable(error: rustls::Error) -> Error {
    Error::internal(format!("cannot use a key for TLS: {error}")).with_source(error)
}

/// Returns a certificate with its key, for TLS.
fn certified(certificate: Vec<u8>, key: &SecretKey) -> std::result::Result<CertifiedKey, rustls::Error> {
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.to_der()))?;
    Ok(CertifiedKey::new(vec![CertificateDer::from(certificate)], key))
}

/// Shows the newest certificate of a node.
#[derive(Debug)]
struct Shown(Identity);

impl Shown {
    fn card(&self) -> Option<Arc<CertifiedKey>> {
        let card = self.0.card().ok()?;
        let certified = certified(card.certificate.to_vec(), self.0.key());
        certified
            .inspect_err(|error| tracing::error!("cannot use the key of this node for TLS: {error}"))
            .ok()
            .map(Arc::new)
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.card()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.card()
    }
}

/// Whom a process accepts.
#[derive(Debug)]
enum Trusted {
    /// The holders of this key.
    Device(PublicKey),
    /// They and the nodes that this device has certified.
    NodesOf(PublicKey),
    /// The holders of the first key of these, and the nodes that any of them has certified.
    Nodes(Devices),
    /// The holders of the device keys that a function accepts.
    Keys(Chosen),
}

struct Chosen(Accepts);

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chosen(..)")
    }
}

#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Checks that the owner of this certificate is accepted. The data is public, so the comparison need not take constant
    /// time.
    fn check(&self, shown: &CertificateDer<'_>) -> std::result::Result<(), rustls::Error> {
        let refused = || rustls::Error::from(CertificateError::ApplicationVerificationFailure);
        let devices = match &self.trusted {
            Trusted::Nodes(devices) => Some(devices.now()),
            Trusted::Device(_) | Trusted::NodesOf(_) | Trusted::Keys(_) => None,
        };
        let device = match &self.trusted {
            Trusted::Keys(Chosen(accepts)) => {
                return match key_of(shown)? {
                    Some(key) if accepts(&key) => Ok(()),
                    _ => Err(refused()),
                };
            }
            Trusted::Device(device) | Trusted::NodesOf(device) => *device,
            Trusted::Nodes(_) => devices.as_ref().and_then(|devices| devices.own()).ok_or_else(refused)?,
        };
        let certificate = ParsedCertificate::try_from(shown)?;
        if certificate.subject_public_key_info() == SubjectPublicKeyInfoDer::from(device.to_der()) {
            return Ok(());
        }
        match self.trusted {
            Trusted::Device(_) | Trusted::Keys(_) => Err(refused()),
            Trusted::Nodes(_) | Trusted::NodesOf(_) => {
                let trusted = |id: &DeviceId| match &devices {
                    Some(devices) => devices.key(id),
                    None => (*id == device.id()).then_some(device),
                };
                let proven = certificate::check(shown, trusted, SystemTime::now());
                proven.map(drop).map_err(|why| {
                    tracing::debug!("refused a node: its certificate {why}");
                    refused()
                })
            }
        }
    }
}

/// The signature checks, which are the same for both sides of a handshake.
macro_rules! signature_checks {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.2 is not supported".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, shown, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    signature_checks!();
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    signature_checks!();
}
