//! Who may pass over TCP: mutual TLS 1.3 between holders of one home's device key.
//!
//! In: the home's key, a connected socket. Out: a private connection to a process that holds the same
//! key, or `AUTH_FAILED`. Must not know: what is said over it.
//!
//! Both sides show the home's certificate and accept exactly the home's own public key: no names, no
//! dates, no authorities. Today a home trusts itself alone. Nothing in the clear tells more than that
//! this is TLS: no server name, one constant protocol name, no tickets to recognise a caller by.

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
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::transport::{OtherEnd, Transport};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::key::DeviceKey;

/// The protocol's name as both sides say it in the clear: the same for every port.
const PROTOCOL: &[u8] = b"ghost";

/// What a home's processes need to recognise each other. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Of the home's device key, which is made where there is none.
    ///
    /// # Errors
    /// `HOME_INSECURE` where others may read the key; `STORAGE_FULL`, `INTERNAL`.
    pub fn open(home: &Home) -> Result<Tls> {
        Tls::new(&DeviceKey::open(home)?)
    }

    /// Of this key.
    ///
    /// # Errors
    /// `INTERNAL` where the key does not serve.
    pub fn new(key: &DeviceKey) -> Result<Tls> {
        let fail = |error: rustls::Error| {
            Error::internal(format!("the device key does not serve for TLS: {error}")).with_source(error)
        };
        let provider = Arc::new(ring::default_provider());
        let pinned = Arc::new(Pinned::new(key.public(), &provider));
        let certificate = vec![CertificateDer::from(key.certificate()?)];
        let private = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.private()));
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

    /// Proves who we are to whoever listens at `at`, and has it proved. Takes as long as the other side
    /// does: the caller bounds it.
    ///
    /// # Errors
    /// `PermissionDenied`, holding an `AUTH_FAILED`, where the other side is not of this home; the
    /// socket's.
    pub(super) async fn connect(&self, stream: TcpStream, at: SocketAddr) -> io::Result<Transport> {
        // Not sent; the type wants one.
        let name = ServerName::IpAddress(at.ip().into());
        let stream = self.connector.connect(name, stream).await.map_err(|error| refused(error, at))?;
        Ok(transport(stream, at))
    }

    /// As [`Tls::connect`], of a connection that `from` dialled.
    ///
    /// # Errors
    /// As of [`Tls::connect`].
    pub(super) async fn accept(&self, stream: TcpStream, from: SocketAddr) -> io::Result<Transport> {
        let stream = self.acceptor.accept(stream).await.map_err(|error| refused(error, from))?;
        Ok(transport(stream, from))
    }
}

fn transport<S>(stream: S, at: SocketAddr) -> Transport
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    Transport { reader: Box::new(reader), writer: Box::new(writer), peer: OtherEnd::Home { at } }
}

/// A handshake that TLS itself ended is a refusal; one that the network ended is not.
fn refused(error: io::Error, at: SocketAddr) -> io::Error {
    let Some(why) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return error;
    };
    let why = match why {
        rustls::Error::InvalidCertificate(_) => "it holds another".to_owned(),
        rustls::Error::AlertReceived(_) => format!("it refused ours ({why})"),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS, and is no program of ours".to_owned(),
        why => why.to_string(),
    };
    let sentence = format!(
        "the other side ({at}) did not prove that it holds this home's key: {why}; both sides must run with the \
         same home, and a key that was changed counts from their next start"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, Error::new(Code::AuthFailed, sentence).with_source(error))
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

    /// Whether this certificate carries the key. Public data: the comparison may take its time.
    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let certificate = ParsedCertificate::try_from(shown)?;
        match certificate.subject_public_key_info() == self.key {
            true => Ok(()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
}

/// What both sides of a handshake ask of the other's signature, word for word.
macro_rules! signed_as_pinned {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
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
