//! Wrong usage of the commands, and the advice that they give.

use crate::program::{Program, VALID_CONFIG, stderr};

/// Nothing listens on port 1.
const NO_DATABASE: &str = "postgres://u:p@127.0.0.1:1/app?sslmode=disable";
const KEY: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"k","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM"}]}"#;

fn program() -> Program {
    let program = Program::with_file("sync-config.yaml", VALID_CONFIG);
    program.write("keys.json", KEY);
    program
}

fn check(program: &Program, args: &[&str], code: i32, words: &str) {
    check_with(program, args, &[], code, words);
}

fn check_with(
    program: &Program,
    args: &[&str],
    environment: &[(&str, &str)],
    code: i32,
    words: &str,
) {
    let stderr = stderr(&program.run_with(args, environment), code);
    assert!(stderr.contains(words), "{args:?}: {stderr}");
}

#[test]
fn keys_without_an_audience_are_refused() {
    let program = program();
    let dev = ["dev", "--sync-config=sync-config.yaml", "--database-url", NO_DATABASE];
    let with_keys = [&dev[..], &["--jwks=keys.json"]].concat();
    check(&program, &with_keys, 2, "--jwks needs --audience");
    check_with(&program, &dev, &[("TIDEWATER_JWKS", "keys.json")], 2, "--jwks needs --audience");
    check(&program, &["serve", "--jwks=keys.json"], 2, "--jwks needs --audience");
    check(&program, &["serve", "--audience=a"], 2, "--jwks is missing");
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let program = program();
    program.write("broken.json", "{\"keys\":7}");

    for (jwks, words) in [
        ("none.json", "cannot read the JWK Set 'none.json'"),
        ("broken.json", "--jwks cannot be used"),
        ("http://example.com/jwks.json", "use https"),
        ("ftp://example.com/jwks.json", "must begin with https://"),
    ] {
        check(&program, &["serve", "--audience=a", "--jwks", jwks], 2, words);
    }
    check(&program, &["serve", "--issuer=a"], 2, "--issuer needs --jwks");
}

#[test]
fn missing_flags_are_named() {
    let program = program();
    check(&program, &["dev"], 2, "--database-url");
    check(&program, &["dev", "--database-url", NO_DATABASE], 2, "--sync-config");
    let args = ["dev", "--sync-config=none.yaml", "--database-url", NO_DATABASE];
    check(&program, &args, 2, "cannot read the sync config 'none.yaml'");
    let aws = ["serve", "--store=aws", "--jwks", "keys.json", "--audience", "app"];
    check(&program, &aws, 2, "--store aws needs --bucket");
    check(&program, &["compact", "--store=aws:x"], 2, "expected embedded:DIR");
    check(&program, &["serve", "--store=tape:x"], 2, "expected embedded:DIR");
}

#[test]
fn a_config_that_does_not_compile_prevents_the_start() {
    let program = program();
    let wrong = VALID_CONFIG.replace("SELECT *", "SELEC *");
    program.write("sync-config.yaml", &wrong);
    let args = ["dev", "--sync-config=sync-config.yaml", "--database-url", NO_DATABASE];
    check(&program, &args, 2, "sync-config.yaml:5:");
    let environment = [
        ("TIDEWATER_SYNC_CONFIG", "sync-config.yaml"),
        ("TIDEWATER_DATABASE_URL", NO_DATABASE),
        ("TIDEWATER_STORE", "embedded:store"),
    ];
    check_with(&program, &["ingest"], &environment, 2, "sync-config.yaml:5:");
}

#[test]
fn a_malformed_database_url_is_wrong_usage() {
    let program = program();
    for (url, code, words) in [
        ("postgres://u@h/app?sslmode=prefer", 2, "sslmode=prefer is not supported"),
        (NO_DATABASE, 1, "cannot connect to PostgreSQL at 127.0.0.1:1"),
    ] {
        let args = ["dev", "--listen=127.0.0.1:0", "--sync-config=sync-config.yaml"];
        let args = [&args[..], &["--database-url", url]].concat();
        check(&program, &args, code, words);
    }
}

/// The flags are checked before the database is read.
#[test]
fn the_user_and_the_streams_of_rows_are_checked() {
    let program = program();
    let rows = ["rows", "sync-config.yaml", "--database-url", NO_DATABASE];
    for more in [&[][..], &["--user-id="]] {
        check(&program, &[&rows, more].concat(), 2, "--user-id");
    }

    for (flag, value, code, words) in [
        ("--claims", r#"{"sub":"u2"}"#, 2, "'sub' is set by --user-id"),
        ("--claims", r#"{"parameters":7}"#, 2, "'parameters' are no object"),
        ("--parameters", "[]", 2, "not a JSON object"),
        ("--stream", "todos={", 2, "not a JSON object"),
        ("--stream", "todo", 2, "the sync config has no stream 'todo'"),
        ("--stream", "todos", 1, "cannot connect to PostgreSQL at 127.0.0.1:1"),
    ] {
        let args = [&rows[..], &["--user-id=u1", flag, value]].concat();
        check(&program, &args, code, words);
    }

    let url = ["rows", "sync-config.yaml", "--user-id=u1", "--database-url=host=h"];
    check(&program, &url, 2, "--database-url cannot be used");
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let program = program();
    std::fs::create_dir(program.dir().join(".tidewater")).unwrap();
    let lock = std::fs::File::create(program.dir().join(".tidewater/lock")).unwrap();
    lock.lock().unwrap();
    let args = ["dev", "--sync-config=sync-config.yaml", "--database-url", NO_DATABASE];
    check(&program, &args, 1, "in use by another tidewater process");
    check(&program, &[&["ingest"], &args[1..]].concat(), 1, "in use by another");
}

#[test]
fn help_lists_exactly_the_commands_that_exist() {
    let program = program();
    let help = program.run(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for exists in [
        "demo", "dev", "validate", "check", "schema", "explain", "plan", "rows", "token", "ingest",
        "serve", "status", "top", "why", "verify",
    ] {
        assert!(help.contains(&format!("\n  {exists} ")), "{exists}: {help}");
    }
    for planned in ["doctor", "deploy"] {
        assert!(!help.contains(&format!("\n  {planned} ")), "{planned}: {help}");
        check(&program, &[planned], 2, "unrecognized subcommand");
    }
}
