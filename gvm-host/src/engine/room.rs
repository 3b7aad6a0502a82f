//! Whether an instance of a module can have the room that it needs from its start.
//!
//! In: what an instance needs, and the slots of the engine that makes it. Out: nothing, or `LIMIT_EXCEEDED`. It checks
//! everything that wasmtime would refuse with an error that has no type. Must not know: the module's bytes.

use super::config::Slots;
use crate::base::error::{Code, Error, Result};
use crate::base::limits;
use crate::modules::translate::Needs;

/// Checks the needs against the limits of every guest and, for a pooling engine, of a slot. Code that a command without
/// slots compiled is loaded without this check; wasmtime then refuses it only past [`limits::BOOKKEEPING_MARGIN`].
///
/// # Errors
/// `LIMIT_EXCEEDED`, with what the module needs and the limit.
pub(super) fn check(needs: &Needs, slots: Slots) -> Result<()> {
    let counts = [
        (needs.instances, limits::INSTANCES, "core instances"),
        (needs.memories, limits::MEMORIES, "memories"),
        (needs.tables, limits::TABLES, "tables"),
    ];
    if let Some((count, most, what)) = counts.into_iter().find(|(count, most, _)| count > most) {
        return Err(exceeded(format!("the module has {count} {what}, and the limit is {most}")));
    }
    if needs.largest_table > limits::TABLE_ELEMENTS as u64 {
        let (elements, most) = (needs.largest_table, limits::TABLE_ELEMENTS);
        return Err(exceeded(format!(
            "the module has a table of {elements} elements, and the limit is {most}"
        )));
    }
    if slots == Slots::None {
        return Ok(());
    }
    if needs.largest_memory > limits::POOL_MEMORY as u64 {
        let (bytes, most) = limits::beyond(needs.largest_memory, limits::POOL_MEMORY as u64);
        return Err(exceeded(format!(
            "the module has a memory of {bytes}, and the limit of a node is {most}"
        )));
    }
    if needs.bookkeeping > limits::BOOKKEEPING {
        let (bytes, most) = limits::beyond(needs.bookkeeping, limits::BOOKKEEPING);
        return Err(exceeded(format!(
            "the module has so many functions and globals that the engine needs {bytes} for each instance, \
             and the limit of a node is {most}"
        )));
    }
    Ok(())
}

fn exceeded(message: String) -> Error {
    Error::new(Code::LimitExceeded, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOLING: Slots = Slots::Warm;
    const PLAIN: Slots = Slots::None;

    #[test]
    fn each_limit_is_checked_at_its_edge() {
        let most = Needs {
            instances: limits::INSTANCES,
            memories: limits::MEMORIES,
            tables: limits::TABLES,
            largest_memory: limits::POOL_MEMORY as u64,
            largest_table: limits::TABLE_ELEMENTS as u64,
            bookkeeping: limits::BOOKKEEPING,
        };
        check(&most, POOLING).unwrap();
        let always = [
            Needs { instances: most.instances + 1, ..most },
            Needs { memories: most.memories + 1, ..most },
            Needs { tables: most.tables + 1, ..most },
            Needs { largest_table: most.largest_table + 1, ..most },
        ];
        let pooling = [
            Needs { largest_memory: most.largest_memory + 1, ..most },
            Needs { bookkeeping: most.bookkeeping + 1, ..most },
        ];
        for needs in always {
            assert_eq!(check(&needs, PLAIN).unwrap_err().code(), Code::LimitExceeded, "{needs:?}");
        }
        for needs in always.into_iter().chain(pooling) {
            assert_eq!(check(&needs, POOLING).unwrap_err().code(), Code::LimitExceeded, "{needs:?}");
        }
        for needs in pooling {
            check(&needs, PLAIN).unwrap();
        }
    }
}
