//! What the commands refuse, and how.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};

/// Nothing listens on port 1.
const NO_DATABASE: &str = "postgres://u:p@127.0.0.1:1/app?sslmode=disable";
const CONFIG: &str = "\
config:
  edition: 3
streams:
  todos:
    query: SELECT * FROM todos WHERE owner_id = auth.user_id()
";

fn tidewater(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    command.current_dir(dir).env_clear().args(args).envs(environment.iter().copied());
    command.output().unwrap()
}

fn work_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sync-config.yaml"), CONFIG).unwrap();
    let key = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"k","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM"}]}"#;
    std::fs::write(dir.path().join("keys.json"), key).unwrap();
    dir
}

fn check(dir: &Path, args: &[&str], code: i32, words: &str) {
    check_with(dir, args, &[], code, words);
}

fn check_with(dir: &Path, args: &[&str], environment: &[(&str, &str)], code: i32, words: &str) {
    let output = tidewater(dir, args, environment);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(words), "{args:?}: {stderr}");
}

#[test]
fn keys_without_an_audience_are_refused() {
    let dir = work_dir();
    let dev = ["dev", "--sync-config=sync-config.yaml", "--database-url", NO_DATABASE];
    let with_keys = [&dev[..], &["--jwks=keys.json"]].concat();
    check(dir.path(), &with_keys, 2, "--jwks needs --audience");
    check_with(dir.path(), &dev, &[("TIDEWATER_JWKS", "keys.json")], 2, "--jwks needs --audience");
    check(dir.path(), &["serve", "--jwks=keys.json"], 2, "--jwks needs --audience");
    check(dir.path(), &["serve", "--audience=a"], 2, "--jwks is missing");
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let dir = work_dir();
    std::fs::write(dir.path().join("broken.json"), "{\"keys\":7}").unwrap();
    let serve = |jwks: &str, words: &str| {
        check(dir.path(), &["serve", "--audience=a", "--jwks", jwks], 2, words);
    };
    serve("none.json", "cannot read the JWK Set 'none.json'");
    serve("broken.json", "--jwks cannot be used");
    serve("http://example.com/jwks.json", "use https");
    serve("ftp://example.com/jwks.json", "must begin with https://");
    check(dir.path(), &["serve", "--issuer=a"], 2, "--issuer needs --jwks");
}

#[test]
fn what_is_missing_is_named() {
    let dir = work_dir();
    check(dir.path(), &["dev"], 2, "--database-url");
    check(dir.path(), &["dev", "--database-url", NO_DATABASE], 2, "--sync-config");
    let args = ["dev", "--sync-config=none.yaml", "--database-url", NO_DATABASE];
    check(dir.path(), &args, 2, "cannot read the sync config 'none.yaml'");
    let aws = ["serve", "--store=aws", "--jwks", "jwks.json", "--audience", "app"];
    std::fs::write(
        dir.path().join("jwks.json"),
        r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"k1","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}]}"#,
    )
    .unwrap();
    check(dir.path(), &aws, 2, "--store aws needs --bucket");
    check(dir.path(), &["compact", "--store=aws:x"], 2, "expected embedded:DIR");
    check(dir.path(), &["serve", "--store=tape:x"], 2, "expected embedded:DIR");
}

#[test]
fn a_config_that_does_not_compile_stops_the_start() {
    let dir = work_dir();
    let wrong = CONFIG.replace("SELECT *", "SELEC *");
    std::fs::write(dir.path().join("sync-config.yaml"), wrong).unwrap();
    let args = ["dev", "--sync-config=sync-config.yaml", "--database-url", NO_DATABASE];
    check(dir.path(), &args, 2, "sync-config.yaml:5:");
    let environment = [
        ("TIDEWATER_SYNC_CONFIG", "sync-config.yaml"),
        ("TIDEWATER_DATABASE_URL", NO_DATABASE),
        ("TIDEWATER_STORE", "embedded:store"),
    ];
    check_with(dir.path(), &["ingest"], &environment, 2, "sync-config.yaml:5:");
}

#[test]
fn a_database_url_that_cannot_be_read_is_wrong_input() {
    let dir = work_dir();
    let dev = |url: &str, code: i32, words: &str| {
        let args = ["dev", "--listen=127.0.0.1:0", "--sync-config=sync-config.yaml"];
        let args = [&args[..], &["--database-url", url]].concat();
        check(dir.path(), &args, code, words);
    };
    dev("postgres://u@h/app?sslmode=prefer", 2, "sslmode=prefer is not supported");
    dev(NO_DATABASE, 1, "cannot connect to PostgreSQL at 127.0.0.1:1");
}

/// All of it is found before the database is asked.
#[test]
fn who_the_rows_are_for_must_make_sense() {
    let dir = work_dir();
    let rows = |more: &[&str], code: i32, words: &str| {
        let args = ["rows", "sync-config.yaml", "--database-url", NO_DATABASE];
        check(dir.path(), &[&args[..], more].concat(), code, words);
    };
    rows(&[], 2, "--user-id");
    rows(&["--user-id="], 2, "--user-id");
    let user = |more: &[&str], code: i32, words: &str| {
        rows(&[&["--user-id=u1"], more].concat(), code, words);
    };
    user(&["--claims", r#"{"sub":"u2"}"#], 2, "'sub' is set by --user-id");
    user(&["--claims", r#"{"parameters":7}"#], 2, "'parameters' are no object");
    user(&["--parameters", "[]"], 2, "not a JSON object");
    user(&["--stream", "todos={"], 2, "not a JSON object");
    user(&["--stream", "todo"], 2, "the sync config has no stream 'todo'");
    user(&["--stream", "todos"], 1, "cannot connect to PostgreSQL at 127.0.0.1:1");
    let url = ["rows", "sync-config.yaml", "--user-id=u1", "--database-url=host=h"];
    check(dir.path(), &url, 2, "--database-url cannot be used");
}

#[test]
fn a_data_directory_is_used_by_one_process() {
    let dir = work_dir();
    std::fs::create_dir(dir.path().join(".tidewater")).unwrap();
    let lock = std::fs::File::create(dir.path().join(".tidewater/lock")).unwrap();
    lock.lock().unwrap();
    let args = ["dev", "--sync-config=sync-config.yaml", "--database-url", NO_DATABASE];
    check(dir.path(), &args, 1, "in use by another tidewater process");
    check(dir.path(), &[&["ingest"], &args[1..]].concat(), 1, "in use by another");
}

#[test]
fn commands_that_do_not_exist_are_not_offered() {
    let dir = work_dir();
    let help = tidewater(dir.path(), &["--help"], &[]);
    let help = String::from_utf8(help.stdout).unwrap();
    for exists in
        ["demo", "dev", "validate", "schema", "explain", "rows", "token", "ingest", "serve"]
    {
        assert!(help.contains(&format!("  {exists}")), "{exists}: {help}");
    }
    for planned in ["doctor", "deploy"] {
        assert!(!help.contains(planned), "{planned}: {help}");
        check(dir.path(), &[planned], 2, "unrecognized subcommand");
    }
}
