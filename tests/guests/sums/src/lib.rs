//! The functions that `benches/system` measures. In: two numbers, or bytes. Out: their sum, or the same bytes. Must not
//! know: the caller.
//!
//! `greet` is not measured. It makes this a usual component: it prints, and so it imports WASI.

wit_bindgen::generate!({
    inline: "package bench:sums;
    world sums {
        export add: func(a: s32, b: s32) -> s32;
        export echo: func(v: list<u8>) -> list<u8>;
        export greet: func(name: string) -> string;
    }"
});

struct Sums;

export!(Sums);

impl Guest for Sums {
    fn add(a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }

    fn echo(v: Vec<u8>) -> Vec<u8> {
        v
    }

    fn greet(name: String) -> String {
        println!("greeting {name}");
        format!("Hello, {name}!")
    }
}
