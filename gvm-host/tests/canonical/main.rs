//! GVM's lift and lower, compared with wasmtime's `Val` in both directions, and tested with hostile guests.
//!
//! In: random types and values. Out: whether both implementations agree. Must not know: nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod component;
mod generate;
mod hostile;
mod val;

use std::sync::{Arc, LazyLock};

use gvm_host::internals::engine::canonical::{Args, Fault, Ret, Tasked, slots, typed};
use gvm_host::internals::engine::types::component_func;
use gvm_host::{Field, FuncType, List, Type, Value};
use proptest::prelude::*;
use wasmtime::component::{Component, ComponentType, Linker, TypedFunc, Val};
use wasmtime::{Config, Engine, OptLevel, Store};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.concurrency_support(false).cranelift_opt_level(OptLevel::None);
    config.wasm_component_model_map(true).wasm_component_model_fixed_length_lists(true);
    Engine::new(&config).unwrap()
});

/// The engine for async tasks.
static TASKS: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.concurrency_support(true).wasm_component_model_async(true).cranelift_opt_level(OptLevel::None);
    config.wasm_component_model_map(true).wasm_component_model_fixed_length_lists(true);
    Engine::new(&config).unwrap()
});

/// The arguments that the host function of an echo component received, as wasmtime's `Val`.
#[derive(Default)]
struct Seen(Vec<Val>);

/// A component whose `call` returns its parameter, or all of its parameters as a tuple.
struct Echo {
    store: Store<Seen>,
    func: TypedFunc<Args, Ret>,
    params: Vec<Type>,
    result: Type,
}

impl Echo {
    fn new(params: &[Type], encoding: &str) -> Echo {
        let result = match params {
            [one] => one.clone(),
            several => Type::Tuple(several.into()),
        };
        let text = component::echo(params, &result, encoding);
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let component = Component::new(&ENGINE, bytes).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let mut linker = Linker::<Seen>::new(&ENGINE);
        let host = linker.root().func_new("host", |mut store, _, params, results| {
            store.data_mut().0 = params.to_vec();
            results[0] = match params {
                [one] => one.clone(),
                several => Val::Tuple(several.to_vec()),
            };
            Ok(())
        });
        host.unwrap();
        let mut store = Store::new(&ENGINE, Seen::default());
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let func = instance.get_func(&mut store, "call").unwrap();
        let fields = params.iter().enumerate();
        let expected = FuncType {
            params: fields.map(|(i, ty)| Field { name: format!("p{i}").into(), ty: ty.clone() }).collect(),
            result: Some(result.clone()),
        };
        assert_eq!(component_func(&func.ty(&store)), expected);
        Echo { store, func: typed(func), params: params.to_vec(), result }
    }

    fn check(&mut self, values: &[Value]) {
        let Ret(back) = self.func.call(&mut self.store, Args(values.to_vec())).unwrap();
        let vals: Vec<_> = values.iter().zip(&self.params).map(|(v, ty)| val::to_val(v, ty)).collect();
        assert_eq!(self.store.data().0, vals, "values lowered by GVM and lifted by `Val`");
        let back = back.unwrap();
        back.check(&self.result).unwrap();
        let expected = match values {
            [one] => one.clone(),
            several => Value::Tuple(several.to_vec()),
        };
        assert!(
            val::same(&back, &expected),
            "value lowered by `Val` and lifted by GVM: {back:?}, not {expected:?}"
        );
    }
}

fn encoding() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["utf8", "utf16", "latin1+utf16"])
}

/// Generates a word of guest memory: often a small number or an address in the noise, so that many are valid.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..4,
        4 => (0u32..32).prop_map(|index| index * 8),
        1 => any::<u32>(),
        1 => proptest::sample::select(vec![u32::MAX, 65536, 65528, 0x8000_0001, 0xd800, 0x0101_0101]),
    ]
}

/// Generates a flat result: mostly an address in the noise, aligned for any type.
fn slot() -> impl Strategy<Value = u32> {
    prop_oneof![3 => (0u32..16).prop_map(|index| index * 8), 1 => word()]
}

fn noise() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(word(), 64)
}

