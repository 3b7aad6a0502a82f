//! Large values between nodes in separate processes.
//!
//! In: values up to and beyond the maximum size. Out: the same values, or a coded error, while small calls go
//! on. Must not know: how values are transferred.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod pair;

use std::time::Duration;

use gvm_host::limits::VALUE_BYTES;
use gvm_host::{Args, Call, Code, Effect, Limits, List, ModuleRef, Outcome, Stdio, Target, Value, workers};
use pair::{Pair, guest, name};

fn start() -> Pair {
    Pair::start("carrier", &guest("carrier.wat"))
}

async fn there(pair: &Pair, function: &str, args: Vec<Value>) -> Outcome {
    pair.near.run(Some(name("far")), call(function, args), Stdio::new(&Limits::default())).await
}

async fn here(pair: &Pair, function: &str, args: Vec<Value>) -> Outcome {
    pair.near.run(None, call(function, args), Stdio::new(&Limits::default())).await
}

fn call(function: &str, args: Vec<Value>) -> Call {
    let module = ModuleRef::Stored { name: name("carrier"), version: None };
    Call::new(Target { module, interface: None, function: Some(function.into()) }, Args::Values(args))
}

fn bytes(length: usize) -> Value {
    Value::List(List::U8((0..length).map(|index| (index % 251) as u8).collect()))
}

fn pairs(count: usize) -> Value {
    let pair = |index| Value::Record(vec![Value::String(format!("p{index}")), Value::U64(index as u64)]);
    Value::List(List::Values((0..count).map(pair).collect()))
}

#[test]
fn come_back_from_here_and_there() {
    let pair = start();
    let floats = Value::List(List::F64((0..8_000_000).map(f64::from).collect()));
    let cases = [
        ("bytes", bytes(64 << 20)),
        ("floats", floats),
        ("text", Value::String("grüße ".repeat(200_000))),
        ("pairs", pairs(100_000)),
        // Sizes around the limit above which values are transferred in another way.
        ("bytes", bytes((256 << 10) - 33)),
        ("bytes", bytes((256 << 10) - 32)),
        ("bytes", bytes((256 << 10) - 31)),
        ("bytes", bytes(0)),
    ];
    workers().unwrap().block_on(async {
        for (function, value) in cases {
            let here = here(&pair, function, vec![value.clone()]).await.result.unwrap();
            assert!(here.as_ref() == Some(&value), "{function} here");
            let there = there(&pair, function, vec![value.clone()]).await.result.unwrap();
            assert!(there.as_ref() == Some(&value), "{function} there");
        }
    });
}

#[test]
fn many_at_once_and_small_calls_between_them() {
    let pair = start();
    workers().unwrap().block_on(async {
        let large = async |size: usize| {
            let value = bytes(size);
            let back = there(&pair, "bytes", vec![value.clone()]).await.result.unwrap();
            assert!(back == Some(value));
        };
        let small = async {
            for n in 0..500 {
                let sum = there(&pair, "add", vec![Value::S32(n), Value::S32(1)]).await;
                assert_eq!(sum.result.unwrap(), Some(Value::S32(n + 1)));
            }
        };
        tokio::join!(
            small,
            large(8 << 20),
            large(1 << 20),
            large(300 << 10),
            large(16 << 20),
            large(2 << 20)
        );
    });
}

#[test]
fn beyond_the_limit() {
    let pair = start();
    workers().unwrap().block_on(async {
        let beyond = Value::List(List::U8(vec![0; VALUE_BYTES as usize + 1].into()));
        let error = there(&pair, "sum", vec![beyond]).await.result.unwrap_err();
        assert_eq!((error.code(), error.effect()), (Code::LimitExceeded, Effect::NotStarted), "{error}");
        let most = Value::U32(VALUE_BYTES as u32 + 1);
        let error = there(&pair, "zeros", vec![most]).await.result.unwrap_err();
        assert_eq!((error.code(), error.effect()), (Code::LimitExceeded, Effect::RanAndFailed), "{error}");
        assert!(error.to_string().contains("128"), "{error}");
        let zeros = there(&pair, "zeros", vec![Value::U32(100 << 20)]).await.result.unwrap();
        assert!(zeros == Some(Value::List(List::U8(vec![0; 100 << 20].into()))));
        let sum =
            there(&pair, "sum", vec![Value::List(List::U8(vec![1; 100 << 20].into()))]).await.result.unwrap();
        assert_eq!(sum, Some(Value::U64(100 << 20)));
    });
}

#[test]
fn a_node_that_dies_while_a_value_crosses() {
    let pair = start();
    workers().unwrap().block_on(async {
        let crossing = there(&pair, "bytes", vec![bytes(100 << 20)]);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let pid = rustix::process::Pid::from_child(&pair.far.0);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        let (outcome, ()) =
            tokio::time::timeout(Duration::from_secs(10), futures::future::join(crossing, killing))
                .await
                .expect("the call ends within the timeout");
        let error = outcome.result.unwrap_err();
        assert_eq!(error.code(), Code::NodeDown, "{error}");
        assert_ne!(error.effect(), Effect::NotStarted, "{error}");
    });
}

#[test]
fn calls_that_are_taken_back_while_a_value_crosses() {
    let pair = start();
    workers().unwrap().block_on(async {
        for millis in [0, 1, 5, 20, 50] {
            let crossing = there(&pair, "bytes", vec![bytes(32 << 20)]);
            let _ = tokio::time::timeout(Duration::from_millis(millis), crossing).await;
        }
        let value = bytes(4 << 20);
        let back = there(&pair, "bytes", vec![value.clone()]).await.result.unwrap();
        assert!(back == Some(value));
    });
}
