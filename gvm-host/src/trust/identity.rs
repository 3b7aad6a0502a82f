//! The identity of a running node: its key, and the certificate that its device renewed last.
//!
//! In: certificates from gpmd. Out: what the node shows and signs with. The private key never leaves this process. Must not
//! know: gpmd, connections.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::key::{PublicKey, SecretKey};
use crate::base::error::{Code, Error, Result};

/// The identity of a node. Cheap to clone; clones share it. `Send + Sync`.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    key: SecretKey,
    card: RwLock<Option<Card>>,
}

/// What a node shows.
#[derive(Clone)]
pub struct Card {
    /// In DER.
    pub certificate: Arc<[u8]>,
    /// The key of the device that issued it.
    pub device: PublicKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.key.public()).finish()
    }
}

impl Identity {
    /// Creates an identity with a new key, which no device has certified yet.
    ///
    /// # Errors
    /// `INTERNAL` if the system has no random numbers.
    pub fn new() -> Result<Identity> {
        Ok(Identity(Arc::new(Inner { key: SecretKey::generate()?, card: RwLock::default() })))
    }

    /// Returns the key.
    pub fn key(&self) -> &SecretKey {
        &self.0.key
    }

    /// Replaces the card.
    pub fn renew(&self, card: Card) {
        *self.0.card.write().unwrap_or_else(PoisonError::into_inner) = Some(card);
    }

    /// Returns the newest card.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` if no device has certified the node yet.
    pub fn card(&self) -> Result<Card> {
        let card = self.0.card.read().unwrap_or_else(PoisonError::into_inner).clone();
        card.ok_or_else(|| Error::new(Code::GpmdNotRunning, "gpmd has not certified this node yet"))
    }
}
