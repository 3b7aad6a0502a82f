//! Completion.
//!
//! In: the typed text up to the cursor, the known names. Out: suggestions, each with a description: a
//! signature, the state of a node, the content of a module. Must not know: how they are shown.

use std::fmt::Write as _;

use reedline::{Completer, CompletionResult, Span, Suggestion};

use super::known::{Known, Names};
use super::place::{Path, Place};
use super::signature::Signature;
use super::values;
use gvm_host::index::Entry;
use gvm_host::parse::{MODULE_METHODS, NODE_METHODS};
use gvm_host::text::near;

/// Completes statements of the REPL.
pub struct Complete(pub Names);

impl Completer for Complete {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let text = line.get(..pos).unwrap_or(line);
        let place = Place::at_end(text);
        let known = if wants_nodes(&place) { self.0.all() } else { self.0.modules() };
        CompletionResult::fresh(suggestions(&place, text, &known))
    }
}

fn wants_nodes(place: &Place<'_>) -> bool {
    place.open.last().is_some_and(|open| open.callee.parts.first() == Some(&"Node"))
}

/// A suggestion: the text to insert, and its description.
struct Offer {
    value: String,
    description: String,
}

fn offer(value: impl Into<String>, description: impl Into<String>) -> Offer {
    Offer { value: value.into(), description: description.into() }
}

fn suggestions(place: &Place<'_>, text: &str, known: &Known) -> Vec<Suggestion> {
    let (found, start) = match (&place.pin, &place.path) {
        (Some(pin), _) => (fitting(versions(known, pin.module), pin.partial), pin.start),
        (None, Some(path)) => (fitting(offers(place, path, known, text), path.partial), path.start),
        (None, None) => return Vec::new(),
    };
    let end = text.len();
    let suggestion = |Offer { value, description }| Suggestion {
        value,
        description: (!description.is_empty()).then_some(description),
        span: Span::new(start.min(end), end),
        ..Suggestion::default()
    };
    found.into_iter().map(suggestion).collect()
}

/// Returns the offers that begin with the typed text. If there are none, returns those that contain it; else
/// those with similar names.
fn fitting(offers: Vec<Offer>, typed: &str) -> Vec<Offer> {
    let kebab = typed.replace('_', "-").to_lowercase();
    let bare = |offer: &Offer| offer.value.trim_end_matches(['(', ')', '.']).to_lowercase();
    let begins = |offer: &Offer| {
        let name = offer.value.strip_prefix('"').unwrap_or(&offer.value);
        [offer.value.as_str(), name].iter().any(|value| value.starts_with(typed) || value.starts_with(&kebab))
    };
    // A function of an interface, by its name without the interface.
    let last = |offer: &Offer| bare(offer).rsplit_once('.').is_some_and(|(_, name)| name.starts_with(&kebab));
    let qualified = |offer: &Offer| offer.value.starts_with(char::is_lowercase);
    let is_begun = |offer: &Offer| begins(offer) || !typed.is_empty() && qualified(offer) && last(offer);
    if offers.iter().any(is_begun) || typed.chars().count() < 2 {
        return offers.into_iter().filter(is_begun).collect();
    }
    let holds = |offer: &Offer| bare(offer).contains(&kebab);
    if offers.iter().any(holds) {
        return offers.into_iter().filter(holds).collect();
    }
    let names: Vec<String> = offers.iter().map(bare).collect();
    let near = near::nearest(&kebab, names.iter().map(String::as_str));
    offers.into_iter().filter(|offer| near.contains(&bare(offer).as_str())).collect()
}

