//! Conversion between numbers and text, with the rules of SQLite and JavaScript.

/// Value that is NULL or a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Null,
    Integer(i64),
    Real(f64),
}

impl Number {
    pub(crate) fn to_f64(self) -> Option<f64> {
        match self {
            Self::Null => None,
            Self::Integer(integer) => Some(to_f64(integer)),
            Self::Real(real) => Some(real),
        }
    }
}

/// Converts a whole real to an integer, saturating at the ends of the range.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
pub(crate) fn saturating_i64(whole: f64) -> i64 {
    whole as i64
}

/// Converts an integer to the nearest real.
#[expect(clippy::cast_precision_loss, reason = "SQLite rounds too")]
pub(crate) fn to_f64(integer: i64) -> f64 {
    integer as f64
}

/// Returns the integer that is equal to the real, if any.
pub(crate) fn exact_i64(real: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    let fits = real.trunc() == real && (-LIMIT..LIMIT).contains(&real);
    fits.then(|| saturating_i64(real))
}

/// Writes a real as JSON: as JavaScript prints it, but a whole one with `.0`, so that it is read as
/// a real again. Infinities are `9e999`, which SQLite reads as such; NaN is null.
pub(crate) fn push_real_json(real: f64, out: &mut String) {
    if real.is_nan() {
        out.push_str("null");
    } else if real.is_infinite() {
        out.push_str(if real > 0.0 { "9e999" } else { "-9e999" });
    } else {
        push_finite(real, out);
    }
}

/// Writes a real as SQLite's text: like [`push_real_json`], with `Inf` for infinity.
pub(crate) fn push_real_text(real: f64, out: &mut String) {
    if real.is_infinite() {
        out.push_str(if real > 0.0 { "Inf" } else { "-Inf" });
    } else {
        push_finite(real, out);
    }
}

/// Writes a real as JavaScript prints it. A whole one has no fraction.
pub(crate) fn push_real_javascript(real: f64, out: &mut String) {
    out.push_str(ryu_js::Buffer::new().format(real));
}

fn push_finite(real: f64, out: &mut String) {
    let mut buffer = ryu_js::Buffer::new();
    let text = buffer.format_finite(real);
    out.push_str(text);
    if !text.contains(['.', 'e']) {
        out.push_str(".0");
    }
}

pub(crate) fn push_integer(integer: i64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(integer));
}

const SPACES: [char; 6] = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];

fn skip_space(text: &str) -> &str {
    text.trim_start_matches(SPACES)
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn sign(bytes: &[u8]) -> usize {
    usize::from(matches!(bytes.first(), Some(b'+' | b'-')))
}

/// Returns two lengths of the longest numeric prefix: of its sign and integer part, and of all.
fn prefix(text: &str) -> (usize, usize) {
    let bytes = text.as_bytes();
    let sign_len = sign(bytes);
    let whole = digits(&bytes[sign_len..]);
    let mut end = sign_len + whole;

    let mut fraction = 0;
    if bytes.get(end) == Some(&b'.') {
        fraction = digits(&bytes[end + 1..]);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }

    if whole + fraction == 0 {
        return (0, 0);
    }

    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let exponent_sign = sign(&bytes[end + 1..]);
        let exponent = digits(&bytes[end + 1 + exponent_sign..]);
        if exponent > 0 {
            end += 1 + exponent_sign + exponent;
        }
    }

    (sign_len + whole, end)
}

/// Converts a text for arithmetic: to its longest numeric prefix, or 0.
pub(crate) fn numeric_prefix(text: &str) -> Number {
    let text = skip_space(text);
    let (whole, all) = prefix(text);
    if all == 0 {
        return Number::Integer(0);
    }
    if whole == all
        && let Ok(integer) = text[..all].parse()
    {
        return Number::Integer(integer);
    }
    Number::Real(parse_real(&text[..all]))
}

/// Parses a text that is a number, apart from spaces around it.
pub(crate) fn whole_text(text: &str) -> Option<Number> {
    let text = skip_space(text).trim_end_matches(SPACES);
    let (_, all) = prefix(text);
    (all == text.len() && all > 0).then(|| numeric_prefix(text))
}

/// Converts a text as `CAST(.. AS INTEGER)` does.
pub(crate) fn integer_prefix(text: &str) -> i64 {
    let text = skip_space(text);
    let bytes = text.as_bytes();
    let end = sign(bytes) + digits(&bytes[sign(bytes)..]);
    match text[..end].parse() {
        Ok(integer) => integer,
        Err(_) if end <= sign(bytes) => 0,
        Err(_) if bytes[0] == b'-' => i64::MIN,
        Err(_) => i64::MAX,
    }
}

/// Converts a text as `CAST(.. AS REAL)` does.
pub(crate) fn real_prefix(text: &str) -> f64 {
    let text = skip_space(text);
    let (_, all) = prefix(text);
    parse_real(&text[..all])
}

fn parse_real(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}
