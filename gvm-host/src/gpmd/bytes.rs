//! Reads bytes that gpmd offers piece by piece: modules and indexes.
//!
//! In: gpmd's answer. Out: all of the bytes, or an error. Must not know: what the bytes are; the caller checks them.

use std::time::Duration;

use futures::stream::{FuturesOrdered, StreamExt};
use tokio::time::timeout;

use crate::base::error::{Code, Error, Result};
use crate::wire;
use crate::wire::schema::gpmd_capnp::{bytes, found};

/// The bytes of one piece, as gpmd sends them.
const PIECE: u64 = 256 << 10;

/// The pieces that are requested at once: enough for a fast connection over a long distance.
const AHEAD: usize = 8;

/// How long one piece may take.
const LATE: Duration = Duration::from_secs(30);

/// Reads all bytes; at most `most`. `gone` is the code for a lost connection, `noun` names the other side.
///
/// # Errors
/// What the other side answered; `LIMIT_EXCEEDED`; `gone`.
pub async fn read(from: found::Reader<'_>, most: u64, noun: &str, gone: Code) -> Result<Vec<u8>> {
    let failed = |error: capnp::Error| wire::error::from_capnp(error, noun, gone);
    let (size, bytes): (u64, bytes::Client) = match from.which().map_err(|error| failed(error.into()))? {
        found::Ok(ok) => (ok.get_size(), ok.get_bytes().map_err(failed)?),
        found::Error(error) => return Err(wire::error::read(error.map_err(failed)?)),
    };
    if size > most {
        let sentence = format!("{noun} offers {size} bytes; the limit is {most}");
        return Err(Error::new(Code::LimitExceeded, sentence));
    }
    let piece = |offset: u64| {
        let mut request = bytes.read_request();
        request.get().set_offset(offset);
        request.get().set_length(PIECE as u32);
        let answer = request.send().promise;
        async move { timeout(LATE, answer).await }
    };
    let (mut all, mut next, mut pieces) = (Vec::new(), 0, FuturesOrdered::new());
    loop {
        while next < size && pieces.len() < AHEAD {
            pieces.push_back(piece(next));
            next += PIECE;
        }
        let Some(answer) = pieces.next().await else { break };
        let answer = answer.map_err(|_| Error::new(gone, format!("{noun} does not answer")))?;
        let answer = answer.map_err(failed)?;
        let data = answer.get().and_then(|answer| answer.get_data()).map_err(failed)?;
        let expected = PIECE.min(size - all.len() as u64);
        if data.len() as u64 != expected {
            return Err(Error::new(gone, format!("{noun} sent other bytes than it announced")));
        }
        all.extend_from_slice(data);
    }
    Ok(all)
}
