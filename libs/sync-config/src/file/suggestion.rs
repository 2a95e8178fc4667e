//! Suggestions for misspelt names.

/// Returns the candidate that is most similar to a misspelt name, if one is similar enough.
pub(crate) fn closest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // PostgreSQL truncates names to 63 bytes. The limit bounds the work of `distance`.
    const CHARS_MAX: usize = 64;

    let lower: Vec<char> = name.to_lowercase().chars().take(CHARS_MAX).collect();
    let allowed = (lower.len() / 3).clamp(1, 3);

    candidates
        .map(|candidate| {
            let other: Vec<char> = candidate.to_lowercase().chars().take(CHARS_MAX).collect();
            (distance(&lower, &other), candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the Levenshtein distance: the number of edits from one text to the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