fn offers(place: &Place<'_>, path: &Path<'_>, known: &Known, text: &str) -> Vec<Offer> {
    let inside = place.open.last();
    let argument = inside.map(|open| (open.callee.parts.as_slice(), open.arg));
    match (argument, path.parts.as_slice()) {
        (None, []) if place.help => both(callables(known), topics()),
        (None, ["Node"]) if place.help => topics_of(&NODE_METHODS),
        (None, ["Module"]) if place.help => topics_of(&MODULE_METHODS),
        (None, [module]) if place.help => functions(known, module, None, true),
        (None, []) => statements(known),
        (None, ["Node"]) => methods(&NODE_METHODS),
        (None, ["Module"]) => methods(&MODULE_METHODS),
        (_, [module]) if path.partial.starts_with('"') => {
            both(interfaces(known, module, path.version), functions(known, module, path.version, place.help))
        }
        (None, parts) => calls(known, parts, path.version),
        (Some((["Node", "connect"], 0)), []) => nodes(known, |state| state == State::Live),
        (Some((["Node", "disconnect" | "revoke" | "rights"], 0)), []) => {
            nodes(known, |state| state == State::Connected)
        }
        (Some((["Node", "run"], 0)), []) => nodes(known, |state| state != State::Live),
        (Some((["Node", "run"], 1)), []) => callables(known),
        (Some((["Node", "run"], 1)), parts) => calls(known, parts, path.version),
        (Some((["Node", "spawn"], 0)), []) => {
            both(modules(known), nodes(known, |state| state != State::Live))
        }
        (Some((["Node", "spawn"], 1)), []) | (Some((["Module", "inspect"], 0)), []) => modules(known),
        (Some((["Node", "drop"], 0)), []) => instances(known),
        (Some((["Node" | "Module", ..], _)), _) => Vec::new(),
        // An argument of a function may be another call.
        (Some(([_, _, ..], _)), []) => {
            let mut nested = both(values(place, known, text), callables(known));
            nested.push(offer("Node.run(", "(name, module.f(…)): a call on a connected node"));
            nested
        }
        (Some(([_, _, ..], _)), ["Node"]) => vec![offer("run(", "(name, module.f(…))")],
        (Some(([_, _, ..], _)), parts) => calls(known, parts, path.version),
        // A value cannot contain a call.
        (Some(_), []) => values(place, known, text),
        _ => Vec::new(),
    }
}

fn both(mut first: Vec<Offer>, then: Vec<Offer>) -> Vec<Offer> {
    first.extend(then);
    first
}

fn statements(known: &Known) -> Vec<Offer> {
    let mut offers = callables(known);
    offers.push(offer("Node.", "nodes: discover, connect, run, …"));
    offers.push(offer("Module.", "stored modules: list, inspect"));
    offers.push(offer("help", "show help, for example help math.add"));
    offers.push(offer("exit", "leave"));
    offers
}

fn callables(known: &Known) -> Vec<Offer> {
    both(instances(known), modules(known))
}

fn modules(known: &Known) -> Vec<Offer> {
    let chosen = known.index.modules.iter();
    let chosen = chosen.filter_map(|(name, module)| Some((name, module.chosen()?)));
    chosen
        .map(|(name, (version, entry))| offer(name.as_str(), format!("{version}  {}", contents(entry))))
        .collect()
}

/// Describes the content of a module.
fn contents(entry: &Entry) -> String {
    let names: Vec<&str> =
        entry.exports.iter().filter_map(|line| Signature::read(line)).map(|function| function.name).collect();
    let mut words = String::new();
    if entry.main {
        words += "a program";
    }
    if !names.is_empty() {
        let parted = if words.is_empty() { "" } else { "; " };
        let _ = write!(words, "{parted}{}", names.iter().take(6).copied().collect::<Vec<_>>().join(", "));
        if names.len() > 6 {
            let _ = write!(words, ", … ({} functions)", names.len());
        }
    }
    words
}

fn instances(known: &Known) -> Vec<Offer> {
    let place = |place: &gvm_host::Place| match &place.node {
        Some(node) => format!("live: {} on {node}", place.module),
        None => format!("live: {}", place.module),
    };
    known.instances.iter().map(|(name, lives)| offer(name.as_str(), place(lives))).collect()
}

/// The relation of a node to this node.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Own,
    Connected,
    Live,
}

fn nodes(known: &Known, wanted: impl Fn(State) -> bool) -> Vec<Offer> {
    let nodes = &known.nodes;
    let mut names: Vec<_> = nodes.live.iter().chain(&nodes.connected).chain(&nodes.own).collect();
    names.sort();
    names.dedup();
    let state = |name| match () {
        () if nodes.own.as_ref() == Some(name) => State::Own,
        () if nodes.connected.contains(name) => State::Connected,
        () => State::Live,
    };
    let named = names.into_iter().map(|name| (name, state(name))).filter(|(_, state)| wanted(*state));
    let word = |state| match state {
        State::Own => "this node",
        State::Connected => "connected",
        State::Live => "running",
    };
    named.map(|(name, state)| offer(name.as_str(), word(state))).collect()
}

fn methods(all: &[(&str, &str, &str)]) -> Vec<Offer> {
    let method = |(name, params, word): &(&str, &str, &str)| match params.is_empty() {
        true => offer(format!("{name}()"), *word),
        false => offer(format!("{name}("), format!("({params}): {word}")),
    };
    all.iter().map(method).collect()
}

