//! Certificates of relays that are known beforehand.
//!
//! In: pins, a certificate that a server shows. Out: whether the server is one that is known, or has a certificate that browsers
//! accept. Must not know: connections.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The first 16 bytes of the SHA-256 of a certificate: nobody can make another certificate with the same pin.
pub type Pin = [u8; 16];

/// Returns the pin of a certificate in DER.
pub fn pin_of(certificate: &[u8]) -> Pin {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut pin = Pin::default();
    pin.copy_from_slice(&digest.as_ref()[..16]);
    pin
}

/// The pins that are known. Clones share them. `Send + Sync`.
#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<RwLock<Vec<Pin>>>);

impl Pins {
    /// Adds a pin.
    pub fn add(&self, pin: Pin) {
        let mut pins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !pins.contains(&pin) {
            pins.push(pin);
        }
    }

    fn has(&self, pin: Pin) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&pin)
    }
}

/// Accepts certificates that have a known pin, and those that browsers accept.
#[derive(Debug)]
pub struct Verifier {
    pins: Pins,
    public: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    /// Creates the verifier.
    ///
    /// # Errors
    /// If the provider has no usable algorithms.
    pub fn new(pins: Pins, provider: Arc<CryptoProvider>) -> std::io::Result<Verifier> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let public = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Verifier { pins, public: public.map_err(std::io::Error::other)? })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.pins.has(pin_of(shown)) {
            true => Ok(ServerCertVerified::assertion()),
            false => self.public.verify_server_cert(shown, between, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.public.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.public.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.public.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_certificates_have_a_known_pin() {
        let pins = Pins::default();
        pins.add(pin_of(b"certificate"));
        pins.add(pin_of(b"certificate"));
        assert!(pins.has(pin_of(b"certificate")) && !pins.has(pin_of(b"certificate ")));
        assert_eq!(pins.0.read().unwrap().len(), 1);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(pins, provider).unwrap();
        let name = ServerName::try_from("example.net").unwrap();
        let check = |shown: &[u8]| {
            let shown = CertificateDer::from(shown.to_vec());
            verifier.verify_server_cert(&shown, &[], &name, &[], UnixTime::now())
        };
        assert!(check(b"certificate").is_ok());
        assert!(check(b"another").is_err());
    }
}
