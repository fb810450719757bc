//! The known name that someone most likely meant.

/// Names longer than this are no slip of the pen, and comparing them costs time.
const COMPARED_CHARS: usize = 64;

/// The candidates close to `name`, closest first.
///
/// Close is: at most a third of the letters differ (a swap counts once), or one of the two
/// begins with the other. Case and the choice between `-` and `_` never count.
pub(crate) fn near<'a>(name: &str, candidates: &[&'a str]) -> Vec<&'a str> {
    let name = plain(name);
    if name.is_empty() || name.len() > COMPARED_CHARS {
        return Vec::new();
    }
    let mut close: Vec<(usize, &str)> = candidates
        .iter()
        .filter_map(|candidate| {
            let plain = plain(candidate);
            let distance = strsim::damerau_levenshtein(&name, &plain);
            let prefix = name.len().min(plain.len()) >= 3
                && (name.starts_with(&plain) || plain.starts_with(&name));
            let allowed = (name.len().max(plain.len()) / 3).max(1);
            (distance <= allowed || prefix).then_some((distance, *candidate))
        })
        .collect();
    close.sort_by_key(|(distance, _)| *distance);
    close.into_iter().map(|(_, candidate)| candidate).collect()
}

/// The closest candidate, if any is close.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    near(name, candidates).into_iter().next()
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}
