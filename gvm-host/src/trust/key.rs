//! Ed25519 keys (RFC 8032), by which devices and nodes are known.
//!
//! In: random numbers of the system, or a key in PKCS#8 form. Out: signatures, and whether one is right. Must not know:
//! what is signed, where keys are kept.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::base::device::DeviceId;
use crate::base::error::{Error, Result};
use crate::base::id::Hash;

/// A public key. It names its device or node in every table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// A signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 64]);

/// A private key with its public key, in memory. Never printed.
pub struct SecretKey(KeyPair);

impl SecretKey {
    /// Creates a key.
    ///
    /// # Errors
    /// `INTERNAL` if the system has no random numbers.
    pub fn generate() -> Result<SecretKey> {
        let fail = |error| Error::internal(format!("cannot create a key: {error}"));
        KeyPair::generate_for(&PKCS_ED25519).map(SecretKey).map_err(fail)
    }

    /// Reads a key in PKCS#8 form, as PEM.
    ///
    /// # Errors
    /// The reason, in words, if it is not an Ed25519 key.
    pub fn from_pem(text: &str) -> std::result::Result<SecretKey, String> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(text, &PKCS_ED25519);
        key.map(SecretKey).map_err(|error| error.to_string())
    }

    /// Returns the key in PKCS#8 form, as PEM.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Returns the key in PKCS#8 form, as DER.
    pub fn to_der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// Returns the 32 bytes from which the key follows (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// `INTERNAL` if the key has another form.
    pub fn seed(&self) -> Result<[u8; 32]> {
        // The structure of RFC 8410, section 7: the private key is an octet string in an octet string.
        const HEAD: [u8; 4] = [0x04, 0x22, 0x04, 0x20];
        let der = self.to_der();
        let seed = der.windows(HEAD.len()).position(|bytes| bytes == HEAD).map(|place| place + HEAD.len());
        let seed = seed.and_then(|begin| der.get(begin..begin + 32)).and_then(|seed| seed.try_into().ok());
        seed.ok_or_else(|| Error::internal("the private key has an unknown form"))
    }

    /// Returns the public key.
    pub fn public(&self) -> PublicKey {
        // An Ed25519 key has 32 bytes.
        PublicKey(self.0.public_key_raw().try_into().unwrap_or_default())
    }

    /// Signs bytes.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn sign(&self, bytes: &[u8]) -> Result<Signature> {
        let signed = self.0.sign(bytes).ok().and_then(|signature| signature.try_into().ok());
        signed.map(Signature).ok_or_else(|| Error::internal("cannot sign with an Ed25519 key"))
    }

    /// Returns the key for certificates.
    pub(super) fn pair(&self) -> &KeyPair {
        &self.0
    }
}

impl PublicKey {
    /// Returns the key with these bytes; `None` if their number is not 32.
    pub fn read(bytes: &[u8]) -> Option<PublicKey> {
        bytes.try_into().ok().map(PublicKey)
    }

    /// Returns the bytes of the key.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the id that people compare: the SHA-256 of the key.
    pub fn id(&self) -> DeviceId {
        DeviceId(Hash::of(&self.0))
    }

    /// Returns whether the owner of this key signed these bytes.
    pub fn verifies(&self, bytes: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, &signature.0).is_ok()
    }

    /// Returns the key as a `SubjectPublicKeyInfo` in DER (RFC 8410).
    pub fn to_der(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }
}

/// So that certificates can be made for the key.
impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl Signature {
    /// Returns the signature with these bytes; `None` if their number is not 64.
    pub fn read(bytes: &[u8]) -> Option<Signature> {
        bytes.try_into().ok().map(Signature)
    }

    /// Returns the bytes of the signature.
    pub fn bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id(), f)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

macro_rules! as_text {
    ($type:ident, $what:literal) => {
        impl From<$type> for String {
            fn from(from: $type) -> String {
                STANDARD_NO_PAD.encode(from.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = &'static str;

            fn try_from(text: String) -> std::result::Result<$type, &'static str> {
                let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| concat!("not ", $what))?;
                bytes.try_into().map($type).map_err(|_| concat!("not ", $what))
            }
        }
    };
}

as_text!(PublicKey, "an Ed25519 key in base 64");
as_text!(Signature, "an Ed25519 signature in base 64");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_of_a_key_signs() {
        let (one, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let signature = one.sign(b"text").unwrap();
        assert!(one.public().verifies(b"text", &signature));
        assert!(!one.public().verifies(b"texT", &signature));
        assert!(!other.public().verifies(b"text", &signature));
        let same = ring::signature::Ed25519KeyPair::from_seed_unchecked(&one.seed().unwrap()).unwrap();
        assert_eq!(ring::signature::KeyPair::public_key(&same).as_ref(), one.public().bytes());
        let again = SecretKey::from_pem(&one.to_pem()).unwrap();
        assert_eq!(again.public(), one.public());
        assert!(SecretKey::from_pem("no key").is_err());
    }

    #[test]
    fn a_key_parses_what_it_prints() {
        let key = PublicKey([7; 32]);
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&text).unwrap(), key);
    }

    #[test]
    fn the_der_form_is_that_of_rfc_8410() {
        let key = SecretKey::generate().unwrap().public();
        let der = key.to_der();
        assert_eq!(der[..12], [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]);
        assert_eq!(der[12..], key.0);
    }
}
