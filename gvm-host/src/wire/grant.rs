//! The rights of a session to and from the wire.
//!
//! In: rights and when they expire, or a peer's bytes. Out: the other form; the size of a peer's grant is
//! bounded. Must not know: who granted the rights, how they are enforced.

use super::schema::node_capnp::grant;
use crate::base::inert;
use crate::call::rights::SessionRights;

/// The most patterns read from a peer; a person wrote each of them on a command line.
const PATTERNS: usize = 1000;

/// Writes a grant.
pub fn write(from: &SessionRights, mut to: grant::Builder<'_>) {
    if let Some(calls) = &from.calls {
        let mut list = to.reborrow().init_calls(calls.len() as u32);
        for (index, pattern) in calls.iter().enumerate() {
            list.set(index as u32, pattern);
        }
    }
    to.set_expires(from.expires_ms.unwrap_or(0));
}

/// Reads the rights that a peer granted.
///
/// # Errors
/// capnp's, if the message cannot be read.
pub fn read(from: grant::Reader<'_>) -> capnp::Result<SessionRights> {
    let calls = match from.has_calls() {
        true => {
            let text = |pattern: capnp::Result<capnp::text::Reader<'_>>| {
                pattern.map(|pattern| {
                    inert::line(&String::from_utf8_lossy(pattern.as_bytes())).chars().take(1000).collect()
                })
            };
            Some(from.get_calls()?.iter().take(PATTERNS).map(text).collect::<capnp::Result<Vec<String>>>()?)
        }
        false => None,
    };
    Ok(SessionRights { calls, expires_ms: Some(from.get_expires()).filter(|at| *at != 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let calls = [None, Some(Vec::new()), Some(vec!["math.*".to_owned(), "x".to_owned()])];
        for (calls, expires_ms) in calls.into_iter().zip([None, Some(1), Some(1_800_000_000_000)]) {
            let grant = SessionRights { calls, expires_ms };
            let mut message = capnp::message::Builder::new_default();
            write(&grant, message.init_root());
            assert_eq!(read(message.get_root_as_reader().unwrap()).unwrap(), grant);
        }
    }
}
