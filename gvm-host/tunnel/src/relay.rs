//! A relay for devices that cannot reach each other directly.
//!
//! In: an address, the certificate and the token that its devices know. Out: a server that passes encrypted packets between
//! devices that show the token, and tells them from which address their packets come. Must not know: networks, who the devices
//! are.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use iroh_relay::server::{
    Access, AccessControl, CertConfig, ClientRequest, QuicConfig, RelayConfig, Server, ServerConfig,
    TlsConfig,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::pin::{Pin, pin_of};

/// What a relay shows, and what it wants to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// X.509, in DER.
    pub certificate: Vec<u8>,
    /// The private key, in PKCS#8 form.
    pub key: Vec<u8>,
    pub token: String,
}

impl Identity {
    /// Returns what devices know of the certificate.
    pub fn pin(&self) -> Pin {
        pin_of(&self.certificate)
    }
}

/// A running relay. Dropping it ends it.
pub struct Relay {
    server: Server,
    address: SocketAddr,
}

/// Admits those who show the token.
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl AccessControl for Token {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let shown = request.auth_token().unwrap_or_default();
        // The digests are compared, so the time says nothing about the token.
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        match digest(&shown).as_ref() == digest(&self.0).as_ref() {
            true => Access::Allow,
            false => Access::Deny { reason: Some("the token is not that of this relay".into()) },
        }
    }
}

impl Relay {
    /// Starts a relay at this address, for TCP and UDP. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `AddrInUse` if the port is in use; others if the certificate cannot be used.
    pub async fn start(at: SocketAddr, identity: &Identity) -> io::Result<Relay> {
        // Both protocols need the same port, which may be chosen here. Errors of the server have no kind.
        let probe = std::net::TcpListener::bind(at)?;
        let at = probe.local_addr()?;
        drop((std::net::UdpSocket::bind(at)?, probe));
        let certificate = CertificateDer::from(identity.certificate.clone());
        let key = PrivatePkcs8KeyDer::from(identity.key.clone());
        let tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .and_then(|builder| {
                    builder.with_no_client_auth().with_single_cert(vec![certificate], key.into())
                })
                .map_err(io::Error::other)?;
        // Its plain port is only for web browsers behind portals.
        let mut config = RelayConfig::new((Ipv4Addr::LOCALHOST, 0));
        config.tls = Some(TlsConfig::new(at, CertConfig::Manual { server_config: tls }));
        config.access = Arc::new(Token(identity.token.clone()));
        let mut servers = ServerConfig::default();
        servers.relay = Some(config);
        servers.quic = Some(QuicConfig::new(at));
        let server = Server::spawn(servers).await.map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(Relay { server, address: at })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it ends by itself, which is a failure.
    pub async fn ended(&mut self) -> String {
        match self.server.join().await {
            Ok(Ok(())) => "it has ended".into(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        }
    }

    /// Ends it.
    pub async fn stop(self) {
        let _ = self.server.shutdown().await;
    }
}
