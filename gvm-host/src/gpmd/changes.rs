//! Changes of an index, as they cross to nodes and to other devices.
//!
//! In: a change. Out: the same in a message, and back. Must not know: who sends it and who receives it.

use crate::modules::index::Change;
use crate::wire::schema::gpmd_capnp::index_change;

/// The largest change that crosses, in bytes. After a larger one the receiver reads the whole index.
const LARGEST: usize = 256 << 10;

/// A change in the form that crosses. Made once for all receivers.
pub struct Told {
    base: u64,
    gone: Vec<String>,
    text: String,
}

impl Told {
    /// Returns the form of a change; `None` if it is too large.
    pub fn of(change: &Change) -> Option<Told> {
        let gone: Vec<String> = change.gone().map(|name| name.as_str().to_owned()).collect();
        let text = change.to_json().ok()?;
        let size = text.len() + gone.iter().map(|name| name.len() + 16).sum::<usize>();
        (size <= LARGEST).then_some(Told { base: change.base, gone, text })
    }

    /// Writes the change into a message.
    pub fn write(&self, mut to: index_change::Builder<'_>) {
        to.set_base(self.base);
        to.set_index(&self.text);
        let mut gone = to.init_gone(self.gone.len() as u32);
        for (place, name) in self.gone.iter().enumerate() {
            gone.set(place as u32, name);
        }
    }
}

/// Reads a change. `None` if it makes no sense to this version, which then reads the whole index.
///
/// # Errors
/// capnp's, if the message cannot be read.
pub fn read(from: index_change::Reader<'_>) -> capnp::Result<Option<Change>> {
    let mut gone = Vec::new();
    for name in from.get_gone()? {
        gone.push(name?.to_str()?);
    }
    let change = Change::from_parts(from.get_base(), gone.into_iter(), from.get_index()?.to_str()?);
    Ok(change.ok())
}
