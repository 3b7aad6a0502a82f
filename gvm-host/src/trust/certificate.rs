//! Certificates of nodes: a device certifies who one of its nodes is.
//!
//! In: the key of a device, the public key and the identity of a node. Out: an X.509 certificate (RFC 5280) that the device
//! has signed; from a certificate that somebody shows, the identity that it proves. Must not know: connections, TLS, and
//! how a device knows its nodes.
//!
//! A certificate proves nothing alone: whoever shows it must also prove that it has the node's private key, by a signature
//! in TLS or in the greeting.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use uuid::Uuid;
use webpki::{EndEntityCert, KeyUsage};

use super::key::{PublicKey, SecretKey};
use crate::base::device::DeviceId;
use crate::base::error::{Error, Result};
use crate::base::id::Name;
use crate::base::node::Life;

/// How long a certificate holds. A node gets another one long before, while its gpmd runs.
pub const HOLDS: Duration = Duration::from_secs(24 * 3600);

/// How far the clocks of two devices may differ.
pub const CLOCKS: Duration = Duration::from_secs(2 * 3600);

/// The name of all who sign or own certificates. Nothing depends on it.
const NAME: &str = "ghost";

/// What the names of nodes in certificates begin with.
const SCHEME: &str = "ghost:node";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeIdentity {
    /// The device on which it runs.
    pub device: DeviceId,
    pub name: Name,
    pub life: Life,
}

/// A certificate that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    pub node: NodeIdentity,
    /// The key whose owner is this node.
    pub key: PublicKey,
}

/// Certifies that the owner of `key` is this node. The result is a certificate in DER.
///
/// # Errors
/// `INTERNAL`.
pub fn certify(device: &SecretKey, key: &PublicKey, node: &NodeIdentity, now: SystemTime) -> Result<Vec<u8>> {
    let fail = |error: rcgen::Error| Error::internal(format!("cannot create a certificate: {error}"));
    let mut params = named();
    params.not_before = (now - CLOCKS).into();
    params.not_after = (now + HOLDS).into();
    let name = Ia5String::try_from(write(node)).map_err(fail)?;
    params.subject_alt_names = vec![SanType::URI(name)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let issuer = Issuer::new(named(), device.pair());
    Ok(params.signed_by(key, &issuer).map_err(fail)?.der().to_vec())
}

/// Returns parameters with a name that reveals neither the home nor the device nor the user.
pub(super) fn named() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params
}

/// Checks a certificate in DER. `trusted` returns the key of a device that is trusted.
///
/// # Errors
/// The reason, in words that follow "its certificate".
pub fn check(
    shown: &[u8],
    trusted: impl FnOnce(&DeviceId) -> Option<PublicKey>,
    now: SystemTime,
) -> std::result::Result<Proven, String> {
    let der = CertificateDer::from(shown);
    let certificate = EndEntityCert::try_from(&der).map_err(|error| format!("cannot be read: {error}"))?;
    let mut names = certificate.valid_uri_names();
    let node = names.next().and_then(read).filter(|_| names.next().is_none());
    let node = node.ok_or("is not that of a node")?;
    let key = trusted(&node.device).ok_or("comes from a device that is not trusted")?;
    let device = key.to_der();
    let anchor = TrustAnchor {
        // All devices have the same name, so only their keys count.
        subject: Der::from_slice(certificate.issuer()),
        // The content of the outer sequence, whose head has two bytes.
        subject_public_key_info: Der::from_slice(&device[2..]),
        name_constraints: None,
    };
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    certificate
        .verify_for_usage(&[webpki::ring::ED25519], &[anchor], &[], now, KeyUsage::client_auth(), None, None)
        .map_err(|error| match error {
            webpki::Error::CertExpired { .. } => "has expired".to_owned(),
            webpki::Error::CertNotValidYet { .. } => {
                "is not valid yet: one of the clocks is wrong".to_owned()
            }
            error => format!("was not signed by its device: {error}"),
        })?;
    let spki = certificate.subject_public_key_info();
    // The algorithm is fixed by the head of the structure.
    let owner = spki.as_ref().strip_prefix(&device[..12]).and_then(PublicKey::read);
    Ok(Proven { node, key: owner.ok_or("has a key of another kind")? })
}

