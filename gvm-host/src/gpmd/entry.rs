//! A stored version of a module, to and from the wire.
//!
//! In: an entry of the index. Out: the same in the other form; what a peer sent is checked. Must not know: the
//! file of the index, JSON.

use crate::base::id::Hash;
use crate::modules::index::Entry;
use crate::modules::inspect::Kind;
use crate::modules::names::TypeNames;
use crate::wire::schema::gpmd_capnp::{ModuleKind, module_entry};

/// Writes an entry.
pub fn write(from: &Entry, mut to: module_entry::Builder<'_>) {
    to.set_sha256(&from.sha256.0);
    to.set_size(from.size);
    to.set_kind(match from.kind {
        Kind::Core => ModuleKind::Core,
        Kind::Component => ModuleKind::Component,
    });
    to.set_main(from.main);
    let mut exports = to.reborrow().init_exports(from.exports.len() as u32);
    for (place, export) in from.exports.iter().enumerate() {
        exports.set(place as u32, export);
    }
    let mut types = to.reborrow().init_types(from.types.len() as u32);
    for (place, (name, spelled)) in from.types.iter().enumerate() {
        let mut to = types.reborrow().get(place as u32);
        to.set_name(name);
        to.set_type(spelled);
    }
    to.set_uploaded(&from.uploaded);
}

/// Reads an entry.
///
/// # Errors
/// What capnp says of a message that cannot be read.
pub fn read(from: module_entry::Reader<'_>) -> capnp::Result<Entry> {
    let text =
        |text: capnp::Result<capnp::text::Reader<'_>>| Ok::<_, capnp::Error>(text?.to_str()?.to_owned());
    let sha256 = from.get_sha256()?.try_into().map_err(|_| capnp::Error::failed("not a hash".into()))?;
    let mut types = Vec::new();
    for named in from.get_types()? {
        types.push((text(named.get_name())?, text(named.get_type())?));
    }
    Ok(Entry {
        sha256: Hash(sha256),
        size: from.get_size(),
        kind: match from.get_kind()? {
            ModuleKind::Core => Kind::Core,
            ModuleKind::Component => Kind::Component,
        },
        main: from.get_main(),
        exports: from.get_exports()?.iter().map(text).collect::<capnp::Result<_>>()?,
        types: TypeNames::from_spelled(types),
        uploaded: text(from.get_uploaded())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for kind in [Kind::Core, Kind::Component] {
            let entry = Entry {
                sha256: Hash::of(b"x"),
                size: 1 << 40,
                kind,
                main: kind == Kind::Core,
                exports: vec!["add: func(a: s32) -> s32".into(), "é".into()],
                types: TypeNames::from_spelled(vec![("point".into(), "record { x: s32 }".into())]),
                uploaded: "2026-01-01T00:00:00Z".into(),
            };
            let mut message = capnp::message::Builder::new_default();
            write(&entry, message.init_root());
            assert_eq!(read(message.get_root_as_reader().unwrap()).unwrap(), entry);
        }
    }
}