/// Returns the functions of a module, or of one of its interfaces.
fn calls(known: &Known, parts: &[&str], version: Option<&str>) -> Vec<Offer> {
    match parts {
        [module] => functions(known, module, version, false),
        [module, interface] => {
            let mut found = known.functions(module, version);
            found.retain(|function| function.is_of(interface));
            found.iter().map(|function| callable(&as_word(function.name), function, false)).collect()
        }
        _ => Vec::new(),
    }
}

fn functions(known: &Known, module: &str, version: Option<&str>, bare: bool) -> Vec<Offer> {
    let all = known.functions(module, version);
    let qualified = |function: &Signature<'_>| {
        let same = all.iter().filter(|other| other.name == function.name);
        let short = function.short_interface().filter(|_| same.clone().count() > 1);
        match (short, function.interface) {
            (None, _) | (_, None) => as_word(function.name),
            (Some(short), Some(full)) => {
                let alone = same.filter(|other| other.short_interface() == Some(short)).count() == 1;
                let interface = if alone { short.to_owned() } else { format!("\"{full}\"") };
                format!("{interface}.{}", as_word(function.name))
            }
        }
    };
    all.iter().map(|function| callable(&qualified(function), function, bare)).collect()
}

/// Returns an offer for a function with its signature. `bare` omits the parenthesis.
fn callable(name: &str, function: &Signature<'_>, bare: bool) -> Offer {
    let ty = function.ty.strip_prefix("func").unwrap_or(function.ty);
    let ends = match (bare, ty.starts_with("()")) {
        (true, _) => "",
        (false, true) => "()",
        (false, false) => "(",
    };
    offer(format!("{name}{ends}"), function.shown(ty))
}

/// Returns a name as it is written in a call: quoted, if it is not a word.
fn as_word(name: &str) -> String {
    match name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// Returns the words that can follow in the value at the cursor.
fn values(place: &Place<'_>, known: &Known, text: &str) -> Vec<Offer> {
    let Some(at) = place.open.iter().rposition(|open| open.callee.parts.len() > 1) else { return Vec::new() };
    let (call, inner) = (&place.open[at], &place.open[at + 1..]);
    let Some(signature) = known.function(&call.callee.parts, call.callee.version) else { return Vec::new() };
    let params = signature.params();
    let Some((name, ty)) = params.get(call.arg).and_then(|param| param.split_once(": ")) else {
        return Vec::new();
    };
    let words = values::words(ty, inner, text);
    let word = |(value, word): (String, String)| match word.is_empty() {
        true => offer(value, format!("a value of {name}")),
        false => offer(value, word),
    };
    words.into_iter().map(word).collect()
}

/// Returns the versions of a module: first the one that calls use by default, then the others from the
/// highest down.
fn versions(known: &Known, module: &str) -> Vec<Offer> {
    let Some((_, module)) = known.index.modules.iter().find(|(name, _)| name.as_str() == module) else {
        return Vec::new();
    };
    let chosen = module.chosen().map(|(version, _)| version);
    let mut all: Vec<_> = module.versions.iter().rev().collect();
    all.sort_by_key(|(version, _)| chosen != Some(*version));
    let written = |version: &semver::Version| match version.pre.is_empty() && version.build.is_empty() {
        true => version.to_string(),
        false => format!("\"{version}\""),
    };
    all.into_iter().map(|(version, entry)| offer(written(version), contents(entry))).collect()
}

/// Returns the interfaces of a module by their full names.
fn interfaces(known: &Known, module: &str, version: Option<&str>) -> Vec<Offer> {
    let all = known.functions(module, version);
    let mut names: Vec<&str> = all.iter().filter_map(|function| function.interface).collect();
    names.dedup();
    let of = |name: &str| {
        let within = all.iter().filter(|function| function.interface == Some(name));
        within.map(|function| function.name).collect::<Vec<_>>().join(", ")
    };
    names.into_iter().map(|name| offer(format!("\"{name}\"."), of(name))).collect()
}

/// Returns the topics of `help` other than modules.
fn topics() -> Vec<Offer> {
    [("Node", "nodes"), ("Module", "stored modules"), ("exit", "how to leave")]
        .map(|(topic, word)| offer(topic, word))
        .into()
}

fn topics_of(methods: &[(&str, &str, &str)]) -> Vec<Offer> {
    methods.iter().map(|(name, params, word)| offer(*name, format!("({params}): {word}"))).collect()
}

#[cfg(test)]
pub(super) mod tests;
