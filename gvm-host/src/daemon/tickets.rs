//! Tickets that prove the identity of a node to another node.
//!
//! In: new tickets, the registration that each belongs to, the node that may check it, and the time. Out: the
//! registration of a ticket. Must not know: connections, clocks, random numbers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::registry::Token;
use crate::base::id::{Life, Secret};

/// How long a ticket is valid. A node shows it in its first message.
const GOOD: Duration = Duration::from_secs(30);

/// The most tickets that are kept. Beyond it, the oldest is dropped.
const MOST: usize = 4096;

/// The tickets that were issued and not yet shown.
#[derive(Debug, Default)]
pub struct Tickets(HashMap<Secret, Ticket>);

#[derive(Debug)]
struct Ticket {
    of: Token,
    to: Life,
    given: Instant,
}

impl Tickets {
    /// Records a ticket that introduces the holder of a registration to another node.
    pub fn give(&mut self, ticket: Secret, of: Token, to: Life, now: Instant) {
        self.0.retain(|_, ticket| now.saturating_duration_since(ticket.given) < GOOD);
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, ticket)| ticket.given).map(|(secret, _)| *secret);
            oldest.map(|secret| self.0.remove(&secret));
        }
        self.0.insert(ticket, Ticket { of, to, given: now });
    }

    /// Uses a ticket up. Returns the registration that it belongs to, if it is valid and was issued for `to`.
    pub fn take(&mut self, ticket: &Secret, to: Life, now: Instant) -> Option<Token> {
        let found = self.0.remove(ticket)?;
        (found.to == to && now.saturating_duration_since(found.given) < GOOD).then_some(found.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Applicant;
    use crate::daemon::registry::Registry;

    fn life(id: u128) -> Life {
        Life { id: uuid::Uuid::from_u128(id), incarnation: 1 }
    }

    fn token() -> Token {
        let applicant = Applicant { name: None, life: life(1), addresses: vec!["unix:/x".into()] };
        Registry::default().register(applicant, None, 0, &mut || 1).unwrap().0
    }

    #[test]
    fn good_once_soon_and_for_one() {
        let (mut tickets, now, of) = (Tickets::default(), Instant::now(), token());
        let secret = |byte| Secret::read(&[byte; 16]).unwrap();
        tickets.give(secret(1), of, life(2), now);
        assert_eq!(tickets.take(&secret(1), life(2), now), Some(of));
        assert_eq!(tickets.take(&secret(1), life(2), now), None);
        tickets.give(secret(2), of, life(2), now);
        assert_eq!(tickets.take(&secret(2), life(3), now), None, "it was issued for another node");
        assert_eq!(tickets.take(&secret(2), life(2), now), None, "it has been used up");
        tickets.give(secret(3), of, life(2), now);
        assert_eq!(tickets.take(&secret(3), life(2), now + GOOD), None, "too late");
        assert_eq!(tickets.take(&secret(4), life(2), now), None, "it was never issued");
    }

    #[test]
    fn bounded() {
        let (mut tickets, now, of) = (Tickets::default(), Instant::now(), token());
        for _ in 0..2 * MOST {
            tickets.give(Secret::random(), of, life(2), now);
        }
        assert!(tickets.0.len() <= MOST);
    }
}
