//! "Did you mean …?"

/// The known word nearest to `word`, unless none is near: at most one edit in three characters.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Longer words are not typos, and comparing them would take time with the product of the lengths.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_ascii_lowercase().replace('_', "-");
    known
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(&lower, &candidate.replace('_', "-")), candidate))
        .filter(|&(distance, candidate)| distance <= candidate.len().max(word.len()).div_ceil(3).min(3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_their_word() {
        let keys = ["vip", "ports", "protocol", "mode", "scheduler", "max_connections"];
        assert_eq!(nearest("schedular", &keys), Some("scheduler"));
        assert_eq!(nearest("Port", &keys), Some("ports"));
        assert_eq!(nearest("max-connections", &keys), Some("max_connections"));
        assert_eq!(nearest("vpi", &keys), Some("vip"));
    }

    #[test]
    fn strangers_find_nothing() {
        assert_eq!(nearest("colour", &["vip", "ports"]), None);
        assert_eq!(nearest("", &["vip"]), None);
        assert_eq!(nearest(&"x".repeat(100_000), &["vip"]), None);
    }
}
