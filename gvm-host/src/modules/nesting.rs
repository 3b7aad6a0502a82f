//! Checks how deep the types of components and instances nest, without recursion.
//!
//! In: a section of types of a component, not validated yet. Out: nothing, or where the types nest too deep.
//! Pure. Must not know: what the types mean.
//!
//! `wasmparser` reads such types recursively (`ComponentType::from_reader`) and has no limit of its own, so
//! hostile bytes could overflow the stack.

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentAlias, ComponentExternName, ComponentType,
    ComponentTypeDeclaration, ComponentTypeRef, CoreType,
};

/// How deep types, and components in each other, may nest. Toolchains use four levels: a component's instance
/// whose types are instances.
pub(super) const DEEPEST: usize = 100;

const COMPONENT: u8 = 0x41;
const INSTANCE: u8 = 0x42;

/// Why a section is refused.
pub(super) enum Refused {
    /// At this offset in the file.
    TooDeep(usize),
    Unreadable(BinaryReaderError),
}

impl From<BinaryReaderError> for Refused {
    fn from(error: BinaryReaderError) -> Refused {
        Refused::Unreadable(error)
    }
}

/// Reads the types of a section, which begins at this offset in the file.
pub(super) fn check(section: &[u8], offset: usize) -> Result<(), Refused> {
    let mut reader = BinaryReader::new(section, offset);
    // How many types, or declarations of a type, remain to be read on each level, the innermost last.
    let mut open = vec![reader.read_var_u32()?];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        // The outermost level has types; the inner levels have declarations, and one kind of these is a type.
        if open.len() > 1 && !declares_type(&mut reader)? {
            continue;
        }
        let mut ahead = reader.clone();
        if !matches!(ahead.read_u8()?, COMPONENT | INSTANCE) {
            reader.read::<ComponentType<'_>>()?;
            continue;
        }
        if open.len() > DEEPEST {
            return Err(Refused::TooDeep(reader.original_position()));
        }
        let declarations = ahead.read_var_u32()?;
        open.push(declarations);
        reader = ahead;
    }
    Ok(())
}

/// Reads a declaration up to the type that it declares. If it declares no type, reads all of it.
fn declares_type(reader: &mut BinaryReader<'_>) -> Result<bool, BinaryReaderError> {
    let mut ahead = reader.clone();
    match ahead.read_u8()? {
        0x00 => {
            ahead.read::<CoreType<'_>>()?;
        }
        0x01 => {
            *reader = ahead;
            return Ok(true);
        }
        0x02 => {
            ahead.read::<ComponentAlias<'_>>()?;
        }
        // An import or an export: a name and its type.
        0x03 | 0x04 => {
            ahead.read::<ComponentExternName<'_>>()?;
            ahead.read::<ComponentTypeRef>()?;
        }
        // An unknown kind: reading it returns the error.
        _ => {
            reader.read::<ComponentTypeDeclaration<'_>>()?;
            return Ok(false);
        }
    }
    *reader = ahead;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a section with one type: `depth` types of this kind around the type of a function.
    fn nested(kind: u8, depth: usize) -> Vec<u8> {
        let mut section = vec![1];
        section.extend([kind, 1, 1].repeat(depth));
        section.extend([0x40, 0, 1, 0]);
        section
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        for kind in [COMPONENT, INSTANCE] {
            assert!(check(&nested(kind, 0), 0).is_ok());
            assert!(check(&nested(kind, DEEPEST), 0).is_ok());
            assert!(matches!(check(&nested(kind, DEEPEST + 1), 0), Err(Refused::TooDeep(_))));
            assert!(matches!(check(&nested(kind, 1_000_000), 0), Err(Refused::TooDeep(_))));
        }
    }

    #[test]
    fn all_declarations_of_a_type_are_read() {
        let text = r#"(component
            (type (component
                (import "a" (func (param "x" u8)))
                (core type (module (import "m" "f" (func)) (export "g" (func))))
                (type $r (record (field "x" s32) (field "y" (list string))))
                (import "r" (type $r' (eq $r)))
                (import "i" (instance (export "s" (type (sub resource)))))
                (type $i (instance (type $f (func (result u8))) (export "f" (func (type $f)))))
                (alias outer 1 0 (type))
                (export "i2" (instance (type $i)))
            ))
            (type (instance)) (type (variant (case "a") (case "b" u8))))"#;
        // A type must not refer to itself.
        let text = text.replace("(alias outer 1 0 (type))", "");
        let binary = wat::parse_str(text).unwrap();
        let mut sections = 0;
        for payload in wasmparser::Parser::new(0).parse_all(&binary) {
            if let wasmparser::Payload::ComponentTypeSection(section) = payload.unwrap() {
                sections += 1;
                let range = section.range();
                assert!(check(&binary[range.clone()], range.start).is_ok());
                // Every prefix is unreadable, and none panics.
                for end in 0..range.len() {
                    assert!(check(&binary[range.start..range.start + end], 0).is_err(), "{end}");
                }
            }
        }
        assert!(sections > 0);
    }
}
