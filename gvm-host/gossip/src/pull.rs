//! Fetching the records that this device lacks, from one neighbour at a time.
//!
//! In: which neighbours may have newer records, answers, the time. Out: whom to ask next, and for what. Must not know: records,
//! bytes.
//!
//! A device that joins gets several neighbours at once, and each has all records. It asks the first one only; when the
//! others are asked, their sums are the same.

use std::collections::VecDeque;
use std::time::Duration;

use crate::device::Device;
use crate::frame::Entry;

/// A neighbour that does not go on answering within this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// A few offered records are most likely on their way as broadcasts. They get this time to arrive.
const PATIENCE_FEW: Duration = Duration::from_secs(1);
const FEW: usize = 8;
/// More questions than this are not kept. The regular comparison finds what they would have found.
const MOST_WAITING: usize = 64;

/// What to ask a neighbour for.
pub(crate) enum Ask {
    /// Whatever this device lacks.
    All,
    /// The records that the neighbour offered and this device still lacks.
    Offered(Vec<Entry>),
}

struct Question {
    to: Device,
    due: Duration,
    ask: Ask,
}

#[derive(Default)]
pub(crate) struct Pulls {
    /// The neighbour that is being asked, and until when its next answer is waited for.
    current: Option<(Device, Duration)>,
    waiting: VecDeque<Question>,
}

impl Pulls {
    /// Asks a neighbour, at this time, for all that this device lacks.
    pub fn compare(&mut self, to: Device, due: Duration) {
        if !self.waiting.iter().any(|question| question.to == to && matches!(question.ask, Ask::All)) {
            self.add(Question { to, due, ask: Ask::All });
        }
    }

    /// Asks a neighbour for records that it offers.
    pub fn offered(&mut self, to: Device, entries: Vec<Entry>, now: Duration) {
        let due = if entries.len() > FEW { now } else { now + PATIENCE_FEW };
        self.add(Question { to, due, ask: Ask::Offered(entries) });
    }

    fn add(&mut self, question: Question) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(question);
        }
    }

    /// Returns what to ask now, if no neighbour is being asked.
    pub fn begin(&mut self, now: Duration, lacks: impl Fn(&Entry) -> bool) -> Option<(Device, Ask)> {
        while self.current.is_none() {
            let at = self.waiting.iter().position(|question| question.due <= now)?;
            let Question { to, mut ask, .. } = self.waiting.remove(at)?;
            if let Ask::Offered(entries) = &mut ask {
                entries.retain(&lacks);
                if entries.is_empty() {
                    continue;
                }
            }
            self.current = Some((to, now + PATIENCE));
            return Some((to, ask));
        }
        None
    }

    /// Returns whether this neighbour is being asked. Its answer gives it more time.
    pub fn goes_on(&mut self, device: Device, now: Duration) -> bool {
        let current = self.current.as_mut().filter(|(from, _)| *from == device);
        current.map(|(_, until)| *until = now + PATIENCE).is_some()
    }

    /// Ends with this neighbour, if it is being asked.
    pub fn end(&mut self, device: Device) {
        self.current.take_if(|(from, _)| *from == device);
    }

    /// Does not ask a device that is gone.
    pub fn forget(&mut self, device: Device) {
        self.end(device);
        self.waiting.retain(|question| question.to != device);
    }

    /// Ends with the neighbour whose time is over.
    pub fn tick(&mut self, now: Duration) {
        self.current.take_if(|(_, until)| *until <= now);
    }

    pub fn next(&self) -> Option<Duration> {
        match self.current {
            Some((_, until)) => Some(until),
            None => self.waiting.iter().map(|question| question.due).min(),
        }
    }
}
