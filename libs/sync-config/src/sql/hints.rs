//! Hints: what to write instead of unsupported syntax.

/// Hints by the unsupported words or operators, in upper case.
const HINTS: [(&[&str], &str); 21] = [
    (
        &[
            "GROUP",
            "HAVING",
            "WINDOW",
            "QUALIFY",
            "CLUSTER",
            "DISTRIBUTE",
            "SORT",
            "CONNECT",
            "START",
        ],
        "rows are synced as they are: aggregate on the device, or keep the result in a table",
    ),
    (
        &["ORDER", "LIMIT", "OFFSET", "FETCH", "TOP"],
        "all rows for which the condition holds are synced: order and limit them on the device",
    ),
    (&["FOR", "INTO"], "a sync query only reads: remove it"),
    (&["DISTINCT"], "a bucket holds each row once: remove it"),
    (
        &["SIMILAR", "~", "~*", "!~", "!~*", "REGEXP", "RLIKE"],
        "write `LIKE` with a pattern in quotes",
    ),
    (&["COLLATE"], "texts are compared byte by byte: remove it"),
    (&["ANY", "SOME"], "write `x IN <array>`"),
    (&["ALL"], "write a comparison with each value, joined by AND"),
    (
        &["INTERVAL"],
        "dates and times are texts here: compare with a text, as in `at >= '2026-01-31'`",
    ),
    (&["AT"], "a `timestamptz` is a text in UTC here: convert it on the device"),
    (&["EXTRACT"], "dates and times are texts here: take a part, as in `substring(at, 1, 4)`"),
    (&["UNKNOWN"], "write `IS NULL`"),
    (&["POSITION"], "write `instr(text, part)`"),
    (&["CEIL", "FLOOR"], "`CAST(x AS integer)` rounds down, `round(x)` to the nearest"),
    (&["ARRAY"], "write an array as JSON text, as in `'[1, 2]'`, or after `IN` as `ARRAY[1, 2]`"),
    (&["@>", "<@", "?|", "?&"], "write `x IN <array>`, or `a && b` for arrays that share a value"),
    (&["#>", "#>>"], "write `j -> '$.a.b'` or `j ->> '$.a.b'`"),
    (&["^", "**"], "there is no operator for powers"),
    (&["#", "XOR"], "write `(a AND NOT b) OR (b AND NOT a)`"),
    (&["DIV"], "`/` divides integers to integers"),
    (&["LATERAL", "PREWHERE", "EXCLUDE"], "write a `JOIN`, or a condition"),
];

/// Returns the hint for a word or operator, if there is one.
pub(super) fn instead_of(word: &str) -> Option<&'static str> {
    HINTS
        .iter()
        .find(|(words, _)| words.iter().any(|known| known.eq_ignore_ascii_case(word)))
        .map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_hinted_at_once() {
        let words: Vec<&str> = HINTS.iter().flat_map(|(words, _)| *words).copied().collect();
        for word in &words {
            assert_eq!(words.iter().filter(|other| *other == word).count(), 1, "{word}");
        }
        assert!(instead_of("order").is_some() && instead_of("SELECT").is_none());
    }
}
