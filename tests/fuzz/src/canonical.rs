//! GVM's lift and lower beside wasmtime's `Val`: both must read and write the same.
//!
//! In: bytes that choose a signature, and values or the memory of a guest. Out: a panic if the two disagree. Must not know:
//! nodes.

#[path = "../../../gvm-host/tests/canonical/component.rs"]
mod component;
#[path = "../../../gvm-host/tests/canonical/val.rs"]
mod val;

use std::sync::{Arc, LazyLock};

use gvm_host::internals::engine::canonical::{Args, Fault, Ret, typed};
use gvm_host::{Case, Field, List, MapType, ResultType, Type, Value};
use wasmtime::component::{Component, Linker, Val};
use wasmtime::{Config, Engine, OptLevel, Store};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.concurrency_support(false).cranelift_opt_level(OptLevel::None);
    config.wasm_component_model_map(true).wasm_component_model_fixed_length_lists(true);
    Engine::new(&config).unwrap()
});

/// Choices that bytes make. After their end, every choice is the first one.
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub fn new(data: &'a [u8]) -> Source<'a> {
        Source(data)
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn below(&mut self, most: usize) -> usize {
        usize::from(self.byte()) % most
    }

    /// Chooses a type that is nested at most this deep.
    pub fn ty(&mut self, depth: usize) -> Type {
        let label = |index: usize| -> Arc<str> { format!("n{index}").into() };
        let labels = |count: usize| (0..count).map(label).collect();
        match self.below(if depth == 0 { 15 } else { 24 }) {
            0 => Type::Bool,
            1 => Type::S8,
            2 => Type::U8,
            3 => Type::S16,
            4 => Type::U16,
            5 => Type::S32,
            6 => Type::U32,
            7 => Type::S64,
            8 => Type::U64,
            9 => Type::F32,
            10 => Type::F64,
            11 => Type::Char,
            12 => Type::String,
            13 => Type::Enum(labels([1, 2, 5, 256, 257][self.below(5)])),
            14 => Type::Flags(labels(1 + self.below(32))),
            15 | 16 => Type::List(Arc::new(self.ty(depth - 1))),
            17 => Type::Option(Arc::new(self.ty(depth - 1))),
            18 => Type::Tuple((0..=self.below(4)).map(|_| self.ty(depth - 1)).collect()),
            19 => Type::Record(
                (0..=self.below(4))
                    .map(|index| Field { name: label(index), ty: self.ty(depth - 1) })
                    .collect(),
            ),
            20 => Type::Variant(
                (0..=self.below(4))
                    .map(|index| Case { name: label(index), ty: self.maybe(depth - 1) })
                    .collect(),
            ),
            21 => Type::FixedList(Arc::new(self.ty(depth - 1)), 1 + self.below(4) as u32),
            22 => {
                let (key, value) = (self.ty(depth - 1), self.ty(depth - 1));
                Type::Map(Arc::new(MapType { key, value }))
            }
            _ => Type::Result(Arc::new(ResultType { ok: self.maybe(depth - 1), err: self.maybe(depth - 1) })),
        }
    }

    fn maybe(&mut self, depth: usize) -> Option<Type> {
        (self.byte() % 2 == 1).then(|| self.ty(depth))
    }

    /// Chooses a value of a type.
    pub fn value(&mut self, ty: &Type) -> Value {
        match ty {
            Type::Bool => Value::Bool(self.byte() % 2 == 1),
            Type::S8 => Value::S8(self.byte().cast_signed()),
            Type::U8 => Value::U8(self.byte()),
            Type::S16 => Value::S16(self.number() as i16),
            Type::U16 => Value::U16(self.number() as u16),
            Type::S32 => Value::S32(self.number() as i32),
            Type::U32 => Value::U32(self.number() as u32),
            Type::S64 => Value::S64(self.number() as i64),
            Type::U64 => Value::U64(self.number()),
            Type::F32 => Value::F32(f32::from_bits(self.number() as u32)),
            Type::F64 => Value::F64(f64::from_bits(self.number())),
            Type::Char => Value::Char(self.letter()),
            Type::String => Value::String((0..self.below(12)).map(|_| self.letter()).collect()),
            Type::List(element) => {
                let values =
                    (0..self.below(if element.is_number() { 40 } else { 5 })).map(|_| self.value(element));
                Value::List(List::collect(element, values.collect()).unwrap())
            }
            Type::FixedList(element, length) => {
                let values = (0..*length).map(|_| self.value(element));
                Value::List(List::collect(element, values.collect()).unwrap())
            }
            Type::Map(map) => {
                let entries = (0..self.below(4))
                    .map(|_| Value::Tuple(vec![self.value(&map.key), self.value(&map.value)]));
                Value::List(List::Values(entries.collect()))
            }
            Type::Record(fields) => Value::Record(fields.iter().map(|field| self.value(&field.ty)).collect()),
            Type::Tuple(types) => Value::Tuple(types.iter().map(|ty| self.value(ty)).collect()),
            Type::Variant(cases) => {
                let case = self.below(cases.len());
                Value::Variant(case as u32, self.boxed(cases[case].ty.as_ref()))
            }
            Type::Enum(names) => Value::Enum((self.number() % names.len() as u64) as u32),
            Type::Option(ty) => Value::Option((self.byte() % 2 == 1).then(|| Box::new(self.value(ty)))),
            Type::Result(ty) => Value::Result(match self.byte() % 2 {
                0 => Ok(self.boxed(ty.ok.as_ref())),
                _ => Err(self.boxed(ty.err.as_ref())),
            }),
            Type::Flags(names) => Value::Flags(vec![self.number() as u32 & (u32::MAX >> (32 - names.len()))]),
            Type::Unsupported(name) => panic!("{name}"),
        }
    }

    fn boxed(&mut self, ty: Option<&Type>) -> Option<Box<Value>> {
        ty.map(|ty| Box::new(self.value(ty)))
    }

    fn letter(&mut self) -> char {
        match self.byte() {
            byte @ 0..0xc0 => char::from(byte),
            _ => char::from_u32(self.number() as u32 % 0x11_0000).unwrap_or('\u{fffd}'),
        }
    }
}

pub fn target(data: &[u8]) {
    let mut source = Source::new(data);
    let encoding = ["utf8", "utf16", "latin1+utf16"][source.below(3)];
    match source.below(2) {
        0 => passes(&mut source, encoding),
        _ => returns(&mut source, encoding),
    }
}

/// A guest passes its argument to the host and returns what the host returns. GVM lowers and `Val` lifts, then the other way
/// round.
fn passes(source: &mut Source<'_>, encoding: &str) {
    let ty = source.ty(3);
    let text = component::echo(std::slice::from_ref(&ty), &ty, encoding);
    let component = Component::new(&ENGINE, wat::parse_str(&text).unwrap()).unwrap();
    let mut linker = Linker::<Vec<Val>>::new(&ENGINE);
    let host = linker.root().func_new("host", |mut store, _, params, results| {
        *store.data_mut() = params.to_vec();
        results[0] = params[0].clone();
        Ok(())
    });
    host.unwrap();
    for _ in 0..4 {
        let value = source.value(&ty);
        value.check(&ty).unwrap();
        let mut store = Store::new(&ENGINE, Vec::new());
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let func = typed(instance.get_func(&mut store, "call").unwrap());
        let Ret(back) = func.call(&mut store, Args(vec![value.clone()])).unwrap();
        assert_eq!(format!("{:?}", store.data()), format!("{:?}", [val::to_val(&value, &ty)]), "{ty}");
        assert!(val::same(&back.unwrap(), &value), "{ty}: {value:?}");
    }
}

/// A guest returns whatever the bytes say.
fn returns(source: &mut Source<'_>, encoding: &str) {
    let ty = source.ty(3);
    let slot = source.number() as u32;
    let words: Vec<u32> = (0..64).map(|_| source.number() as u32).collect();
    let component = component::noise(&ty, &words, slot, encoding);
    let component = Component::new(&ENGINE, wat::parse_str(&component).unwrap()).unwrap();
    let call = |store: &mut Store<()>| {
        let instance = Linker::new(&ENGINE).instantiate(&mut *store, &component).unwrap();
        instance.get_func(store, "call").unwrap()
    };
    let mut store = Store::new(&ENGINE, ());
    let func = call(&mut store);
    let mut theirs = [Val::Bool(false)];
    let theirs = func.call(&mut store, &[], &mut theirs).map(|()| theirs[0].clone());
    let mut store = Store::new(&ENGINE, ());
    let func = call(&mut store);
    match (typed(func).call(&mut store, Args(vec![])), theirs) {
        (Ok(Ret(Some(ours))), Ok(theirs)) => {
            ours.check(&ty).unwrap();
            assert_eq!(format!("{:?}", val::to_val(&ours, &ty)), format!("{theirs:?}"), "{ty}");
        }
        (Err(ours), Err(_)) => assert!(ours.is::<Fault>(), "{ours:?}"),
        // GVM charges the same fuel as `Val` for a value, or less.
        (Ok(_), Err(theirs)) => assert!(theirs.to_string().contains("fuel"), "{theirs:?}"),
        (ours, theirs) => panic!("ours {ours:?}, theirs {theirs:?}"),
    }
}
