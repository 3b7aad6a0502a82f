//! Converts the signatures of a valid module's functions to our own types.
//!
//! In: the types that the validator found. Out: [`FuncType`]s. A type that cannot be passed yet becomes
//! `Type::Unsupported`. Must not know: bytes. Types may nest a million levels deep in a valid component; the
//! conversion stops at [`DEEPEST`], which is also the limit of wasmtime.

use std::collections::HashMap;
use std::sync::Arc;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType,
    ComponentFuncTypeId, ComponentInstanceTypeId, ComponentValType, ResourceId,
};
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{PrimitiveValType, ValType};

use super::inspect::Export;
use super::names::at_most;
use crate::base::value::{Case, Field, FuncType, MapType, ResultType, Type};

/// How deep a type may nest.
const DEEPEST: usize = 100;

/// How many bytes of the element type are in the name of a stream or future.
const LONGEST_ELEMENT: usize = 200;

/// The most bytes of a value in the memory of a guest, the lists of a fixed length in it included. The engine computes
/// with 32-bit sizes.
const LARGEST: u64 = 1 << 31;

/// Returns the functions that a core module exports.
pub fn core_exports(types: TypesRef<'_>) -> Vec<Export> {
    let mut exports = Vec::new();
    for (name, ty) in types.core_exports().into_iter().flatten() {
        let (EntityType::Func(id) | EntityType::FuncExact(id)) = ty else { continue };
        let wasmparser::CompositeInnerType::Func(func) = &types[id].composite_type.inner else { continue };
        let params = func.params().iter().enumerate();
        let params = params.map(|(index, ty)| Field { name: format!("p{index}").into(), ty: core_type(*ty) });
        let mut results: Vec<Type> = func.results().iter().map(|ty| core_type(*ty)).collect();
        let result = match results.len() {
            0 | 1 => results.pop(),
            _ => Some(Type::Tuple(results.into())),
        };
        let ty = FuncType { params: params.collect(), result };
        exports.push(Export { interface: None, name: name.to_owned(), ty });
    }
    exports
}

fn core_type(ty: ValType) -> Type {
    match ty {
        ValType::I32 => Type::S32,
        ValType::I64 => Type::S64,
        ValType::F32 => Type::F32,
        ValType::F64 => Type::F64,
        ValType::V128 | ValType::Ref(_) => Type::Unsupported(ty.to_string().into()),
    }
}

/// Converts the types of one component. Each type is converted once and then shared.
pub struct Signatures<'a> {
    types: TypesRef<'a>,
    known: HashMap<ComponentDefinedTypeId, Known>,
    resources: HashMap<ResourceId, String>,
    /// The greatest depth reached below the type that is being converted.
    reached: usize,
    too_deep: bool,
    too_large: bool,
}

/// A type that has been converted.
struct Known {
    ty: Type,
    /// The depth of the types in it.
    height: usize,
    /// At least the bytes of a value in the memory of a guest.
    size: u64,
}

