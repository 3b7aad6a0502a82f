//! The certificate authorities that guests trust when they speak TLS.
//!
//! In: the certificates of the system, or a file. Out: a TLS client. Everything is read before a guest runs, because a
//! confined process cannot read it later. Must not know: who connects, and where to.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::base::error::{Code, Error, Result};
use crate::base::limits;

/// Certificates of authorities. The default is none, so every certificate of a server is refused. Cheap to clone; clones
/// share the data.
#[derive(Clone, Default)]
pub struct Authorities(Arc<Held>);

#[derive(Default)]
struct Held {
    certificates: Vec<CertificateDer<'static>>,
    /// The settings of all TLS connections, which are made for the first one.
    settings: OnceLock<Arc<ClientConfig>>,
}

impl Authorities {
    fn of(certificates: Vec<CertificateDer<'static>>) -> Authorities {
        Authorities(Arc::new(Held { certificates, settings: OnceLock::new() }))
    }

    /// Reads the authorities that the system trusts. Logs what cannot be read.
    pub fn of_system() -> Authorities {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::info!("cannot read a certificate authority of the system: {error}");
        }
        Authorities::of(found.certs)
    }

    /// Reads the authorities in a PEM file.
    ///
    /// # Errors
    /// `SYNTAX` if the file cannot be read, is too large, or has no valid certificate.
    pub fn of_file(path: &Path) -> Result<Authorities> {
        let wrong = |why: String| {
            Error::new(Code::Syntax, format!("{} has no certificate authorities: {why}", path.display()))
                .with_help("name a file with certificates in PEM format")
                .with_exit(2)
        };
        let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if size > limits::AUTHORITIES {
            return Err(wrong(format!("it is larger than {}", limits::bytes(limits::AUTHORITIES))));
        }
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let found = CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<Vec<_>, _>>();
        let found = found.map_err(|error| wrong(error.to_string()))?;
        if found.is_empty() {
            return Err(wrong("it has no certificate".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &found {
            roots.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(Authorities::of(found))
    }

    /// Returns a client that accepts servers with a certificate of these authorities.
    ///
    /// # Errors
    /// If the TLS library has no version of the protocol.
    pub(super) fn connector(&self) -> std::result::Result<TlsConnector, rustls::Error> {
        let settings = match self.0.settings.get() {
            Some(settings) => settings.clone(),
            None => {
                let made = Arc::new(self.settings()?);
                self.0.settings.get_or_init(|| made).clone()
            }
        };
        Ok(TlsConnector::from(settings))
    }

    fn settings(&self) -> std::result::Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::empty();
        // Systems have a few old certificates that nobody can use.
        roots.add_parsable_certificates(self.0.certificates.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut settings = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(settings)
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Authorities) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.certificates == other.0.certificates
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.certificates.len())
    }
}
