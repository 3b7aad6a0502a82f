//! Authentication over TCP: mutual TLS 1.3 between holders of one home's device key.
//!
//! In: the home's key, a connected socket. Out: a private connection to a process that holds the same key, or
//! `AUTH_FAILED`. Must not know: the messages that cross it.
//!
//! Both sides present the home's certificate and accept only the home's own public key; names, dates and
//! authorities do not count. A home trusts only itself. The unencrypted bytes show only that this is TLS: no
//! server name, a constant protocol name, no session tickets that identify a caller.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::socket::{Socket, Stream};
use super::transport::{OtherEnd, Transport};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::trust::device::DeviceKey;

/// The protocol name (ALPN), which both sides send unencrypted: the same for every port.
const PROTOCOL: &[u8] = b"ghost";

/// The TLS configuration by which a home's processes recognise each other. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Creates the configuration from the home's device key; creates the key if there is none.
    ///
    /// # Errors
    /// `HOME_INSECURE` if other users can read the key; `STORAGE_FULL`, `INTERNAL`.
    pub fn open(home: &Home) -> Result<Tls> {
        Tls::new(&DeviceKey::open(home)?)
    }

    /// Creates the configuration from this key.
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot use the key.
    pub fn new(key: &DeviceKey) -> Result<Tls> {
        let fail = |error: rustls::Error| {
            Error::internal(format!("cannot use the device key for TLS: {error}")).with_source(error)
        };
        let provider = Arc::new(ring::default_provider());
        let pinned = Arc::new(Pinned::new(key.public().to_der(), &provider));
        let certificate = vec![CertificateDer::from(key.certificate()?)];
        let private = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.secret().to_der()));
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(fail)?
            .dangerous()
            .with_custom_certificate_verifier(pinned.clone())
            .with_client_auth_cert(certificate.clone(), private())
            .map_err(fail)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.enable_sni = false;
        // Every connection proves the key anew.
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(fail)?
            .with_client_cert_verifier(pinned)
            .with_single_cert(certificate, private())
            .map_err(fail)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }

    /// Runs the client's side of the handshake with the listener at `at`. It has no time limit of its own:
    /// the caller sets one.
    ///
    /// # Errors
    /// `PermissionDenied` with an `AUTH_FAILED` inside if the other side does not hold this home's key;
    /// errors of the socket.
    pub(super) async fn connect(&self, stream: TcpStream, at: SocketAddr) -> io::Result<Transport> {
        // The API requires a name; it is not sent.
        let name = ServerName::IpAddress(at.ip().into());
        let stream =
            self.connector.connect(name, Socket::Tcp(stream)).await.map_err(|error| refused(error, at))?;
        Ok(transport(stream, at))
    }

    /// Runs the server's side of the handshake, on a connection that `from` dialled.
    ///
    /// # Errors
    /// Those of [`Tls::connect`].
    pub(super) async fn accept(&self, stream: TcpStream, from: SocketAddr) -> io::Result<Transport> {
        let stream = self.acceptor.accept(Socket::Tcp(stream)).await.map_err(|error| refused(error, from))?;
        Ok(transport(stream, from))
    }
}

fn transport(stream: impl Into<TlsStream<Socket>>, at: SocketAddr) -> Transport {
    Transport::new(Stream::Tls(Box::new(stream.into())), OtherEnd::Home { at })
}

/// Converts a handshake error that TLS reported into `AUTH_FAILED`. Network errors stay as they are.
fn refused(error: io::Error, at: SocketAddr) -> io::Error {
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
    let sentence = format!("the other side ({at}) did not prove that it holds this home's key: {why}");
    let refused = Error::new(Code::AuthFailed, sentence).with_help(help).with_source(error);
    io::Error::new(io::ErrorKind::PermissionDenied, refused)
}

/// Accepts one public key.
#[derive(Debug)]
struct Pinned {
    key: SubjectPublicKeyInfoDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(key: Vec<u8>, provider: &CryptoProvider) -> Pinned {
        Pinned { key: key.into(), algorithms: provider.signature_verification_algorithms }
    }

    /// Checks that this certificate has the pinned key. The data is public, so the comparison need not take
    /// constant time.
    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let certificate = ParsedCertificate::try_from(shown)?;
        match certificate.subject_public_key_info() == self.key {
            true => Ok(()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
}

/// The signature checks, which are the same for both sides of a handshake.
macro_rules! signed_as_pinned {
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

impl ServerCertVerifier for Pinned {
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

    signed_as_pinned!();
}

impl ClientCertVerifier for Pinned {
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

    signed_as_pinned!();
}
