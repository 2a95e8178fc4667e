//! `tidewater token`, as a program runs it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

const KEY: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"k1","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}]}"#;
const SECRET: &[u8] = b"secret-secret-secret-secret";

fn tidewater(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    command.current_dir(dir).env_clear().args(args).envs(environment.iter().copied());
    command.output().unwrap()
}

fn key_file() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.json"), KEY).unwrap();
    dir
}

/// Verifies a printed token and returns its claims.
fn claims(output: &Output, audience: &str) -> Map<String, Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = std::str::from_utf8(&output.stdout).unwrap().strip_suffix('\n').unwrap();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["sub", "exp", "aud"]);
    let key = DecodingKey::from_secret(SECRET);
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).unwrap();
    assert_eq!(decoded.header.kid.as_deref(), Some("k1"));
    decoded.claims
}

#[test]
fn a_token_carries_what_was_asked_for() {
    let dir = key_file();
    let args = [
        "token",
        "--user-id=u1",
        "--key=keys.json",
        "--claims={\"org_id\":\"acme\",\"level\":7}",
        "--audience=app",
        "--expires-in=10m",
    ];
    let claims = claims(&tidewater(dir.path(), &args, &[]), "app");
    assert_eq!(claims["sub"], "u1");
    assert_eq!(claims["aud"], "app");
    assert_eq!(claims["org_id"], "acme");
    assert_eq!(claims["level"], 7);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
}

#[test]
fn the_environment_gives_what_flags_do_not() {
    let dir = key_file();
    let environment = [
        ("TIDEWATER_USER_ID", "from-environment"),
        ("TIDEWATER_KEY", "keys.json"),
        ("TIDEWATER_AUDIENCE", "a,b"),
        ("TIDEWATER_EXPIRES_IN", "90s"),
    ];
    let from_environment = claims(&tidewater(dir.path(), &["token"], &environment), "b");
    assert_eq!(from_environment["sub"], "from-environment");
    assert_eq!(from_environment["aud"], serde_json::json!(["a", "b"]));
    let args = ["token", "--user-id", "flag", "--audience", "c"];
    let from_flags = claims(&tidewater(dir.path(), &args, &environment), "c");
    assert_eq!((&from_flags["sub"], &from_flags["aud"]), (&"flag".into(), &"c".into()));
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_to_do() {
    let dir = key_file();
    std::fs::write(dir.path().join("public.json"), r#"{"keys":[{"kty":"RSA","kid":"r"}]}"#)
        .unwrap();
    let check = |args: &[&str], words: &str| {
        let output = tidewater(dir.path(), args, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    };
    check(&["token"], "--user-id");
    check(&["token", "--user-id", "u"], "`tidewater dev` without --jwks makes one");
    check(&["token", "--user-id", "u", "--key", "none.json"], "cannot read 'none.json'");
    check(&["token", "--user-id", "u", "--key", "public.json"], "no symmetric key");
    check(&["token", "--user-id", "u", "--claims", "[1]"], "not a JSON object");
    check(&["token", "--user-id", "u", "--claims", r#"{"exp":1}"#], "'exp' is set by");
    check(&["token", "--user-id", "u", "--expires-in", "2d"], "at most a day");
    check(&["tokn"], "unrecognized subcommand");
}
