//! The time limit of a call.
//!
//! In: work, its limit, and when the call began. Out: what the work came to, or `TIMEOUT`. Must not know: what the
//! work is.

use std::time::{Duration, Instant};

use crate::base::error::{Code, Effect, Error, Result};

/// Stops work that is not done `timeout` after `began`; `None` is now. `effect` tells how far the call has come.
///
/// # Errors
/// Those of the work; `TIMEOUT`.
pub async fn in_time<T>(
    timeout: Option<Duration>,
    began: Option<Instant>,
    effect: Effect,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(most) = timeout else { return work.await };
    let left = most.saturating_sub(began.map_or(Duration::ZERO, |began| began.elapsed()));
    match tokio::time::timeout(left, work).await {
        Ok(ended) => ended,
        Err(_) => {
            let what = match effect {
                Effect::NotStarted => "it had not begun",
                _ => "it was stopped",
            };
            let most = humantime::format_duration(most);
            Err(Error::new(Code::Timeout, format!("the call timed out: {what} after {most}"))
                .with_help("raise the time limit (`--timeout` on the command line)")
                .with_effect(effect))
        }
    }
}
