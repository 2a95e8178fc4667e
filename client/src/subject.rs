//! The user that a token is for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// Returns the `sub` of a JWT, or none if the token is not one. The signature is not checked: that is
/// the server's part, and here the result only protects the user from sending under another name.
pub(crate) fn subject(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: Value,
    }

    let payload = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    match serde_json::from_slice::<Claims>(&json).ok()?.sub {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_user_of_a_token_is_its_sub() {
        assert_eq!(subject(&token(r#"{"sub":"u1","exp":1}"#)).as_deref(), Some("u1"));
        assert_eq!(subject(&token(r#"{"sub":42}"#)).as_deref(), Some("42"));
        assert_eq!(subject(&token(r#"{"sub":"\u00fc"}"#)).as_deref(), Some("ü"));
    }

    #[test]
    fn what_names_no_user_has_none() {
        let without =
            [token("{}"), token(r#"{"sub":null}"#), token("[]"), "t1".into(), String::new()];
        for token in without {
            assert_eq!(subject(&token), None, "{token}");
        }
    }
}
