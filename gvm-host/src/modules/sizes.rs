//! Checks how many bytes a value of a component's types takes in memory.
//!
//! In: the types of a section that the validator accepted. Out: whether each is smaller than the component model allows. Pure.
//! Must not know: functions.
//!
//! The validator does not check this, and lists of a fixed length may be larger than any memory. The engine computes with
//! 32-bit sizes that would wrap around.

use std::collections::HashMap;

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentValType,
};
use wasmparser::types::TypesRef;

/// A value takes fewer bytes than this, in a 64-bit memory (`CanonicalABI.md`, element size).
const BYTES: u64 = 1 << 28;

/// How a value lies in memory.
#[derive(Clone, Copy)]
struct Layout {
    size: u64,
    align: u64,
}

impl Layout {
    const fn scalar(size: u64) -> Layout {
        Layout { size, align: size }
    }

    /// A pointer and a length.
    const PAIR: Layout = Layout { size: 16, align: 8 };

    fn record(fields: impl Iterator<Item = Layout>) -> Layout {
        let mut all = Layout { size: 0, align: 1 };
        for field in fields {
            all.size = all.size.next_multiple_of(field.align).saturating_add(field.size).min(u64::MAX / 2);
            all.align = all.align.max(field.align);
        }
        Layout { size: all.size.next_multiple_of(all.align), ..all }
    }

    fn variant(cases: usize, payloads: impl Iterator<Item = Layout>) -> Layout {
        let number = match cases {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let payload = payloads.fold(Layout { size: 0, align: 1 }, |widest, payload| Layout {
            size: widest.size.max(payload.size),
            align: widest.align.max(payload.align),
        });
        Layout::record([Layout::scalar(number), payload].into_iter())
    }
}

/// The layouts of the types of one module.
#[derive(Default)]
pub(super) struct Sizes(HashMap<ComponentDefinedTypeId, Layout>);

impl Sizes {
    /// Returns whether the last `count` types of the component are small enough. Types refer to types before them only, so
    /// every section must be checked, in order.
    pub fn fit(&mut self, types: TypesRef<'_>, count: u32) -> bool {
        let end = types.component_type_count();
        (end.saturating_sub(count)..end).all(|index| {
            let ComponentAnyTypeId::Defined(id) = types.component_any_type_at(index) else { return true };
            let Some(ty) = types.get(id) else { return true };
            let layout = self.layout(ty);
            self.0.insert(id, layout);
            layout.size < BYTES
        })
    }

    fn layout(&self, ty: &ComponentDefinedType) -> Layout {
        let of = |ty: &ComponentValType| match ty {
            ComponentValType::Primitive(primitive) => primitive_layout(*primitive),
            // A type of another component, which was checked there.
            ComponentValType::Type(id) => self.0.get(id).copied().unwrap_or(Layout::PAIR),
        };
        match ty {
            ComponentDefinedType::Primitive(primitive) => primitive_layout(*primitive),
            ComponentDefinedType::Record(record) => Layout::record(record.fields.values().map(of)),
            ComponentDefinedType::Tuple(tuple) => Layout::record(tuple.types.iter().map(of)),
            ComponentDefinedType::Variant(variant) => {
                let payloads = variant.cases.values().filter_map(|case| case.ty.as_ref());
                Layout::variant(variant.cases.len(), payloads.map(of))
            }
            ComponentDefinedType::Enum(names) => Layout::variant(names.len(), std::iter::empty()),
            ComponentDefinedType::Option { ty, .. } => Layout::variant(2, std::iter::once(of(ty))),
            ComponentDefinedType::Result { ok, err, .. } => {
                Layout::variant(2, [ok, err].into_iter().flatten().map(of))
            }
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                let element = of(element);
                Layout { size: element.size.saturating_mul(u64::from(*length)).min(u64::MAX / 2), ..element }
            }
            ComponentDefinedType::Flags(names) => match names.len() {
                0..=8 => Layout::scalar(1),
                9..=16 => Layout::scalar(2),
                more => Layout { size: 4 * more.div_ceil(32) as u64, align: 4 },
            },
            ComponentDefinedType::List { .. } | ComponentDefinedType::Map { .. } => Layout::PAIR,
            ComponentDefinedType::Own(_)
            | ComponentDefinedType::Borrow(_)
            | ComponentDefinedType::Future { .. }
            | ComponentDefinedType::Stream { .. } => Layout::scalar(4),
        }
    }
}

fn primitive_layout(ty: PrimitiveValType) -> Layout {
    match ty {
        PrimitiveValType::Bool | PrimitiveValType::S8 | PrimitiveValType::U8 => Layout::scalar(1),
        PrimitiveValType::S16 | PrimitiveValType::U16 => Layout::scalar(2),
        PrimitiveValType::S64 | PrimitiveValType::U64 | PrimitiveValType::F64 => Layout::scalar(8),
        PrimitiveValType::String => Layout::PAIR,
        _ => Layout::scalar(4),
    }
}
