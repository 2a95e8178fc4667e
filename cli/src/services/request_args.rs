//! The request of a client, as flags: user, claims, parameters and subscriptions.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use tidewater_protocol::StreamSubscription;
use tidewater_sync_config::Request;

/// The flags that describe a client's request.
#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// User id: the token's `sub`, and `auth.user_id()` in the sync config
    #[arg(long, env = "TIDEWATER_USER_ID", value_name = "U", visible_alias = "user",
          value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user_id: String,
    /// Further claims of the token, as a JSON object
    #[arg(long, env = "TIDEWATER_CLAIMS", value_name = "JSON", value_parser = parse_claims)]
    pub(crate) claims: Option<Map<String, Value>>,
    /// Connection parameters of the app, for `connection.parameter(...)`, as a JSON object
    #[arg(long, env = "TIDEWATER_PARAMETERS", value_name = "JSON", value_parser = parse_object)]
    pub(crate) parameters: Option<Map<String, Value>>,
    /// Stream that the app subscribes to, with its parameters as a JSON object. Repeatable as a flag
    #[arg(long = "stream", env = "TIDEWATER_STREAM", value_name = "NAME[=JSON]",
          value_parser = parse_stream)]
    pub(crate) streams: Vec<StreamSubscription>,
}

impl RequestArgs {
    /// Returns all claims of the token.
    pub(crate) fn claims(&self) -> Map<String, Value> {
        let mut claims = self.claims.clone().unwrap_or_default();
        claims.insert("sub".to_owned(), json!(self.user_id));
        claims
    }

    /// Returns the request with these claims.
    pub(crate) fn request<'a>(&'a self, claims: &'a Map<String, Value>) -> Request<'a> {
        Request {
            user_id: &self.user_id,
            claims,
            parameters: self.parameters.as_ref(),
            include_defaults: true,
            subscriptions: &self.streams,
        }
    }
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// Parses the claims of a token besides the user id.
fn parse_claims(text: &str) -> Result<Map<String, Value>, String> {
    let claims = parse_object(text)?;
    if claims.contains_key("sub") {
        return Err("'sub' is set by --user-id".to_owned());
    }
    if claims.get("parameters").is_some_and(|parameters| !parameters.is_object()) {
        return Err("the sync API refuses a token whose 'parameters' are no object".to_owned());
    }
    Ok(claims)
}

fn parse_stream(text: &str) -> Result<StreamSubscription, String> {
    // The name of a stream contains no equals sign.
    let (name, parameters) = match text.split_once('=') {
        Some((name, parameters)) => (name, Some(parse_object(parameters)?)),
        None => (text, None),
    };
    Ok(StreamSubscription { stream: name.to_owned(), parameters, override_priority: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_parsed_with_and_without_parameters() {
        let bare = parse_stream("a.b-c").unwrap();
        assert_eq!((bare.stream.as_str(), bare.parameters), ("a.b-c", None));
        let given = parse_stream(r#"p={"x": "a=b"}"#).unwrap();
        assert_eq!(given.stream, "p");
        assert_eq!(json!(given.parameters), json!({"x": "a=b"}));
        assert_eq!(json!(parse_stream("p={}").unwrap().parameters), json!({}));
        for bad in ["p=", "p=7", "p=[]", "p={"] {
            assert!(parse_stream(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn claims_that_no_token_can_hold_are_refused() {
        assert!(parse_claims(r#"{"org": 1, "parameters": {"a": 1}}"#).is_ok());
        for bad in [r#"{"sub": "u2"}"#, r#"{"parameters": 1}"#, "[]", ""] {
            assert!(parse_claims(bad).is_err(), "{bad}");
        }
    }
}