fn write(node: &NodeIdentity) -> String {
    let NodeIdentity { device, name, life } = node;
    format!("{SCHEME}:{device}:{name}:{}:{}", life.id, life.incarnation)
}

fn read(text: &str) -> Option<NodeIdentity> {
    let mut parts = text.strip_prefix(SCHEME)?.strip_prefix(':')?.split(':');
    let device = parts.next()?.parse().ok()?;
    let name = parts.next()?.parse().ok()?;
    let id: Uuid = parts.next()?.parse().ok()?;
    let incarnation = parts.next()?.parse().ok()?;
    let node = NodeIdentity { device, name, life: Life { id, incarnation } };
    // There is one way to write a name.
    (parts.next().is_none() && write(&node) == text).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bed {
        device: SecretKey,
        key: PublicKey,
        node: NodeIdentity,
        shown: Vec<u8>,
    }

    fn bed() -> Bed {
        let (device, key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap().public());
        let life = Life { id: Uuid::from_u128(7), incarnation: u64::MAX };
        let node = NodeIdentity { device: device.public().id(), name: "study".parse().unwrap(), life };
        let shown = certify(&device, &key, &node, SystemTime::now()).unwrap();
        Bed { device, key, node, shown }
    }

    fn check_now(shown: &[u8], trusted: PublicKey) -> std::result::Result<Proven, String> {
        check(shown, |id| (*id == trusted.id()).then_some(trusted), SystemTime::now())
    }

    #[test]
    fn proves_what_its_device_certified() {
        let Bed { device, key, node, shown } = bed();
        assert_eq!(check_now(&shown, device.public()).unwrap(), Proven { node, key });
    }

    #[test]
    fn another_device_proves_nothing() {
        let Bed { shown, node, key, .. } = bed();
        let other = SecretKey::generate().unwrap();
        assert!(check_now(&shown, other.public()).unwrap_err().contains("not trusted"));
        // It claims the device of another, with its own signature.
        let forged = certify(&other, &key, &node, SystemTime::now()).unwrap();
        let trusted = bed();
        let node = NodeIdentity { device: trusted.node.device, ..node };
        let claimed = certify(&other, &key, &node, SystemTime::now()).unwrap();
        assert!(check_now(&forged, other.public()).is_err());
        assert!(check_now(&claimed, trusted.device.public()).unwrap_err().contains("not signed"));
    }

    #[test]
    fn holds_for_a_day_although_clocks_differ() {
        let Bed { device, shown, .. } = bed();
        let trusted = |_: &DeviceId| Some(device.public());
        let hour = Duration::from_secs(3600);
        let now = SystemTime::now();
        assert!(check(&shown, trusted, now - hour).is_ok());
        assert!(check(&shown, trusted, now + 23 * hour).is_ok());
        assert!(check(&shown, trusted, now + 25 * hour).unwrap_err().contains("expired"));
        assert!(check(&shown, trusted, now - 3 * hour).unwrap_err().contains("clocks"));
    }

    #[test]
    fn altered_bytes_prove_nothing() {
        let Bed { device, shown, .. } = bed();
        for place in 0..shown.len() {
            let mut altered = shown.clone();
            altered[place] ^= 1;
            assert!(check_now(&altered, device.public()).is_err(), "byte {place}");
        }
        for length in 0..shown.len() {
            assert!(check_now(&shown[..length], device.public()).is_err());
        }
    }

    #[test]
    fn names_have_one_form() {
        let text = write(&bed().node);
        assert!(read(&text).is_some());
        for bad in [
            text.replace("study", "Study"),
            text.replace("ghost:", "ghast:"),
            format!("{text}:x"),
            text.to_uppercase(),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
