//! `tidewater token`.

use std::process::Output;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use crate::program::{Program, stderr};

const KEY: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"k1","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}]}"#;
const SECRET: &[u8] = b"secret-secret-secret-secret";

fn with_key() -> Program {
    Program::with_file("keys.json", KEY)
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
fn a_token_has_the_claims_of_the_flags() {
    let program = with_key();

    let args = [
        "token",
        "--user-id=u1",
        "--key=keys.json",
        "--claims={\"org_id\":\"acme\",\"level\":7}",
        "--audience=app",
        "--expires-in=10m",
    ];

    let claims = claims(&program.run(&args), "app");
    assert_eq!(claims["sub"], "u1");
    assert_eq!(claims["aud"], "app");
    assert_eq!(claims["org_id"], "acme");
    assert_eq!(claims["level"], 7);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
}

#[test]
fn the_environment_is_used_where_a_flag_is_missing() {
    let program = with_key();
    let environment = [
        ("TIDEWATER_USER_ID", "from-environment"),
        ("TIDEWATER_KEY", "keys.json"),
        ("TIDEWATER_AUDIENCE", "a,b"),
        ("TIDEWATER_EXPIRES_IN", "90s"),
    ];
    let from_environment = claims(&program.run_with(&["token"], &environment), "b");
    assert_eq!(from_environment["sub"], "from-environment");
    assert_eq!(from_environment["aud"], serde_json::json!(["a", "b"]));
    let args = ["token", "--user-id", "flag", "--audience", "c"];
    let from_flags = claims(&program.run_with(&args, &environment), "c");
    assert_eq!((&from_flags["sub"], &from_flags["aud"]), (&"flag".into(), &"c".into()));
}

#[test]
fn wrong_usage_exits_with_code_2_and_advice() {
    let program = with_key();
    program.write("public.json", r#"{"keys":[{"kty":"RSA","kid":"r"}]}"#);

    for (args, words) in [
        (&["token"][..], "--user-id"),
        (&["token", "--user-id", "u"], "`tidewater dev` without --jwks creates one"),
        (&["token", "--user-id", "u", "--key", "none.json"], "cannot read 'none.json'"),
        (&["token", "--user-id", "u", "--key", "public.json"], "no symmetric key"),
        (&["token", "--user-id", "u", "--claims", "[1]"], "not a JSON object"),
        (&["token", "--user-id", "u", "--claims", r#"{"exp":1}"#], "'exp' is set by"),
        (&["token", "--user-id", "u", "--expires-in", "2d"], "at most a day"),
        (&["tokn"], "unrecognized subcommand"),
    ] {
        let output = program.run(args);
        let stderr = stderr(&output, 2);
        assert!(stderr.contains(words), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
