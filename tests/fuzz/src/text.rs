//! What a person types, and names and lines that people pass on.
//!
//! In: text. Out: a panic if it reads differently after it is written. Must not know: nodes.

use gvm_host::internals::trust::invitation;
use gvm_host::net::Address;
use gvm_host::relay::Relay;
use gvm_host::{
    DeviceId, Hash, Name, NodeName, NodePattern, Pattern, Type, json, parse, parse_version, wave,
};

use super::canonical::Source;

fn read(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Statements, targets of command lines, topics of `help`.
pub fn call(data: &[u8]) {
    let Some(line) = read(data) else { return };
    let statement = parse::statement(line);
    if let Ok(statement) = &statement {
        assert_eq!(parse::statement(line).as_ref().ok(), Some(statement), "{line:?}");
    }
    let _ = parse::topic(line);
    let Ok(expr) = parse::target(line) else { return };
    assert!(statement.is_ok() || line.trim_start().starts_with(['#', 'N', 'M', 'e', 'h']), "{line:?}");
    let Some(args) = expr.args.clone().and_then(parse::plain) else { return };
    // The arguments alone, written again, are the same arguments, unless they are no values but commas.
    if args.split(", ").any(|arg| arg.trim().starts_with(',') || arg.trim().is_empty()) {
        return;
    }
    let again = parse::target(&format!("m.f({args})"));
    let again = again.unwrap_or_else(|error| panic!("{error}: {args:?} of {line:?}"));
    assert_eq!(again.args.and_then(parse::plain), Some(args), "{line:?}");
}

/// The first bytes choose a type, the rest is text of it.
pub fn wave(data: &[u8]) {
    let mut source = Source::new(data);
    let ty = source.ty(4);
    let rest = source.rest();
    let text = String::from_utf8_lossy(rest);
    match wave::parse(&text, &ty) {
        Ok(value) => {
            value.check(&ty).unwrap();
            let printed = wave::print(&value, &ty);
            let again = wave::parse(&printed, &ty);
            let again = again.unwrap_or_else(|error| panic!("{error}: {printed:?} of {ty}"));
            assert_eq!(wave::print(&again, &ty), printed, "{ty}");
            json::to_json(&value, &ty);
        }
        Err(misread) => drop(misread.into_error(&text)),
    }
    // Any value that can be made can be printed and read.
    let mut source = Source::new(rest);
    let printed = wave::print(&source.value(&ty), &ty);
    let again = wave::parse(&printed, &ty);
    let again = again.unwrap_or_else(|error| panic!("{error}: {printed:?} of {ty}"));
    assert_eq!(wave::print(&again, &ty), printed, "{ty}");
    let _ = wave::parse(&text, &Type::String);
}

/// Checks that what was read from text is written as text that reads the same.
fn same<T: std::str::FromStr + ToString + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let written = read.to_string();
        assert!(written.parse().ok() == Some(read), "{text:?} is written as {written:?}");
    }
}

/// Names, patterns, addresses, hashes, versions.
pub fn names(data: &[u8]) {
    let Some(text) = read(data) else { return };
    same::<Name>(text);
    same::<NodeName>(text);
    same::<NodePattern>(text);
    same::<DeviceId>(text);
    same::<Address>(text);
    same::<Hash>(text);
    let _ = text.parse::<Pattern>();
    if let Ok(version) = parse_version(text) {
        assert_eq!(parse_version(&version.to_string()).unwrap(), version, "{text:?}");
    }
    let mut sanitizer = gvm_host::text::sanitize::Sanitizer::default();
    let shown = sanitizer.feed(data) + &sanitizer.finish();
    assert!(!shown.chars().any(|letter| letter.is_control() && !"\n\t\r".contains(letter)), "{shown:?}");
}

/// Lines that people send each other: invitations and relays.
pub fn lines(data: &[u8]) {
    let Some(text) = read(data) else { return };
    same::<invitation::Line>(text);
    same::<Relay>(text);
    let _ = invitation::InvitationId::read(data);
}
