//! What a session may call.
//!
//! In: the patterns that a person allows, the function that a call names. Out: nothing, or `NOT_PERMITTED`. Pure.
//! Must not know: how calls run, how long a session lasts.
//!
//! A pattern matches whole names: `math` (the main of that module), `math.add`, `math.iface.add`; `*`
//! matches any characters. A function of an interface also matches without the interface: `math.add`. Patterns
//! ignore versions, and treat `_` and `-` as the same character.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::base::device::{NodeName, NodePattern};
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;

/// The longest pattern, in bytes: enough for a module, an interface and a function with long names.
const LONGEST: usize = 400;

/// A pattern of what may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Pattern> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:/@*$+".contains(c);
        if !text.is_empty() && text.len() <= LONGEST && text.chars().all(fits) {
            return Ok(Pattern(text.to_owned()));
        }
        Err(Error::new(Code::Syntax, format!("`{text}` is not a valid call pattern"))
            .with_help("write a pattern such as `math.add`, `math.*`, `math` (its main) or `*`"))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    fn everything(&self) -> bool {
        self.0.chars().all(|c| c == '*')
    }

    fn matches(&self, text: &str) -> bool {
        self.after(text).last() == Some(&true)
    }

    /// Returns whether some text with this beginning matches.
    fn reaches(&self, beginning: &str) -> bool {
        self.after(beginning).contains(&true)
    }

    /// Returns the positions in the pattern that the text can lead to: one for each of its characters, and the
    /// end. It takes at most the product of both lengths.
    fn after(&self, text: &str) -> Vec<bool> {
        let pattern: Vec<char> = self.0.chars().map(alike).collect();
        // A star also matches nothing.
        let spread = |places: &mut Vec<bool>| {
            for (place, c) in pattern.iter().enumerate() {
                places[place + 1] |= places[place] && *c == '*';
            }
        };
        let mut places = vec![false; pattern.len() + 1];
        places[0] = true;
        spread(&mut places);
        for c in text.chars().map(alike) {
            let mut next = vec![false; places.len()];
            for (place, expected) in pattern.iter().enumerate() {
                match *expected {
                    '*' => next[place] |= places[place],
                    expected => next[place + 1] |= places[place] && expected == c,
                }
            }
            spread(&mut next);
            places = next;
        }
        places
    }
}

fn alike(c: char) -> char {
    if c == '_' { '-' } else { c }
}

/// One `--allow-call`: `PATTERN` for every peer, `NAME=PATTERN` for one, `NAME@DEVICE=PATTERN` or `*@DEVICE=PATTERN` for
/// those of another device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub peer: Option<NodePattern>,
    pub pattern: Pattern,
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rule> {
        match text.split_once('=') {
            Some((peer, pattern)) => Ok(Rule { peer: Some(peer.parse()?), pattern: pattern.parse()? }),
            None => Ok(Rule { peer: None, pattern: text.parse()? }),
        }
    }
}

/// What one session may call. Cheap to clone; `Send + Sync`. By default, everything.
#[derive(Clone, Debug, Default)]
pub struct Rights(Option<Arc<Bounds>>);

#[derive(Debug)]
struct Bounds {
    me: NodeName,
    peer: NodeName,
    patterns: Vec<Pattern>,
}

impl Rights {
    /// Returns what `me`, a node of the device `own`, allows `peer` to call by these rules; everything if there are none.
    pub fn of(rules: &[Rule], peer: &NodeName, me: &NodeName, own: Option<&Name>) -> Rights {
        if rules.is_empty() {
            return Rights::default();
        }
        let mine = rules.iter().filter(|rule| rule.peer.as_ref().is_none_or(|named| named.names(peer, own)));
        let patterns = mine.map(|rule| rule.pattern.clone()).collect();
        Rights(Some(Arc::new(Bounds { me: me.clone(), peer: peer.clone(), patterns })))
    }

    /// Returns whether everything may be called.
    pub fn are_all(&self) -> bool {
        self.0.as_ref().is_none_or(|bounds| bounds.patterns.iter().any(Pattern::everything))
    }

    /// Returns the patterns; `None` if everything may be called.
    pub fn patterns(&self) -> Option<Vec<String>> {
        self.0.as_ref().map(|bounds| bounds.patterns.iter().map(Pattern::to_string).collect())
    }

    /// Checks whether anything of this module may be called, before the module is loaded. `asked` is the
    /// function of the call. A module that was sent with the call has no name: it needs the right to everything.
    ///
    /// # Errors
    /// `NOT_PERMITTED`.
    pub fn enter(&self, module: Option<&Name>, asked: Option<&str>) -> Result<()> {
        let Some(bounds) = &self.0 else { return Ok(()) };
        let may = bounds.patterns.iter().any(|pattern| match module {
            Some(name) => pattern.matches(name.as_str()) || pattern.reaches(&format!("{name}.")),
            None => pattern.everything(),
        });
        if may { Ok(()) } else { Err(bounds.refusal(module, asked)) }
    }

    /// Checks whether this function of the module, or its main, may be called.
    ///
    /// # Errors
    /// `NOT_PERMITTED`.
    pub fn call(&self, module: Option<&Name>, interface: Option<&str>, function: Option<&str>) -> Result<()> {
        let Some(bounds) = &self.0 else { return Ok(()) };
        let Some(name) = module else { return self.enter(None, function) };
        let names = names(name, interface, function);
        if bounds.patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name))) {
            return Ok(());
        }
        Err(bounds.refusal(module, function))
    }
}

