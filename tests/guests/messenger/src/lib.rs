//! In: names of nodes, and calls. Out: the answers of these nodes. Must not know: how they are reached.

gvm_guest::module!(
    "package tests:messenger;
    world messenger {
        export here: func() -> string;
        export discover: func() -> result<list<string>, string>;
        export connect: func(name: string) -> result<_, string>;
        export connected: func() -> list<string>;
        export disconnect: func(name: string) -> result<_, string>;
        export run: func(name: string, call: string) -> result<option<string>, string>;
        /// Runs the call on the last node of the route. Each node on the route asks the next one.
        export relay: func(route: list<string>, call: string) -> result<option<string>, string>;
        /// Runs the calls one after the other, in turn on this node and on the nodes that it is connected to.
        export spread: func(calls: list<string>) -> result<list<option<string>>, string>;
        /// Calls itself on its own node without end. Returns the error that stops it.
        export recurse: func() -> string;
    }"
);

struct Messenger;

export!(Messenger with_types_in bindings);

/// Formats an error on one line: its code, its outcome class and its message.
fn told(error: gvm_guest::Error) -> String {
    format!("{} ({:?}): {}", error.code, error.outcome, error.message)
}

impl Guest for Messenger {
    fn here() -> String {
        gvm_guest::here()
    }

    fn discover() -> Result<Vec<String>, String> {
        gvm_guest::discover().map_err(told)
    }

    fn connect(name: String) -> Result<(), String> {
        gvm_guest::connect(&name).map_err(told)
    }

    fn connected() -> Vec<String> {
        gvm_guest::list()
    }

    fn disconnect(name: String) -> Result<(), String> {
        gvm_guest::disconnect(&name).map_err(told)
    }

    fn run(name: String, call: String) -> Result<Option<String>, String> {
        gvm_guest::run(&name, &call).map_err(told)
    }

    fn relay(route: Vec<String>, call: String) -> Result<Option<String>, String> {
        match route.split_first() {
            None => gvm_guest::run(&gvm_guest::here(), &call).map_err(told),
            Some((next, rest)) => {
                println!("{} asks {next}", gvm_guest::here());
                let rest: Vec<String> = rest.iter().map(|name| format!("{name:?}")).collect();
                let call = format!("messenger.relay([{}], {call:?})", rest.join(", "));
                gvm_guest::run(next, &call).map_err(told)
            }
        }
    }

    fn spread(calls: Vec<String>) -> Result<Vec<Option<String>>, String> {
        gvm_guest::spread(calls.iter().map(String::as_str)).map_err(told)
    }

    fn recurse() -> String {
        match gvm_guest::run(&gvm_guest::here(), "messenger.recurse()") {
            Ok(code) => code.unwrap_or_default().trim_matches('"').to_owned(),
            Err(error) => format!("{}: {}", error.code, error.message),
        }
    }
}
