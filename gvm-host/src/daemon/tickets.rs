//! Tickets by which nodes introduce themselves to each other.
//!
//! In: who introduces itself to whom, and the time. Out: tickets, and who a ticket is of. Pure: no clock,
//! no chance of its own. Must not know: connections, what the nodes are to each other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::registry::Token;
use crate::base::id::{Life, Secret};

/// How long a ticket is good: a node shows it with its first words.
const GOOD: Duration = Duration::from_secs(30);

/// How many may wait to be shown. The oldest go first.
const MOST: usize = 4096;

/// What was given out and not yet shown.
#[derive(Debug, Default)]
pub struct Tickets(HashMap<Secret, Ticket>);

#[derive(Debug)]
struct Ticket {
    of: Token,
    to: Life,
    given: Instant,
}

impl Tickets {
    /// Notes that this secret introduces the holder of a registration to another life.
    pub fn give(&mut self, ticket: Secret, of: Token, to: Life, now: Instant) {
        self.0.retain(|_, ticket| now.saturating_duration_since(ticket.given) < GOOD);
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, ticket)| ticket.given).map(|(secret, _)| *secret);
            oldest.map(|secret| self.0.remove(&secret));
        }
        self.0.insert(ticket, Ticket { of, to, given: now });
    }

    /// Whose ticket this is, where it was given for that life. Good once, whoever shows it.
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
        assert_eq!(tickets.take(&secret(2), life(3), now), None, "it is for another");
        assert_eq!(tickets.take(&secret(2), life(2), now), None, "and has been shown");
        tickets.give(secret(3), of, life(2), now);
        assert_eq!(tickets.take(&secret(3), life(2), now + GOOD), None, "too late");
        assert_eq!(tickets.take(&secret(4), life(2), now), None, "nobody gave it");
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
