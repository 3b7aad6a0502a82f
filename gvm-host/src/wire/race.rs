//! The best of several addresses.
//!
//! In: addresses, best first; whom to accept. Out: the first connection to somebody who is accepted. Must not know: what is sent
//! over it, where the addresses come from.

use std::io;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use super::tls::Tls;
use super::transport::{Address, Transport, dial};

/// The pause before the next address is tried beside the earlier ones (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// The pause before a tunnel is tried beside the earlier addresses: it is slower than any of them.
const LAST_RESORT: Duration = Duration::from_secs(1);

/// An address that did not work.
pub struct Failed {
    pub address: Address,
    pub error: io::Error,
}

/// Dials all addresses, each a moment after the one before or when that one has failed, and returns the first connection. The
/// others are closed. `failed` gets the addresses that did not work, also if the future is dropped.
pub async fn race(
    addresses: &[Address],
    tls: &Tls,
    failed: &mut Vec<Failed>,
) -> Option<(Transport, Address)> {
    let attempt = |address: Address| async move {
        let dialled = dial(&address, Some(tls)).await;
        (address, dialled)
    };
    let mut rest = addresses.iter().cloned().peekable();
    let mut tries: FuturesUnordered<_> = rest.next().into_iter().map(attempt).collect();
    loop {
        let pause = match rest.peek() {
            Some(Address::Tunnel { .. }) => LAST_RESORT,
            _ => STAGGER,
        };
        let more = rest.peek().is_some();
        tokio::select! {
            // With no attempt under way this does not match.
            Some((address, dialled)) = tries.next() => match dialled {
                Ok(transport) => return Some((transport, address)),
                Err(error) => {
                    failed.push(Failed { address, error });
                    tries.extend(rest.next().map(attempt));
                }
            },
            () = sleep(pause), if more => tries.extend(rest.next().map(attempt)),
            else => return None,
        }
    }
}