/// Generates a signature and four argument lists for it.
fn calls() -> impl Strategy<Value = (Vec<Type>, Vec<Vec<Value>>)> {
    proptest::collection::vec(generate::ty(), 1..4).prop_flat_map(|params| {
        let values = params.iter().map(generate::value).collect::<Vec<_>>();
        (Just(params), proptest::collection::vec(values, 4))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_val_both_ways((params, calls) in calls(), encoding in encoding()) {
        let mut echo = Echo::new(&params, encoding);
        for values in &calls {
            echo.check(values);
        }
    }

    #[test]
    fn async_functions_return_what_they_got((ty, values) in generate::ty().prop_flat_map(|ty| {
        let values = proptest::collection::vec(generate::value(&ty), 3);
        (Just(ty), values)
    }), encoding in encoding()) {
        let text = component::async_echo(&ty, encoding);
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let component = Component::new(&TASKS, bytes).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let mut store = Store::new(&TASKS, ());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let count = component::flatten(&ty).len();
        let slots = slots(Some(&ty), true);
        prop_assert_eq!(slots, if count > 16 { 1 } else { count });
        runtime.block_on(async {
            let linker = Linker::new(&TASKS);
            let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
            let func = instance.get_func(&mut store, "call").unwrap();
            for value in &values {
                let Ret(back) = Tasked::new(func, slots).call(&mut store, Args(vec![value.clone()])).await.unwrap();
                assert!(val::same(&back.unwrap(), value), "{ty}: {value:?}");
            }
        });
    }

    #[test]
    fn whatever_a_guest_returns_val_and_we_agree(ty in generate::ty(), words in noise(), slot in slot(),
                                                 encoding in encoding()) {
        let text = component::noise(&ty, &words, slot, encoding);
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let component = Component::new(&ENGINE, bytes).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
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
                prop_assert_eq!(val::to_val(&ours, &ty), theirs);
            }
            (Err(ours), Err(_)) => prop_assert!(ours.is::<Fault>(), "{:?}", ours),
            // GVM charges the same fuel as `Val` for a value, or less.
            (Ok(_), Err(theirs)) => prop_assert!(theirs.to_string().contains("fuel"), "{:?}", theirs),
            (ours, theirs) => prop_assert!(false, "ours {:?}, theirs {:?}", ours, theirs),
        }
    }

    #[test]
    fn a_value_of_another_type_is_an_error(params in generate::ty(), other in generate::ty()) {
        // The value may fail the check, or it may happen to have the right type. It must never panic.
        let mut echo = Echo::new(std::slice::from_ref(&params), "utf8");
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..4 {
            let value = generate::value(&other).new_tree(&mut runner).unwrap();
            let value = proptest::strategy::ValueTree::current(&value);
            match (value.check(&params), echo.func.call(&mut echo.store, Args(vec![value]))) {
                (Ok(()), result) => drop(result.unwrap()),
                (Err(_), Ok(ret)) => panic!("{params} took a {other} and gave {ret:?}"),
                (Err(_), Err(error)) => {
                    let fault = error.downcast_ref::<Fault>();
                    assert!(matches!(fault, Some(Fault::Value(_))), "{error:?}");
                }
            }
        }
    }

    #[test]
    fn text_reads_back_what_it_printed((ty, value) in generate::ty().prop_flat_map(|ty| {
        let value = generate::value(&ty);
        (Just(ty), value)
    })) {
        let text = gvm_host::wave::print(&value, &ty);
        let back = gvm_host::wave::parse(&text, &ty);
        let back = back.unwrap_or_else(|error| panic!("{error}\n{}", error.point(&text)));
        prop_assert!(val::same(&back, &value), "{}: {:?}, not {:?}", text, back, value);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,40}", waves in "[-a-z0-9%.:,(){}\\[\\]\"'\\\\\n ]{0,30}",
                                   ty in generate::ty()) {
        for text in [text, waves] {
            if let Err(error) = gvm_host::wave::parse(&text, &ty) {
                error.point(&text);
            }
        }
    }
}

fn list(ty: Type) -> Type {
    Type::List(Arc::new(ty))
}

#[test]
fn every_packed_list_crosses_in_bulk() {
    macro_rules! check {
        ($($ty:ident $number:ident),*) => {$(
            let numbers: Vec<$number> = (0..70_000u32).map(|n| n.wrapping_mul(0x9e37_79b9) as $number).collect();
            let value = Value::List(List::$ty(numbers.into()));
            Echo::new(&[list(Type::$ty)], "utf8").check(&[value]);
        )*};
    }
    check!(S8 i8, U8 u8, S16 i16, U16 u16, S32 i32, U32 u32, S64 i64, U64 u64, F32 f32, F64 f64);
}

