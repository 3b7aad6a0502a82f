//! Suggests names for misspelled ones.
//!
//! In: the name that was asked for, the names that exist. Out: up to three similar names, the most similar first.
//! Pure. Must not know: what has these names.

/// The least similarity, from 0 to 1, of a name that is suggested.
const LIKE: f64 = 0.6;

/// The most names suggested.
const MOST: usize = 3;

/// Returns the names most similar to `wanted`, the most similar first.
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

/// Returns `` : did you mean `a` or `b`? `` to append to a message, or an empty text if no name is similar.
pub fn suggestion<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(wanted, names);
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => format!(": did you mean {last}?"),
        Some((last, others)) => format!(": did you mean {} or {last}?", others.join(", ")),
    }
}

/// Returns whether two names differ by one typing error. Names that differ only in their digits do not count,
/// because such names are different on purpose.
pub fn is_slip(wanted: &str, name: &str) -> bool {
    let letters = |name: &str| name.replace(|c: char| c.is_ascii_digit(), "");
    strsim::osa_distance(wanted, name) == 1 && letters(wanted) != letters(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_similar_names() {
        assert_eq!(suggestion("mth", ["maths", "math"]), ": did you mean `math` or `maths`?");
        assert_eq!(suggestion("xyz", ["math"]), "");
        assert!(is_slip("fra", "far") && is_slip("kichen", "kitchen"));
        assert!(!is_slip("node-8398", "node-8399") && !is_slip("far", "far") && !is_slip("hall", "kitchen"));
        assert_eq!(nearest("node-1", ["node-2", "node-1x", "zzz"])[0], "node-1x");
    }
}
