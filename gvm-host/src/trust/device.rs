//! The device key: it proves that a process belongs to this home where the kernel cannot tell, that is on TCP, and it
//! certifies the device's nodes.
//!
//! In: a home. Out: the home's Ed25519 key, or an error if other users can read it; a certificate that contains the public
//! key and nothing else. Must not know: TLS, connections.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::certificate::named;
use super::key::{PublicKey, SecretKey};
use sha2::{Digest, Sha256};

use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::quote;

/// The most bytes read from a key file, which has about 200.
const MOST_BYTES: u64 = 16 << 10;

/// What to do about a key file that is not a key.
const REPLACE: &str =
    "stop gpmd and the nodes of this home, then remove it; the next start creates a new key";

/// A home's key, in memory.
pub struct DeviceKey(SecretKey);

impl DeviceKey {
    /// Reads the home's key, and creates it if there is none: PKCS#8 in `device.key`, mode 0600, durable
    /// before it is used. Several processes that start at the same time get the same key.
    ///
    /// # Errors
    /// `HOME_INSECURE` if other users can read it or it belongs to another user; `STORAGE_FULL`, `INTERNAL`.
    pub fn open(home: &Home) -> Result<DeviceKey> {
        let path = home.device_key();
        if !path.exists() {
            // If another process has written a key meanwhile, that key is read below.
            durable::write_new(&path, SecretKey::generate()?.to_pem().as_bytes())?;
        }
        let text = read_secret(&path)?;
        SecretKey::from_pem(&text).map(DeviceKey).map_err(|error| {
            Error::internal(format!(
                "`{}` does not contain an Ed25519 key in PKCS#8 form: {error}",
                path.display()
            ))
            .with_help(REPLACE)
        })
    }

    /// Replaces the home's key by a new one, which is durable when this returns.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn renew(home: &Home) -> Result<DeviceKey> {
        let key = SecretKey::generate()?;
        durable::write(&home.device_key(), key.to_pem().as_bytes())?;
        Ok(DeviceKey(key))
    }

    /// Returns the public key.
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }

    /// Returns the key itself.
    pub fn secret(&self) -> &SecretKey {
        &self.0
    }

    /// Returns what devices show to a relay that this device runs. It is the same in every process.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn relay_token(&self) -> Result<[u8; 16]> {
        let digest =
            Sha256::new().chain_update(b"ghost relay token 1\0").chain_update(self.0.seed()?).finalize();
        let mut token = [0; 16];
        token.copy_from_slice(&digest[..16]);
        Ok(token)
    }

    /// Returns a certificate in DER that the key signs itself. It is the same in every process.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        named().self_signed(self.0.pair()).map(|certificate| certificate.der().to_vec()).map_err(|error| {
            Error::internal(format!("cannot create a certificate from the device key: {error}"))
        })
    }
}

/// Reads a file that belongs to this user and that no other user can read.
fn read_secret(path: &Path) -> Result<String> {
    let fail = |error| Error::io(format_args!("cannot read `{}`", path.display()), error);
    let file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(Error::internal(format!("`{}` is not a file", path.display())).with_help(REPLACE));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(Code::HomeInsecure, format!("`{}` belongs to another user", path.display()))
            .with_help("choose a home of your own with `--home` or `GHOST_HOME`"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Error::new(
            Code::HomeInsecure,
            format!(
                "other users can read `{}` (mode {:03o}); anyone who has this key can act as you",
                path.display(),
                meta.mode() & 0o777,
            ),
        )
        .with_command(format!("chmod 600 {}", quote::path(path))));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    // Bytes that are not UTF-8 are not a key either: the parser of keys reports them.
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
    fn a_key_that_other_users_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        DeviceKey::open(&home).unwrap();
        fs::set_permissions(home.device_key(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = DeviceKey::open(&home).err().unwrap();
        assert_eq!(error.code(), Code::HomeInsecure);
        assert_eq!(
            error.command(),
            Some(format!("chmod 600 {}", home.device_key().display()).as_str()),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_key_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(folder.path());
        DeviceKey::open(&home).unwrap();
        fs::write(home.device_key(), "nonsense").unwrap();
        let error = DeviceKey::open(&home).err().unwrap();
        assert!(error.message().contains("device.key"), "{error}");
    }
}
