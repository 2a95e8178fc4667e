//! SQL tokens, and random changes to them.

use super::Choices;

/// Tokens of the language, and of SQL that it does not have.
const DICTIONARY: &str = "
    SELECT FROM WHERE AND OR NOT IN EXISTS WITH AS JOIN INNER LEFT OUTER CROSS RIGHT FULL
    NATURAL ON USING LATERAL IS NULL TRUE FALSE DISTINCT BETWEEN LIKE ILIKE ESCAPE CASE WHEN
    THEN ELSE END CAST ARRAY ROW ANY ALL UNION EXCEPT INTERSECT ORDER GROUP BY HAVING LIMIT
    OFFSET VALUES RECURSIVE INTERVAL COLLATE AT text integer real numeric blob boolean = != <> <
    <= > >= + - * / % & | << >> || && -> ->> :: ~ #>> @> ( ) [ ] { } , . ; : ? $1 $$ @ # \\ ` '
    \" -- /* */ '' 'x' '%' \"id\" id value 0 1 -1 1.5 1e400 9223372036854775808 0x1F
    auth.user_id() auth.parameter('t') auth.parameters() connection.parameter('n')
    subscription.parameter('ts') request.jwt() bucket.a token_parameters.a upper( lower( length(
    hex( base64( typeof( ifnull( iif( instr( substring( json_extract( json_array_length(
    json_keys( json_each( unixepoch( datetime( uuid_blob( st_x( coalesce( nullif( round( trim(
    replace( é \u{202e}
";

/// Numbers of changes to one text. Most often it is one.
const CHANGES: [usize; 6] = [1, 1, 1, 1, 2, 4];
/// Maximum length of a run of tokens that is duplicated or deleted.
const RUN_MAX: usize = 12;

/// Splits SQL into tokens. Spaces are tokens, so the concatenation is the input.
pub(in crate::tests) fn tokens(sql: &str) -> Vec<String> {
    let mut tokens = Vec::new();

    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = if first == '\'' || first == '"' {
            rest[1..].find(first).map_or(rest.len(), |end| end + 2)
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if first == ' ' {
            1
        } else {
            let operators = ["->>", "->", "||", "&&", "<=", ">=", "!=", "<>", "<<", ">>", "::"];
            operators
                .iter()
                .find(|token| rest.starts_with(**token))
                .map_or(first.len_utf8(), |token| token.len())
        };

        tokens.push(rest[..length].to_owned());
        rest = &rest[length..];
    }

    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Removes, duplicates, swaps, replaces or inserts some tokens.
pub(in crate::tests) fn mutated(sql: &str, choices: &mut Choices<'_>) -> String {
    let dictionary: Vec<&str> = DICTIONARY.split_whitespace().collect();

    let mut tokens = tokens(sql);
    for _ in 0..choices.pick(&CHANGES) {
        let places: Vec<usize> = (0..tokens.len()).filter(|place| tokens[*place] != " ").collect();
        if places.is_empty() {
            break;
        }

        let place = choices.pick(&places);
        let other = choices.pick(&places);

        match choices.below(8) {
            0 => {
                tokens.remove(place);
            }
            1 => {
                let end = (place + 1 + choices.below(RUN_MAX)).min(tokens.len());
                let run = tokens[place..end].to_vec();
                tokens.splice(end..end, run);
            }
            2 => tokens.swap(place, other),
            3 => tokens[place] = tokens[other].clone(),
            4 => {
                let end = (place + 1 + choices.below(RUN_MAX)).min(tokens.len());
                tokens.drain(place..end);
            }
            5 => tokens.insert(place, format!(" {} ", choices.pick(&dictionary))),
            _ => tokens[place] = format!(" {} ", choices.pick(&dictionary)),
        }
    }

    tokens.concat()
}
