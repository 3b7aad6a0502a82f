//! In: values of every WIT type. Out: the same values, or one of the ways in which a call can fail. Must not
//! know: the caller.

wit_bindgen::generate!({ world: "values", path: "wit" });

use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

struct Values;

export!(Values);

static COUNT: AtomicU32 = AtomicU32::new(0);

macro_rules! echoes {
    ($($name:ident: $ty:ty),* $(,)?) => {
        $(fn $name(v: $ty) -> $ty { v })*
    };
}

impl Guest for Values {
    echoes! {
        echo_bool: bool, echo_s8: i8, echo_u8: u8, echo_s16: i16, echo_u16: u16, echo_s32: i32,
        echo_u32: u32, echo_s64: i64, echo_u64: u64, echo_f32: f32, echo_f64: f64, echo_char: char,
        echo_string: String, echo_bytes: Vec<u8>, echo_numbers: Vec<f64>, echo_words: Vec<i16>,
        echo_strings: Vec<String>, echo_bools: Vec<bool>, echo_record: EmptyTail,
        echo_tuple: (u8, String, Point), echo_variant: Shape, echo_enum: Colour,
        echo_option: Option<Option<u32>>, echo_result: Result<u8, String>,
        echo_result_ok: Result<u8, ()>, echo_result_err: Result<(), String>,
        echo_result_bare: Result<(), ()>, echo_flags: Rights, echo_wide: Wide, echo_tree: Tree,
    }

    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn echo_many(
        a: u8,
        b: String,
        c: f32,
        d: Vec<u8>,
        e: bool,
        f: i64,
        g: char,
        h: Option<u8>,
        i: u16,
    ) -> (u8, String, f32, Vec<u8>, bool, i64, char, Option<u8>, u16) {
        (a, b, c, d, e, f, g, h, i)
    }

    fn add(a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }

    fn bytes(count: u32) -> Vec<u8> {
        vec![b'b'; count as usize]
    }

    fn refuse(why: String) -> Result<(), String> {
        Err(why)
    }

    fn speak(words: String) -> u32 {
        println!("{words}");
        eprintln!("{words}, but louder");
        words.len() as u32
    }

    fn increment() -> u32 {
        COUNT.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn nothing() {}

    fn trap_unreachable() {
        std::arch::wasm32::unreachable()
    }

    fn trap_stack(depth: u32) -> u32 {
        deeper(&Cell::new(depth))
    }

    fn trap_panic(why: String) {
        panic!("{why}")
    }

    fn leave(status: u8) {
        std::process::exit(i32::from(status))
    }

    fn spin() {
        say("spinning");
        let mut count = 0u64;
        loop {
            count = std::hint::black_box(count.wrapping_add(1));
        }
    }

    fn sleep(milliseconds: u32) {
        say("sleeping");
        std::thread::sleep(Duration::from_millis(u64::from(milliseconds)));
    }

    fn hold(bytes: u32) -> u32 {
        let held = std::hint::black_box(vec![1u8; bytes as usize]);
        held.iter().map(|byte| u32::from(*byte)).sum()
    }
}

fn say(words: &str) {
    println!("{words}");
    std::io::stdout().flush().expect("standard output");
}

/// Recurses to the given depth, in a way that the compiler cannot turn into a loop.
fn deeper(depth: &Cell<u32>) -> u32 {
    let left = std::hint::black_box(depth).get();
    if left == 0 {
        return 0;
    }
    depth.set(left - 1);
    1 + std::hint::black_box(deeper(depth))
}

impl exports::test::values::left::Guest for Values {
    fn side() -> String {
        "left".into()
    }

    fn only_left() -> String {
        "only left".into()
    }
}

impl exports::test::values::right::Guest for Values {
    fn side() -> String {
        "right".into()
    }
}

struct Thing(u32);

impl exports::test::values::things::Guest for Values {
    type Thing = Thing;

    fn heaviest() -> exports::test::values::things::Thing {
        exports::test::values::things::Thing::new(Thing(u32::MAX))
    }
}

impl exports::test::values::things::GuestThing for Thing {
    fn new(weight: u32) -> Thing {
        Thing(weight)
    }

    fn weight(&self) -> u32 {
        self.0
    }
}