impl<'a> Signatures<'a> {
    pub fn new(types: TypesRef<'a>) -> Signatures<'a> {
        let (known, resources) = Default::default();
        Signatures { types, known, resources, reached: 0, too_deep: false, too_large: false }
    }

    /// Returns the functions of these exports of the outermost component.
    pub fn component_exports(&mut self, names: &[String]) -> Vec<Export> {
        let mut exports = Vec::new();
        for name in names {
            match self.types.component_item_for_export(name).map(|item| item.ty) {
                Some(ComponentEntityType::Func(id)) => {
                    let ty = self.function(id);
                    exports.push(Export { interface: None, name: name.clone(), ty });
                }
                Some(ComponentEntityType::Instance(id)) => self.instance(name, id, &mut exports),
                _ => {}
            }
        }
        exports
    }

    /// Returns whether the types of all functions converted so far, and of the functions of these imports, stay
    /// within the depth limit.
    pub fn shallow(&mut self, imports: &[String]) -> bool {
        for name in imports {
            match self.types.component_item_for_import(name).map(|item| item.ty) {
                Some(ComponentEntityType::Func(id)) => drop(self.function(id)),
                Some(ComponentEntityType::Instance(id)) => self.instance(name, id, &mut Vec::new()),
                _ => {}
            }
        }
        !self.too_deep
    }

    /// Returns whether the values of all types converted so far fit into the memory of a guest.
    pub fn fit(&self) -> bool {
        !self.too_large
    }

    /// Returns the imports of the outermost component that a node must provide. Imports of types alone need no
    /// provider: a world that uses the types of another package imports its interface, and runs without it.
    pub fn wanting(&self, imports: &[String]) -> Vec<String> {
        let wants = |ty: &ComponentEntityType| match ty {
            ComponentEntityType::Type { created, .. } => matches!(created, ComponentAnyTypeId::Resource(_)),
            _ => true,
        };
        let wanted = |name: &&String| match self.types.component_item_for_import(name).map(|item| item.ty) {
            Some(ComponentEntityType::Instance(id)) => match self.types.get(id) {
                Some(instance) => instance.exports.values().any(|member| wants(&member.ty)),
                None => true,
            },
            Some(ty) => wants(&ty),
            None => true,
        };
        imports.iter().filter(wanted).cloned().collect()
    }

    /// Returns the types that have a name in these imports and exports of the outermost component, or in their
    /// interfaces.
    pub fn named(&mut self, imports: &[String], exports: &[String]) -> Vec<(String, Type)> {
        let types = self.types;
        let imports = imports.iter().map(|name| (name, types.component_item_for_import(name)));
        let exports = exports.iter().map(|name| (name, types.component_item_for_export(name)));
        let mut named = Vec::new();
        let mut add = |signatures: &mut Self, name: &str, ty: ComponentEntityType| {
            if let ComponentEntityType::Type { created: ComponentAnyTypeId::Defined(id), .. } = ty {
                named.push((name.to_owned(), signatures.defined(id, 0)));
            }
        };
        for (name, item) in imports.chain(exports).filter_map(|(name, item)| Some((name, item?))) {
            match item.ty {
                ComponentEntityType::Instance(id) => {
                    for (member, item) in types.get(id).iter().flat_map(|instance| &instance.exports) {
                        add(self, member, item.ty);
                    }
                }
                ty => add(self, name, ty),
            }
        }
        named
    }

    fn instance(&mut self, name: &str, id: ComponentInstanceTypeId, exports: &mut Vec<Export>) {
        let Some(instance) = self.types.get(id) else { return };
        for (member, item) in &instance.exports {
            if let ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } = item.ty {
                self.resources.insert(id.resource(), member.clone());
            }
        }
        for (member, item) in &instance.exports {
            match item.ty {
                ComponentEntityType::Func(id) => {
                    let ty = self.function(id);
                    exports.push(Export { interface: Some(name.to_owned()), name: member.clone(), ty });
                }
                ComponentEntityType::Type { created: ComponentAnyTypeId::Defined(id), .. } => {
                    self.defined(id, 0);
                }
                // Functions inside of nested instances and components cannot be called.
                ComponentEntityType::Instance(_) | ComponentEntityType::Component(_) => self.too_deep = true,
                _ => {}
            }
        }
    }

    fn function(&mut self, id: ComponentFuncTypeId) -> FuncType {
        let Some(func) = self.types.get(id) else { return FuncType { params: Arc::new([]), result: None } };
        let params = func
            .params
            .iter()
            .map(|(name, ty)| Field { name: name.as_str().into(), ty: self.value(*ty, 0) })
            .collect();
        // An async function is called like any other.
        let result = func.result.map(|ty| self.value(ty, 0));
        FuncType { params, result }
    }

    fn value(&mut self, ty: ComponentValType, depth: usize) -> Type {
        match ty {
            ComponentValType::Primitive(primitive) => primitive_type(primitive),
            ComponentValType::Type(id) => self.defined(id, depth),
        }
    }

    fn optional(&mut self, ty: Option<ComponentValType>, depth: usize) -> Option<Type> {
        ty.map(|ty| self.value(ty, depth))
    }

    fn defined(&mut self, id: ComponentDefinedTypeId, depth: usize) -> Type {
        let height = match self.known.get(&id) {
            Some(Known { ty, height, .. }) if depth + height <= DEEPEST => {
                self.reached = self.reached.max(depth + height);
                return ty.clone();
            }
            Some(known) => known.height,
            None => 1,
        };
        if depth + height > DEEPEST {
            self.too_deep = true;
            return Type::Unsupported(format!("a type nested deeper than {DEEPEST}").into());
        }
        let outer = std::mem::replace(&mut self.reached, depth + 1);
        let ty = self.convert(id, depth + 1);
        let (height, size) = (self.reached - depth, self.size(id));
        self.too_large |= size > LARGEST;
        self.known.insert(id, Known { ty: ty.clone(), height, size });
        self.reached = self.reached.max(outer);
        ty
    }

    /// Returns an upper bound of the bytes of a value. The types in it have been converted.
    fn size(&self, id: ComponentDefinedTypeId) -> u64 {
        let of = |ty: &ComponentValType| match ty {
            ComponentValType::Primitive(_) => 8,
            ComponentValType::Type(id) => self.known.get(id).map_or(8, |known| known.size),
        };
        // Up to 7 bytes align a field.
        let all = |sizes: &mut dyn Iterator<Item = u64>| {
            sizes.fold(0, |sum: u64, size| sum.saturating_add(size).saturating_add(7))
        };
        match self.types.get(id) {
            Some(ComponentDefinedType::Record(record)) => all(&mut record.fields.values().map(of)),
            Some(ComponentDefinedType::Tuple(tuple)) => all(&mut tuple.types.iter().map(of)),
            Some(ComponentDefinedType::Variant(variant)) => {
                let widest = variant.cases.values().filter_map(|case| case.ty.as_ref()).map(of).max();
                widest.unwrap_or_default().saturating_add(8)
            }
            Some(ComponentDefinedType::Option { ty, .. }) => of(ty).saturating_add(8),
            Some(ComponentDefinedType::Result { ok, err, .. }) => {
                let widest = [ok, err].into_iter().flatten().map(of).max();
                widest.unwrap_or_default().saturating_add(8)
            }
            Some(ComponentDefinedType::FixedLengthList { element, length, .. }) => {
                of(element).saturating_mul(u64::from(*length))
            }
            Some(ComponentDefinedType::Flags(names)) => 4 * names.len().div_ceil(32) as u64,
            _ => 8,
        }
    }

