//! Tickets that prove the identity of a node to another node.
//!
//! In: new tickets, the registration that each belongs to, the node that may check it, and the time. Out: the
//! registration of a ticket. Must not know: connections, clocks, random numbers.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::registry::Token;
use crate::base::id::{Life, Secret};

/// How long a ticket is valid. A node shows it in its first message.
const GOOD: Duration = Duration::from_secs(30);

/// The most tickets that are kept. Beyond it, the oldest is dropped.
const MOST: usize = 4096;

/// The tickets that were issued and not yet shown.
#[derive(Debug, Default)]
pub struct Tickets {
    open: HashMap<Secret, Ticket>,
    /// In the order in which they were issued. Some were shown since.
    order: VecDeque<Secret>,
}

#[derive(Debug)]
struct Ticket {
    of: Token,
    to: Life,
    given: Instant,
}

impl Tickets {
    /// Records a ticket that introduces the holder of a registration to another node.
    pub fn give(&mut self, ticket: Secret, of: Token, to: Life, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let late = |ticket: &Ticket| now.saturating_duration_since(ticket.given) >= GOOD;
            if self.open.len() < MOST && self.open.get(oldest).is_some_and(|oldest| !late(oldest)) {
                break;
            }
            self.open.remove(oldest);
            self.order.pop_front();
        }
        // Shown tickets behind an old one that nobody shows.
        if self.order.len() >= 2 * MOST {
            self.order.retain(|ticket| self.open.contains_key(ticket));
        }
        self.open.insert(ticket, Ticket { of, to, given: now });
        self.order.push_back(ticket);
    }

    /// Uses a ticket up. Returns the registration that it belongs to, if it is valid and was issued for `to`.
    pub fn take(&mut self, ticket: &Secret, to: Life, now: Instant) -> Option<Token> {
        let found = self.open.remove(ticket)?;
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
        Registry::default().register(applicant, None, 0, &mut || 1).unwrap().token
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
        let first = Secret::random();
        tickets.give(first, of, life(2), now);
        for _ in 0..5 * MOST {
            let ticket = Secret::random();
            tickets.give(ticket, of, life(2), now);
            assert!(tickets.take(&ticket, life(2), now).is_some());
        }
        assert!(tickets.order.len() <= 2 * MOST);
        assert_eq!(tickets.take(&first, life(2), now), Some(of), "shown tickets push out no others");
        let given: Vec<Secret> = (0..2 * MOST).map(|_| Secret::random()).collect();
        given.iter().for_each(|ticket| tickets.give(*ticket, of, life(2), now));
        assert!(tickets.open.len() <= MOST && tickets.order.len() <= 2 * MOST);
        assert_eq!(tickets.take(&given[0], life(2), now), None, "the oldest one is dropped");
        assert_eq!(tickets.take(&given[2 * MOST - 1], life(2), now), Some(of));
        tickets.give(Secret::random(), of, life(2), now + GOOD);
        assert_eq!((tickets.open.len(), tickets.order.len()), (1, 1), "late ones are dropped");
    }
}
