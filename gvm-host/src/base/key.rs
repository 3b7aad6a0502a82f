//! The device key: what makes a process one of this home wherever the kernel cannot vouch for it.
//!
//! In: a home. Out: the Ed25519 key that all its processes agree on, refused where others may have
//! read it; a certificate that carries its public half and says nothing else. Must not know: who is
//! shown the certificate.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};

use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::quote;

/// The one name in every certificate: it tells neither home nor device nor user.
const NAME: &str = "ghost";

/// A key file is some 200 bytes; whatever is larger is none.
const MOST_BYTES: u64 = 16 << 10;

/// A home's key. Belongs to whoever opened it; the file stays as it is.
pub struct DeviceKey(KeyPair);

impl DeviceKey {
    /// Reads the home's key, making it where there is none: PKCS#8 in `device.key`, mode 0600, durable
    /// before it is used. Several processes that start at once end up with the same key.
    ///
    /// # Errors
    /// `HOME_INSECURE` where others may read it or it is another user's; `STORAGE_FULL`, `INTERNAL`.
    pub fn open(home: &Home) -> Result<DeviceKey> {
        let path = home.device_key();
        if !path.exists() {
            let fresh = KeyPair::generate_for(&rcgen::PKCS_ED25519)
                .map_err(|error| Error::internal(format!("no device key can be made: {error}")))?;
            // Whoever comes second takes the first one's.
            durable::write_new(&path, fresh.serialize_pem().as_bytes())?;
        }
        let text = read_secret(&path)?;
        KeyPair::from_pkcs8_pem_and_sign_algo(&text, &rcgen::PKCS_ED25519).map(DeviceKey).map_err(|error| {
            Error::internal(format!(
                "{} holds no Ed25519 key in PKCS#8 ({error}): stop what runs in this home and remove the \
                 file, and the next start makes a new one",
                path.display()
            ))
        })
    }

    /// The public half, as a `SubjectPublicKeyInfo` in DER.
    pub fn public(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// The private half, as PKCS#8 in DER.
    pub fn private(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// A certificate in DER that the key signed for itself; the same one in every process.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.self_signed(&self.0).map(|certificate| certificate.der().to_vec()).map_err(|error| {
            Error::internal(format!("no certificate can be made of the device key: {error}"))
        })
    }
}

/// The text of a file that only its owner, our user, may read.
fn read_secret(path: &Path) -> Result<String> {
    let fail = |error| Error::io(format_args!("cannot read {}", path.display()), error);
    let file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(Error::internal(format!(
            "{} is no file: stop what runs in this home and remove it, and the next start makes a key",
            path.display()
        )));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(
            Code::HomeInsecure,
            format!("{} belongs to another user: choose a home of your own with --home", path.display()),
        ));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Error::new(
            Code::HomeInsecure,
            format!(
                "other users can read {} (mode {:03o}); anyone who has this key can act as you",
                path.display(),
                meta.mode() & 0o777,
            ),
        )
        .with_command(format!("chmod 600 {}", quote::path(path))));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    // What is no text is no key either, and told so by whoever reads it.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn home(folder: &Path) -> Home {
        Home::open(folder.join("home")).unwrap()
    }

    #[test]
    fn is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        let keys = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..8).map(|_| scope.spawn(|| DeviceKey::open(&home).unwrap())).collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(keys.iter().all(|key| key.public() == keys[0].public()));
        assert!(keys.iter().all(|key| key.certificate().unwrap() == keys[0].certificate().unwrap()));
        assert_eq!(fs::metadata(home.device_key()).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(home.device_key()).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"), "it is PKCS#8");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        DeviceKey::open(&home).unwrap();
        fs::set_permissions(home.device_key(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = DeviceKey::open(&home).err().unwrap();
        assert_eq!(error.code(), Code::HomeInsecure);
        assert!(error.message().contains(&format!("chmod 600 {}", home.device_key().display())), "{error}");
    }

    #[test]
    fn a_damaged_key_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        DeviceKey::open(&home).unwrap();
        fs::write(home.device_key(), "nonsense").unwrap();
        let error = DeviceKey::open(&home).err().unwrap();
        assert!(error.message().contains("device.key"), "{error}");
    }
}