    fn convert(&mut self, id: ComponentDefinedTypeId, depth: usize) -> Type {
        let unsupported = |name: &str| Type::Unsupported(name.into());
        let Some(ty) = self.types.get(id) else { return unsupported("unknown") };
        match ty {
            ComponentDefinedType::Primitive(primitive) => primitive_type(*primitive),
            ComponentDefinedType::Record(record) => {
                let fields = record.fields.iter();
                let field = |(name, ty): (&wasmparser::names::KebabString, &_)| Field {
                    name: name.as_str().into(),
                    ty: self.value(*ty, depth),
                };
                Type::Record(fields.map(field).collect())
            }
            ComponentDefinedType::Variant(variant) => {
                let cases = variant.cases.iter();
                let case = |(name, case): (
                    &wasmparser::names::KebabString,
                    &wasmparser::component_types::VariantCase,
                )| {
                    Case { name: name.as_str().into(), ty: self.optional(case.ty, depth) }
                };
                Type::Variant(cases.map(case).collect())
            }
            ComponentDefinedType::List { element, .. } => Type::List(Arc::new(self.value(*element, depth))),
            ComponentDefinedType::Tuple(tuple) => {
                Type::Tuple(tuple.types.iter().map(|ty| self.value(*ty, depth)).collect())
            }
            ComponentDefinedType::Flags(names) => {
                Type::Flags(names.iter().map(|name| name.as_str().into()).collect())
            }
            ComponentDefinedType::Enum(names) => {
                Type::Enum(names.iter().map(|name| name.as_str().into()).collect())
            }
            ComponentDefinedType::Option { ty, .. } => Type::Option(Arc::new(self.value(*ty, depth))),
            ComponentDefinedType::Result { ok, err, .. } => Type::Result(Arc::new(ResultType {
                ok: self.optional(*ok, depth),
                err: self.optional(*err, depth),
            })),
            ComponentDefinedType::Own(id) => unsupported(&format!("own<{}>", self.resource(id.resource()))),
            ComponentDefinedType::Borrow(id) => {
                unsupported(&format!("borrow<{}>", self.resource(id.resource())))
            }
            ComponentDefinedType::Map { key, value, .. } => {
                // Its values are lists of tuples, so it counts twice.
                self.reached = self.reached.max(depth + 1);
                let (key, value) = (self.value(*key, depth + 1), self.value(*value, depth + 1));
                Type::Map(Arc::new(MapType { key, value }))
            }
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                Type::FixedList(Arc::new(self.value(*element, depth)), *length)
            }
            ComponentDefinedType::Future { ty, .. } => unsupported(&of("future", self.optional(*ty, depth))),
            ComponentDefinedType::Stream { ty, .. } => unsupported(&of("stream", self.optional(*ty, depth))),
        }
    }

    fn resource(&self, id: ResourceId) -> &str {
        self.resources.get(&id).map_or("resource", String::as_str)
    }
}

/// Names a stream or a future: `stream<u8>`. The text of a large type is cut.
pub(crate) fn of(kind: &str, element: Option<Type>) -> String {
    match element {
        Some(ty) => format!("{kind}<{}>", at_most(LONGEST_ELEMENT, &ty).unwrap_or_else(|cut| cut + "…")),
        None => kind.to_owned(),
    }
}

fn primitive_type(ty: PrimitiveValType) -> Type {
    match ty {
        PrimitiveValType::Bool => Type::Bool,
        PrimitiveValType::S8 => Type::S8,
        PrimitiveValType::U8 => Type::U8,
        PrimitiveValType::S16 => Type::S16,
        PrimitiveValType::U16 => Type::U16,
        PrimitiveValType::S32 => Type::S32,
        PrimitiveValType::U32 => Type::U32,
        PrimitiveValType::S64 => Type::S64,
        PrimitiveValType::U64 => Type::U64,
        PrimitiveValType::F32 => Type::F32,
        PrimitiveValType::F64 => Type::F64,
        PrimitiveValType::Char => Type::Char,
        PrimitiveValType::String => Type::String,
        PrimitiveValType::ErrorContext => Type::Unsupported("error-context".into()),
    }
}