#[test]
fn fixed_length_lists_cross_as_slots_and_through_memory() {
    let fixed = |ty: Type, length: u32| Type::FixedList(Arc::new(ty), length);
    for length in [1, 2, 15, 16, 17, 1000] {
        let bytes = Value::List(List::U8((0..length).map(|n| n as u8).collect::<Vec<_>>().into()));
        let floats = Value::List(List::F64((0..length).map(f64::from).collect()));
        let texts = Value::List(List::Values((0..length).map(|n| Value::String(n.to_string())).collect()));
        Echo::new(&[fixed(Type::U8, length)], "utf8").check(std::slice::from_ref(&bytes));
        let params = [fixed(Type::U8, length), fixed(Type::F64, length), fixed(Type::String, length)];
        Echo::new(&params, "utf16").check(&[bytes.clone(), floats, texts]);
        let mut echo = Echo::new(&[fixed(Type::U8, length + 1)], "utf8");
        let error = echo.func.call(&mut echo.store, Args(vec![bytes])).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Fault::Value(_))), "{error:?}");
    }
}

#[test]
fn entries_of_a_map_must_be_pairs() {
    let ty = Type::Map(Arc::new(gvm_host::MapType { key: Type::U8, value: Type::String }));
    let mut echo = Echo::new(&[ty], "utf8");
    let text = || Value::String("x".into());
    for wrong in [
        List::U8(vec![1].into()),
        List::Values(vec![Value::U8(1)]),
        List::Values(vec![Value::Tuple(vec![Value::U8(1)])]),
        List::Values(vec![Value::Tuple(vec![Value::U8(1), text(), text()])]),
        List::Values(vec![Value::Tuple(vec![text(), text()])]),
        List::Values(vec![Value::Record(vec![Value::U8(1), text()])]),
    ] {
        let error = echo.func.call(&mut echo.store, Args(vec![Value::List(wrong)])).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Fault::Value(_))), "{error:?}");
    }
    let entry = Value::Tuple(vec![Value::U8(1), text()]);
    echo.check(&[Value::List(List::Values(vec![entry.clone(), entry]))]);
}

#[test]
fn strings_cross_in_every_encoding() {
    let every: String = (0..=0x10ffff).step_by(7).filter_map(char::from_u32).collect();
    let latin: String = (0..=0xff).filter_map(char::from_u32).collect();
    for encoding in ["utf8", "utf16", "latin1+utf16"] {
        let mut echo = Echo::new(&[Type::String, list(Type::Char)], encoding);
        for text in ["", "plain", "é", "a☃", &latin, &format!("{latin}\u{1f30a}"), &every] {
            let chars = List::Values(text.chars().map(Value::Char).collect());
            echo.check(&[Value::String(text.to_owned()), Value::List(chars)]);
        }
    }
}

#[test]
fn parameters_beyond_sixteen_slots_go_through_memory() {
    for count in [15, 16, 17, 40] {
        let params: Vec<Type> = (0..count).map(|n| [Type::U8, Type::F64, Type::S16][n % 3].clone()).collect();
        let value =
            |n: usize| [Value::U8(n as u8), Value::F64(n as f64), Value::S16(-(n as i16))][n % 3].clone();
        Echo::new(&params, "utf8").check(&(0..count).map(value).collect::<Vec<_>>());
    }
}

#[test]
fn a_wrong_number_of_arguments_is_an_error() {
    for values in [vec![], vec![Value::U8(1), Value::U8(2)]] {
        let mut echo = Echo::new(&[Type::U8], "utf8");
        let error = echo.func.call(&mut echo.store, Args(values)).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Fault::Value(_))), "{error:?}");
    }
}

#[test]
fn after_a_refused_value_the_next_call_works() {
    let mut echo = Echo::new(&[list(Type::String)], "utf8");
    let bad = List::Values(vec![Value::String("x".into()), Value::U8(1)]);
    for _ in 0..3 {
        let error = echo.func.call(&mut echo.store, Args(vec![Value::List(bad.clone())])).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Fault::Value(_))), "{error:?}");
        echo.check(&[Value::List(List::Values(vec![Value::String("x".into())]))]);
    }
}

#[test]
fn the_types_refuse_to_stand_for_one_value() {
    let component = Component::new(&ENGINE, wat::parse_str("(component)").unwrap()).unwrap();
    let instance = component.component_type();
    let ty = wasmtime::component::__internal::InterfaceType::U8;
    assert!(Args::typecheck(&ty, &instance.instance_type()).is_err());
    assert!(Ret::typecheck(&ty, &instance.instance_type()).is_err());
}

#[test]
fn a_call_can_be_awaited_on_another_thread() {
    let Echo { mut store, func, .. } = Echo::new(&[list(Type::U8)], "utf8");
    let value = Value::List(List::U8(vec![7; 1 << 16].into()));
    let args = Args(vec![value.clone()]);
    let call = async move { func.call_async(&mut store, args).await };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let back = runtime.block_on(runtime.spawn(call)).unwrap().unwrap();
    assert_eq!(back, Ret(Some(value)));
}
