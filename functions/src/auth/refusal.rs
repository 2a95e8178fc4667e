//! Refused tokens, as operators see them: one log line and one count each.

use std::sync::{Mutex, PoisonError};

use metrics::counter;
use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};

use super::error::{AuthError, RefusalReason};
use super::token::Token;
use crate::metrics::TOKENS_REFUSED;

/// The longest text of a token in a log line, in characters. Whoever made the token chose the text;
/// names of keys, issuers and audiences are shorter.
const LOGGED_CHARS_MAX: usize = 120;

/// Number of refused tokens that are logged in one minute. Requests without a valid token cost their
/// sender nothing, so their lines must not fill a disk: ten lines a second are some 250 MB a day.
const LOGGED_PER_MINUTE_MAX: u32 = 600;

/// A refused token, with what it says of itself. Nothing of that is verified.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(super) reason: RefusalReason,
    kid: Option<String>,
    issuer: Option<String>,
    audience: Option<String>,
}

/// The claims that are logged.
#[derive(Default, Deserialize)]
struct NamedParties {
    iss: Option<Value>,
    aud: Option<Value>,
}

impl Refusal {
    /// Creates the refusal of a request without a readable token.
    pub(super) fn unread(reason: RefusalReason) -> Self {
        Self { reason, kid: None, issuer: None, audience: None }
    }

    /// Creates the refusal of a token.
    pub(super) fn of(token: &Token<'_>, reason: RefusalReason) -> Self {
        let payload = token.payload().unwrap_or_default();
        let parties: NamedParties = serde_json::from_slice(&payload).unwrap_or_default();
        Self {
            reason,
            kid: token.kid.as_deref().map(shortened),
            issuer: parties.iss.as_ref().and_then(listed),
            audience: parties.aud.as_ref().and_then(listed),
        }
    }

    /// Returns what the reply tells.
    pub(crate) fn error(&self) -> AuthError {
        self.reason.error()
    }
}

/// Returns the texts of a claim that is a text or a list of texts. Other values are not logged.
fn listed(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(shortened(text)),
        Value::Array(items) => {
            let texts = items.iter().filter_map(Value::as_str).map(shortened);
            // A few suffice to see for whom the token is.
            Some(shortened(&texts.take(5).collect::<Vec<_>>().join(",")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(LOGGED_CHARS_MAX).collect()
}

/// Records refused tokens.
#[derive(Default)]
pub(super) struct RefusalLog {
    minute: Mutex<LoggedMinute>,
}

/// The lines of the current minute.
#[derive(Default)]
struct LoggedMinute {
    /// Minutes since 1970.
    number: i64,
    logged: u32,
    left_out: u32,
}

impl RefusalLog {
    /// Counts a refusal at `now`, in seconds since 1970, and logs it unless many were logged in this
    /// minute. Texts of the token are logged with escapes, so that none can look like another line.
    pub(super) fn record(&self, refusal: &Refusal, now: i64) {
        let (code, reason) = (refusal.error().code(), refusal.reason.name());
        counter!(TOKENS_REFUSED, "code" => code, "reason" => reason).increment(1);

        if self.may_log(now) {
            info!(
                code,
                reason,
                claim = refusal.reason.claim(),
                kid = refusal.kid.as_deref(),
                iss = refusal.issuer.as_deref(),
                aud = refusal.audience.as_deref(),
                "token refused"
            );
        }
    }

    fn may_log(&self, now: i64) -> bool {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.div_euclid(60);
        if minute.number != number {
            if minute.left_out > 0 {
                warn!(tokens = minute.left_out, "more tokens were refused than are logged");
            }
            *minute = LoggedMinute { number, ..LoggedMinute::default() };
        }

        if minute.logged < LOGGED_PER_MINUTE_MAX {
            minute.logged += 1;
            return true;
        }
        minute.left_out = minute.left_out.saturating_add(1);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refused_tokens_is_logged_in_part() {
        let log = RefusalLog::default();
        let logged = |now| (0..10_000).filter(|_| log.may_log(now)).count();
        assert_eq!(logged(1_800_000_000), 600);
        assert_eq!(logged(1_800_000_059), 0);
        assert_eq!(logged(1_800_000_060), 600, "again in each minute");
        assert_eq!(logged(1_700_000_000), 600, "a clock that was set back");
    }

    #[test]
    fn what_a_token_says_of_itself_is_shortened() {
        let long = Value::from(vec!["x".repeat(5_000); 1_000]);
        assert_eq!(listed(&long).unwrap().len(), LOGGED_CHARS_MAX);
        assert_eq!(listed(&Value::from(vec!["one", "two"])).unwrap(), "one,two");
        assert_eq!(listed(&Value::from(5)), None);
    }
}
