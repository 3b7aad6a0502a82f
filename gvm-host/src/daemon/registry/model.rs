//! The registry beside a model of it: a list that is searched from end to end.
//!
//! In: sequences of registrations, repeated, replaced and ended in any order, with names, lives and secrets that meet often. Out:
//! failures where an answer, a list or what a token means differs. Must not know: how the registry finds a node.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// What happens to the registry.
#[derive(Clone, Debug)]
enum Step {
    Register {
        /// `None` asks for a default name.
        name: Option<&'static str>,
        life: Life,
        secret: Option<u8>,
        chance: u64,
    },
    /// A connection ends, and its registration with it; the registration may have been replaced or ended before. The number
    /// selects one of all tokens so far.
    End(prop::sample::Index),
}

/// A registration of the model.
#[derive(Clone, Debug)]
struct Entry {
    token: Token,
    name: String,
    life: Life,
    secret: Option<u8>,
    since_ms: i64,
}

fn step() -> impl Strategy<Value = Step> {
    const NAMES: [Option<&str>; 6] =
        [None, Some("a"), Some("b"), Some("c"), Some("node-0001"), Some("node-00001")];
    let life =
        (1..4_u128, 0..2_u64).prop_map(|(id, incarnation)| Life { id: Uuid::from_u128(id), incarnation });
    let secret = prop_oneof![1 => Just(None), 6 => (0..2_u8).prop_map(Some)];
    // Two random numbers only, so that default names are taken soon.
    let register = (prop::sample::select(&NAMES), life, secret, 1..3_u64)
        .prop_map(|(name, life, secret, chance)| Step::Register { name, life, secret, chance });
    prop_oneof![3 => register, 1 => any::<prop::sample::Index>().prop_map(Step::End)]
}

/// Returns what the model says about a registration: the error, or the token that it replaces.
fn expected(
    model: &[Entry],
    name: Option<&str>,
    life: Life,
    secret: Option<u8>,
) -> std::result::Result<Option<Token>, Code> {
    let before = model.iter().find(|entry| entry.life == life);
    if before.is_some_and(|before| before.secret.is_none() || before.secret != secret) {
        return Err(Code::AuthFailed);
    }
    let taken = |name| model.iter().any(|entry| entry.name == name && entry.life != life);
    match name.is_some_and(taken) {
        true => Err(Code::NodeNameTaken),
        false => Ok(before.map(|before| before.token)),
    }
}

/// Compares everything that can be asked.
fn compare(registry: &Registry, model: &[Entry], tokens: &[Token]) -> std::result::Result<(), TestCaseError> {
    let mut sorted: Vec<&Entry> = model.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let told: Vec<_> =
        registry.discover().map(|node| (node.name.to_string(), node.life(), node.since_ms)).collect();
    let right: Vec<_> = sorted.iter().map(|entry| (entry.name.clone(), entry.life, entry.since_ms)).collect();
    prop_assert_eq!(told, right);
    prop_assert_eq!(registry.discover().len(), model.len());
    for (name, node, accepts) in registry.entries() {
        prop_assert_eq!(name.as_str(), node.name.as_str());
        prop_assert_eq!(accepts, [format!("of-{name}")], "the policy is that of the registration");
        prop_assert_eq!(registry.named(name).map(NodeInfo::life), Some(node.life()));
    }
    for token in tokens {
        let entry = model.iter().find(|entry| entry.token == *token);
        let told = registry.get(*token).map(|node| node.name.to_string());
        prop_assert_eq!(
            told,
            entry.map(|entry| entry.name.clone()),
            "a token means its own registration or nothing"
        );
    }
    let sizes = [registry.nodes.len(), registry.lives.len(), registry.tokens.len()];
    prop_assert_eq!(sizes, [model.len(); 3], "nothing is left of a registration that ended");
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_is_as_in_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut registry = Registry::default();
        let (mut model, mut tokens): (Vec<Entry>, Vec<Token>) = Default::default();
        for (now, step) in steps.into_iter().enumerate() {
            let since_ms = now as i64;
            match step {
                Step::Register { name, life, secret, chance } => {
                    let before = model.iter().find(|entry| entry.life == life).map(|entry| entry.name.clone());
                    let expected = expected(&model, name, life, secret);
                    // The name that is expected, if the registry does not make one up.
                    let asked = name.map(str::to_owned).or(before);
                    let taken: Vec<String> = model.iter().map(|entry| entry.name.clone()).collect();
                    let applicant = Applicant {
                        name: name.map(|name| name.parse().unwrap()),
                        life,
                        addresses: vec!["unix:/x".into()],
                        accepts: Vec::new(),
                    };
                    // The policy has the name of its registration, which is known beforehand for all but default names.
                    let accepts = asked.clone().map(|name| vec![format!("of-{name}")]);
                    let applicant = Applicant { accepts: accepts.unwrap_or_default(), ..applicant };
                    let secret_bytes = secret.and_then(|secret| Secret::read(&[secret; 16]));
                    match registry.register(applicant, secret_bytes, since_ms, &mut || chance) {
                        Err(error) => prop_assert_eq!(Err(error.code()), expected),
                        Ok(Registered { token, node, replaced }) => {
                            prop_assert_eq!(Ok(replaced), expected);
                            prop_assert!(!tokens.contains(&token), "a token is used once");
                            let name = node.name.to_string();
                            match asked {
                                Some(asked) => prop_assert_eq!(&name, &asked),
                                None => {
                                    let digits = name.strip_prefix("node-").unwrap();
                                    prop_assert!(digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit()));
                                    prop_assert!(!taken.contains(&name), "a default name is free");
                                    let held = registry.nodes.get_mut(&name.parse::<Name>().unwrap()).unwrap();
                                    held.accepts = vec![format!("of-{name}")];
                                }
                            }
                            model.retain(|entry| Some(entry.token) != replaced);
                            model.push(Entry { token, name, life, secret, since_ms });
                            tokens.push(token);
                        }
                    }
                }
                Step::End(_) if tokens.is_empty() => {}
                Step::End(index) => {
                    let token = *index.get(&tokens);
                    let entry = model.iter().position(|entry| entry.token == token).map(|at| model.remove(at));
                    let ended = registry.remove(token);
                    prop_assert_eq!(ended.map(|node| node.life()), entry.map(|entry| entry.life));
                }
            }
            compare(&registry, &model, &tokens)?;
        }
    }
}
