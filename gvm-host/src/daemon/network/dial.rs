//! Reaching another device: several addresses at once, the best one first.
//!
//! In: addresses, the key of the device. Out: a connection to the owner of that key. Must not know: what is sent over it,
//! where the addresses come from.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{sleep, timeout};

use crate::base::error::{Code, Error, Result};
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, Transport, dial, dial_words};

/// The pause before the next address is tried beside the earlier ones (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Dials all addresses, each a moment after the one before, and returns the first connection to the owner of the key that
/// `tls` accepts. The others are closed.
///
/// # Errors
/// `DEVICE_DOWN`, with the reason of the first address; also after `within`.
pub async fn race(addresses: &[SocketAddr], tls: &Tls, within: Duration) -> Result<(Transport, SocketAddr)> {
    let Some(first) = addresses.first() else {
        return Err(Error::new(Code::DeviceDown, "no address of the device is known"));
    };
    let attempt = |at: SocketAddr| async move { (at, dial(&Address::Tcp(at), Some(tls)).await) };
    let mut rest = addresses.iter().copied();
    let mut tries: FuturesUnordered<_> = rest.next().into_iter().map(attempt).collect();
    let mut why = None;
    let racing = async {
        loop {
            tokio::select! {
                // With no attempt under way this does not match.
                Some((at, dialled)) = tries.next() => match dialled {
                    Ok(transport) => return Some((transport, at)),
                    Err(error) => {
                        if at == *first || why.is_none() {
                            why = Some((at, error));
                        }
                        tries.extend(rest.next().map(attempt));
                    }
                },
                () = sleep(STAGGER), if rest.len() > 0 => tries.extend(rest.next().map(attempt)),
                else => return None,
            }
        }
    };
    let found = timeout(within, racing).await.ok().flatten();
    found.ok_or_else(|| match why {
        Some((at, error)) => {
            Error::new(Code::DeviceDown, format!("cannot reach it at {at}: {}", dial_words(&error)))
                .with_source(error)
        }
        None => Error::new(Code::DeviceDown, format!("nothing answers at {first}")),
    })
}