impl Bounds {
    fn refusal(&self, module: Option<&Name>, function: Option<&str>) -> Error {
        let Bounds { me, peer, patterns } = self;
        let asked = match (module, function) {
            (Some(module), Some(function)) => format!("{module}.{function}"),
            (Some(module), None) => module.to_string(),
            (None, _) => "*".to_owned(),
        };
        let what = match module {
            Some(_) => format!("call `{asked}`"),
            None => "send its own modules".to_owned(),
        };
        let allowed = match patterns.is_empty() {
            true => "nothing".to_owned(),
            false => {
                let quoted = patterns.iter().map(|pattern| format!("`{pattern}`"));
                format!("only {}", quoted.collect::<Vec<_>>().join(", "))
            }
        };
        let message = format!("`{me}` does not allow `{peer}` to {what}; it allows {allowed}");
        Error::new(Code::NotPermitted, message)
            .with_help(format!("start `{me}` with `--allow-call '{peer}={asked}'` to allow it"))
    }
}

/// Returns every name of the function that a pattern can match.
fn names(module: &Name, interface: Option<&str>, function: Option<&str>) -> Vec<String> {
    let Some(function) = function else { return vec![module.to_string()] };
    let mut names = vec![format!("{module}.{function}")];
    if let Some(full) = interface {
        let bare = full.split_once('@').map_or(full, |(bare, _)| bare);
        let last = bare.rsplit_once('/').map_or(bare, |(_, last)| last);
        names.extend([full, bare, last].map(|interface| format!("{module}.{interface}.{function}")));
    }
    names
}

/// The rights of a session, as its own side knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRights {
    /// The patterns of what may be called; `None` for everything.
    pub calls: Option<Vec<String>>,
    /// When the session expires, in milliseconds since 1970; `None` if it does not.
    pub expires_ms: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn rights(rules: &[&str]) -> Rights {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Rights::of(&rules, &"peer".parse().unwrap(), &"me".parse().unwrap(), None)
    }

    fn may(rules: &[&str], module: &str, interface: Option<&str>, function: Option<&str>) -> bool {
        let rights = rights(rules);
        let called = rights.call(Some(&name(module)), interface, function).is_ok();
        let entered = rights.enter(Some(&name(module)), None).is_ok();
        assert!(entered || !called, "a call needs the right to enter: {rules:?} {module}");
        called
    }

    #[test]
    fn patterns_match_whole_names() {
        let main = |rule| may(&[rule], "math", None, None);
        let add = |rule| may(&[rule], "math", None, Some("add"));
        assert!(main("math") && main("*") && main("math*") && main("m*h") && main("*math"));
        assert!(!main("math.*") && !main("mat") && !main("maths") && !main("math.add"));
        assert!(
            add("math.add") && add("math.*") && add("*") && add("*.add") && add("ma*.a*d") && add("math**")
        );
        assert!(!add("math") && !add("math.ad") && !add("math.adds") && !add("maths.*") && !add("*.sub"));
        assert!(
            may(&["x.my-fun"], "x", None, Some("my_fun")) && may(&["x.my_fun"], "x", None, Some("my-fun"))
        );
    }

    #[test]
    fn a_function_of_an_interface_matches_by_every_name() {
        let add = |rule| may(&[rule], "math", Some("ns:pkg/ops@1.0.0"), Some("add"));
        assert!(add("math.add") && add("math.ops.add") && add("math.ops.*") && add("math.*"));
        assert!(add("math.ns:pkg/ops.add") && add("math.ns:pkg/ops@1.0.0.add"));
        assert!(!add("math.other.*") && !add("math.ops") && !add("ops.add"));
    }

    #[test]
    fn a_module_may_be_entered_for_one_function() {
        let enters = |rule: &str, module: &str| rights(&[rule]).enter(Some(&name(module)), None).is_ok();
        assert!(enters("math.add", "math") && enters("*.add", "math") && enters("m*", "math"));
        assert!(!enters("math.add", "mat") && !enters("math.add", "maths"));
    }

    #[test]
    fn modules_that_are_sent_need_the_right_to_everything() {
        assert!(
            rights(&["*"]).call(None, None, Some("f")).is_ok() && rights(&["*"]).enter(None, None).is_ok()
        );
        let refused = rights(&["*.*", "math*"]).call(None, None, Some("f")).unwrap_err();
        assert!(refused.message().contains("does not allow `peer` to send its own modules"), "{refused}");
        assert_eq!(refused.help(), Some("start `me` with `--allow-call 'peer=*'` to allow it"));
    }

    #[test]
    fn rules_are_for_all_peers_or_for_one() {
        let add = |rules: &[&str]| may(rules, "math", None, Some("add"));
        assert!(add(&[]), "without a rule everything may be called");
        assert!(add(&["peer=math.add"]) && add(&["other=x", "math.add"]));
        assert!(!add(&["other=math.add"]), "a rule for another peer does not count");
        let refused = rights(&["other=*"]).call(Some(&name("math")), None, Some("add")).unwrap_err();
        assert_eq!(refused.code(), Code::NotPermitted);
        let message = "`me` does not allow `peer` to call `math.add`; it allows nothing";
        assert_eq!(refused.message(), message);
        assert_eq!(refused.help(), Some("start `me` with `--allow-call 'peer=math.add'` to allow it"));
        assert_eq!(rights(&["a.*", "peer=b"]).patterns(), Some(vec!["a.*".into(), "b".into()]));
        assert_eq!(rights(&[]).patterns(), None);
    }

    #[test]
    fn invalid_patterns_are_refused() {
        for text in ["", "a b", "math.add(1)", "B=x", "*=x", "=x", "a=", "a=b=c", "\"x\"", &"x".repeat(500)] {
            assert_eq!(text.parse::<Rule>().unwrap_err().code(), Code::Syntax, "{text:?}");
        }
    }
}
