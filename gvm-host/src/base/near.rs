//! Names that are nearly right.
//!
//! In: what was asked for and what there is. Out: a few of the latter, nearest first. Must not
//! know: what the names are of.

/// How like two names are at least, of 1, to be worth a suggestion.
const LIKE: f64 = 0.6;

/// The most suggestions made.
const MOST: usize = 3;

/// The names nearest to `wanted`, nearest first.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(like, _)| *like >= LIKE)
        .collect();
    near.sort_by(|(left, a), (right, b)| right.total_cmp(left).then(a.cmp(b)));
    near.truncate(MOST);
    near.into_iter().map(|(_, name)| name).collect()
}

/// `: did you mean `a` or `b`?`, or nothing where nothing is near.
pub fn suggestion<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(wanted, names);
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => format!(": did you mean {last}?"),
        Some((last, others)) => format!(": did you mean {} or {last}?", others.join(", ")),
    }
}

/// Whether one name is the other with one slip of the fingers. Names that differ in a number alone are not:
/// they are meant to be told apart.
pub fn is_slip(wanted: &str, name: &str) -> bool {
    let letters = |name: &str| name.replace(|c: char| c.is_ascii_digit(), "");
    strsim::osa_distance(wanted, name) == 1 && letters(wanted) != letters(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near() {
        assert_eq!(suggestion("mth", ["maths", "math"]), ": did you mean `math` or `maths`?");
        assert_eq!(suggestion("xyz", ["math"]), "");
        assert!(is_slip("fra", "far") && is_slip("kichen", "kitchen"));
        assert!(!is_slip("node-8398", "node-8399") && !is_slip("far", "far") && !is_slip("hall", "kitchen"));
        assert_eq!(nearest("node-1", ["node-2", "node-1x", "zzz"])[0], "node-1x");
    }
}
