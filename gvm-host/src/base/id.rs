//! Names and ids of nodes and modules, in the same form everywhere.
//!
//! In: text that a person typed, bytes that a peer sent. Out: names that are known to be well formed. Must
//! not know: which nodes and modules exist.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use crate::base::error::{Code, Error, Result};

/// The longest node or module name, in bytes.
pub const MAX_NAME: usize = 64;

/// Names that the REPL reserves.
pub const RESERVED: [&str; 4] = ["node", "module", "exit", "help"];

/// The name of a node or a module: `[a-z][a-z0-9]*(-[a-z0-9]+)*`, at most 64 bytes, and
/// not `node`, `module`, `exit` or `help`. Cheap to clone, `Send + Sync`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Name> {
        let words = text.split('-').enumerate().all(|(index, word)| {
            let first = word.as_bytes().first();
            first.is_some_and(|byte| byte.is_ascii_lowercase() || index > 0 && byte.is_ascii_digit())
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        if !words || text.len() > MAX_NAME {
            return Err(Error::new(Code::Syntax, format!("`{text}` is not a valid name")).with_help(format!(
                "start with a lower-case letter; use lower-case letters, digits and single hyphens, at most \
                 {MAX_NAME} characters, as in `node-8399`"
            )));
        }
        if RESERVED.contains(&text) {
            return Err(Error::new(Code::Syntax, format!("the name `{text}` is reserved"))
                .with_help("choose another name"));
        }
        Ok(Name(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<Name> for Arc<str> {
    fn from(name: Name) -> Arc<str> {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// Parses a module's version: semver, with an optional `v` in front.
///
/// # Errors
/// `SYNTAX` for anything else.
pub fn parse_version(text: &str) -> Result<semver::Version> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    semver::Version::parse(bare).map_err(|error| {
        Error::new(Code::Syntax, format!("`{text}` is not a valid version: {error}"))
            .with_help("use a semantic version, such as `1.2.3` or `v1.2.3`")
    })
}

/// The SHA-256 of a module's bytes, which names the module in every store and cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Returns the hash of these bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        use sha2::Digest;
        Hash(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Hash> {
        let bad = || Error::new(Code::Syntax, format!("`{text}` is not a SHA-256 hash"));
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Hash(hash))
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// Returns a new id of a call. Ids are unique and not secret: a thread counts up from a random number of the system.
pub fn call_id() -> Uuid {
    /// The lowest bits, which count. The bits above them include those that mark the kind of the id.
    const COUNTER: u128 = (1 << 62) - 1;
    thread_local! {
        static LAST: Cell<Option<u128>> = const { Cell::new(None) };
    }
    let last = LAST.get().unwrap_or_else(|| Uuid::new_v4().as_u128());
    let id = last & !COUNTER | last.wrapping_add(1) & COUNTER;
    LAST.set(Some(id));
    Uuid::from_u128(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "node-8399", "a1-2b", "math", &"a".repeat(64)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "a--b", "A", "1a", "a_b", "node", "exit", "é", &"a".repeat(65)] {
            assert_eq!(bad.parse::<Name>().unwrap_err().code(), Code::Syntax, "{bad}");
        }
    }

    #[test]
    fn ids_of_calls_differ_in_and_between_threads() {
        let some = || (0..1000).map(|_| call_id()).collect::<Vec<_>>();
        let mut all = std::thread::spawn(some).join().unwrap();
        all.extend(some());
        all.extend(some());
        assert!(all.iter().all(|id| id.get_version_num() == 4));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 3000);
    }

    #[test]
    fn versions_may_begin_with_v() {
        assert_eq!(parse_version("v0.0.1").unwrap(), parse_version("0.0.1").unwrap());
        assert!(parse_version("vv1.0.0").is_err());
        assert!(parse_version("1.0").is_err());
    }

    #[test]
    fn hashes_parse_what_they_print() {
        let hash = Hash::of(b"ghost");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        assert!("é".repeat(32).parse::<Hash>().is_err());
    }
}
