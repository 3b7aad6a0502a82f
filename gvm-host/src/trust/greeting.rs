//! What two nodes sign when they meet, so that each knows who the other is.
//!
//! In: the certificates and random numbers that both sides have sent, and what identifies their connection. Out: signatures,
//! and whether one is right. Must not know: the messages that carry them.
//!
//! Each side signs the random number of the other, so a signature is of no use later; both certificates, so it is of no use
//! to anybody else; its own part in the greeting, so it cannot be sent back; and the secret of the connection, if it has
//! one, so nobody between the two can pass it on.

use ring::rand::{SecureRandom, SystemRandom};

use super::key::{PublicKey, SecretKey, Signature};
use crate::base::error::{Error, Result};

/// A number that is used once.
pub type Nonce = [u8; 32];

/// Returns a random number of the system.
///
/// # Errors
/// `INTERNAL` if it has none.
pub fn nonce() -> Result<Nonce> {
    let mut nonce = [0; 32];
    let filled = SystemRandom::new().fill(&mut nonce);
    filled.map(|()| nonce).map_err(|_| Error::internal("the system has no random numbers"))
}

/// What one side has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub certificate: Vec<u8>,
    pub nonce: Nonce,
}

/// The part of the side that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It dialled, and asks to connect.
    Asks,
    Answers,
}

/// What both sides have sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What only the two ends of the connection know; empty on a socket of this device.
    pub binding: Vec<u8>,
    pub asks: Said,
    pub answers: Said,
}

impl Greeting {
    fn text(&self, part: Part) -> Vec<u8> {
        let mut text = match part {
            Part::Asks => b"ghost greeting 1 asks\0".to_vec(),
            Part::Answers => b"ghost greeting 1 answers\0".to_vec(),
        };
        let Greeting { binding, asks, answers } = self;
        for field in [binding, &asks.certificate, &asks.nonce[..], &answers.certificate, &answers.nonce[..]] {
            text.extend_from_slice(&(field.len() as u64).to_le_bytes());
            text.extend_from_slice(field);
        }
        text
    }

    /// Signs the greeting.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn sign(&self, part: Part, key: &SecretKey) -> Result<Signature> {
        key.sign(&self.text(part))
    }

    /// Returns whether the owner of the key signed this greeting.
    pub fn is_signed(&self, part: Part, key: &PublicKey, signature: &[u8]) -> bool {
        Signature::read(signature).is_some_and(|signature| key.verifies(&self.text(part), &signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_one_greeting_and_one_part() {
        let key = SecretKey::generate().unwrap();
        let said = |certificate: &[u8]| Said { certificate: certificate.to_vec(), nonce: nonce().unwrap() };
        let greeting = Greeting { binding: b"tls".to_vec(), asks: said(b"one"), answers: said(b"two") };
        let signature = *greeting.sign(Part::Asks, &key).unwrap().bytes();
        assert!(greeting.is_signed(Part::Asks, &key.public(), &signature));
        assert!(!greeting.is_signed(Part::Answers, &key.public(), &signature));
        assert!(!greeting.is_signed(Part::Asks, &SecretKey::generate().unwrap().public(), &signature));
        assert!(!greeting.is_signed(Part::Asks, &key.public(), &signature[1..]));
        let others = [
            Greeting { binding: b"tlt".to_vec(), ..greeting.clone() },
            Greeting { asks: said(b"one"), ..greeting.clone() },
            Greeting { answers: said(b"two"), ..greeting.clone() },
            Greeting { asks: greeting.answers.clone(), answers: greeting.asks.clone(), ..greeting.clone() },
        ];
        for other in others {
            assert!(!other.is_signed(Part::Asks, &key.public(), &signature), "{other:?}");
        }
    }
}
