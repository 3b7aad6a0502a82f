//! Compares calls of a component with GVM's dynamic values, wasmtime's typed values and its dynamic `Val`:
//! echoes of 1 MiB, with a plain copy as the baseline, and an addition.
//!
//! In: nothing. Out: the times that criterion measures. Must not know: nodes. All variants run in one
//! process, one after the other.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gvm_host::internals::engine::canonical::{Args, Ret, typed};
use gvm_host::{List, Value};
use wasmtime::component::{Component, Instance, Linker, TypedFunc, Val, WasmList};
use wasmtime::{Config, Engine, Store};

const SIZE: usize = 1 << 20;

/// A guest whose only block begins at 64 KiB. It returns the pointer that it receives.
const GUEST: &str = r#"(component
    (core module $main
        (memory (export "memory") 40)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
        (func (export "echo") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (local.get 0))
            (i32.store (i32.const 20) (local.get 1))
            i32.const 16)
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
    (core instance $main (instantiate $main))
    (func (export "bytes") (param "a" (list u8)) (result (list u8))
        (canon lift (core func $main "echo") (memory $main "memory") (realloc (func $main "realloc"))))
    (func (export "floats") (param "a" (list f64)) (result (list f64))
        (canon lift (core func $main "echo") (memory $main "memory") (realloc (func $main "realloc"))))
    (func (export "add") (param "a" s32) (param "b" s32) (result s32)
        (canon lift (core func $main "add"))))"#;

fn guest() -> (Store<()>, Instance) {
    let engine = Engine::new(Config::new().concurrency_support(false)).unwrap();
    let component = Component::new(&engine, wat::parse_str(GUEST).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate(&mut store, &component).unwrap();
    (store, instance)
}

fn dynamic(store: &mut Store<()>, instance: &Instance, name: &str) -> TypedFunc<Args, Ret> {
    typed(instance.get_func(store, name).unwrap())
}

fn bytes(criterion: &mut Criterion) {
    let (mut store, instance) = guest();
    let data: Vec<u8> = (0..SIZE).map(|n| n as u8).collect();
    let mut group = criterion.benchmark_group("1 MiB list<u8>");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.bench_function("memcpy", |b| b.iter(|| black_box(&data).clone()));
    let func = dynamic(&mut store, &instance, "bytes");
    group.bench_function("ours", |b| {
        // The result is the next argument, so that the two allocations of a call are reused.
        let mut value = Some(Value::List(List::U8(data.clone().into())));
        b.iter(|| value = func.call(&mut store, Args(value.take().into_iter().collect())).unwrap().0);
    });
    let func = instance.get_typed_func::<(&[u8],), (Vec<u8>,)>(&mut store, "bytes").unwrap();
    group.bench_function("typed, Vec", |b| b.iter(|| func.call(&mut store, (&data,)).unwrap()));
    let func = instance.get_typed_func::<(&[u8],), (WasmList<u8>,)>(&mut store, "bytes").unwrap();
    group.bench_function("typed, WasmList", |b| {
        b.iter(|| func.call(&mut store, (&data,)).unwrap().0.as_le_slice(&store).to_vec());
    });
    group.finish();
}

fn floats(criterion: &mut Criterion) {
    let (mut store, instance) = guest();
    let data: Vec<f64> = (0..SIZE / 8).map(|n| n as f64).collect();
    let mut group = criterion.benchmark_group("1 MiB list<f64>");
    group.throughput(Throughput::Bytes(SIZE as u64));
    let func = dynamic(&mut store, &instance, "floats");
    group.bench_function("ours", |b| {
        // The result is the next argument, so that the two allocations of a call are reused.
        let mut value = Some(Value::List(List::F64(data.clone())));
        b.iter(|| value = func.call(&mut store, Args(value.take().into_iter().collect())).unwrap().0);
    });
    let func = instance.get_typed_func::<(&[f64],), (Vec<f64>,)>(&mut store, "floats").unwrap();
    group.bench_function("typed, Vec", |b| b.iter(|| func.call(&mut store, (&data,)).unwrap()));
    group.finish();
}

fn scalars(criterion: &mut Criterion) {
    let (mut store, instance) = guest();
    let mut group = criterion.benchmark_group("add");
    let func = dynamic(&mut store, &instance, "add");
    group.bench_function("ours", |b| {
        b.iter(|| func.call(&mut store, Args(vec![Value::S32(1), Value::S32(2)])).unwrap());
    });
    let func = instance.get_typed_func::<(i32, i32), (i32,)>(&mut store, "add").unwrap();
    group.bench_function("typed", |b| b.iter(|| func.call(&mut store, (1, 2)).unwrap()));
    let func = instance.get_func(&mut store, "add").unwrap();
    group.bench_function("Val", |b| {
        let mut results = [Val::Bool(false)];
        b.iter(|| func.call(&mut store, &[Val::S32(1), Val::S32(2)], &mut results).unwrap());
    });
    group.finish();
}

criterion_group!(benches, bytes, floats, scalars);
criterion_main!(benches);
