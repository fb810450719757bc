//! Finds the known name that a misspelt one most likely means.

/// The maximum length of a name that is compared. A longer one is not a typo, and comparing it is slow.
const COMPARED_CHARS: usize = 64;

/// Returns the candidates that are close to `name`, closest first.
///
/// A candidate is close if at most a third of the letters differ (a swap counts once), or if one of the two
/// names begins with the other. Case and the difference between `-` and `_` are ignored.
pub fn close_matches<'a>(name: &str, candidates: &[&'a str]) -> Vec<&'a str> {
    let name = normalised(name);
    if name.is_empty() || name.len() > COMPARED_CHARS {
        return Vec::new();
    }
    let mut close: Vec<(usize, &str)> = candidates
        .iter()
        .filter_map(|candidate| {
            let other = normalised(candidate);
            let distance = strsim::damerau_levenshtein(&name, &other);
            let prefix = name.len().min(other.len()) >= 3
                && (name.starts_with(&other) || other.starts_with(&name));
            let allowed = (name.len().max(other.len()) / 3).max(1);
            (distance <= allowed || prefix).then_some((distance, *candidate))
        })
        .collect();
    close.sort_by_key(|(distance, _)| *distance);
    close.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Returns the closest candidate, if any is close.
pub fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    close_matches(name, candidates).into_iter().next()
}

fn normalised(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}
