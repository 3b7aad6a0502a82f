//! The functions that nodes can call. The WIT below has their types.

gvm_guest::module!(
    "package my:module;
    world module {
        export add: func(a: s32, b: s32) -> s32;
        export greet: func(name: string) -> string;
    }"
);

struct Module;

impl Guest for Module {
    fn add(a: i32, b: i32) -> i32 {
        println!("adding {a} and {b}");
        a + b
    }

    fn greet(name: String) -> String {
        format!("Hello, {name}!")
    }
}

export!(Module with_types_in bindings);
