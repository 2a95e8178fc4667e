use super::*;

const NAMES: SourceNames<'_> = SourceNames { publication: "powersync", slot: "s" };

/// A server on which nothing needs to be fixed.
fn ready_server() -> ServerState {
    ServerState {
        version: 160_004,
        version_text: "16.4".into(),
        wal_level: "logical".into(),
        user: "app".into(),
        may_replicate: true,
        slot_exists: false,
        is_slot_active: false,
        slots: InUse { used: 1, max: 10 },
        wal_senders: InUse { used: 1, max: 10 },
        encoding: "UTF8".into(),
        database: "app".into(),
        keeps_all_wal: false,
        publication: Some(ready_publication()),
    }
}

fn ready_publication() -> PublicationState {
    PublicationState { has_all_operations: true, is_via_root: false, is_for_all_tables: false }
}

/// Checks that a change of a ready server gives exactly one finding, with this problem and fix.
fn check_server(change: impl FnOnce(&mut ServerState), is_fatal: bool, problem: &str, fix: &str) {
    let mut server = ready_server();
    change(&mut server);
    check_one(&server_findings(&server, NAMES, &[]), is_fatal, problem, fix);
}

/// Checks the same for a change of a publication.
fn check_publication(
    change: impl FnOnce(&mut PublicationState),
    is_fatal: bool,
    problem: &str,
    fix: &str,
) {
    let mut publication = ready_publication();
    change(&mut publication);
    check_server(|server| server.publication = Some(publication), is_fatal, problem, fix);
}

#[track_caller]
fn check_one(found: &[Finding], is_fatal: bool, problem: &str, fix: &str) {
    let [one] = found else { panic!("expected one finding: {found:?}") };
    assert_eq!(one.is_fatal, is_fatal, "{one}");
    assert!(one.problem.contains(problem), "'{problem}' is not in: {one}");
    assert!(one.fix.contains(fix), "'{fix}' is not in: {one}");
}

#[test]
fn a_ready_server_has_no_findings() {
    assert_eq!(server_findings(&ready_server(), NAMES, &[]), []);
}

#[test]
fn a_server_below_version_14_is_fatal() {
    let old = |server: &mut ServerState| {
        server.version = 130_015;
        server.version_text = "13.15".into();
    };
    check_server(old, true, "PostgreSQL 13.15 is too old", "upgrade");
    let mut oldest = ready_server();
    oldest.version = SERVER_VERSION_MIN;
    assert_eq!(server_findings(&oldest, NAMES, &[]), []);
}

#[test]
fn a_server_that_is_newer_than_the_tested_ones_is_advised_against() {
    let new = |server: &mut ServerState| {
        server.version = 190_000;
        server.version_text = "19beta1".into();
    };
    check_server(new, false, "PostgreSQL 19beta1 is newer than 18", "tested on it");
    let mut newest = ready_server();
    newest.version = 180_004;
    assert_eq!(server_findings(&newest, NAMES, &[]), []);
}

#[test]
fn a_wal_level_below_logical_is_fatal() {
    for level in ["replica", "minimal"] {
        check_server(
            |server| server.wal_level = level.into(),
            true,
            &format!("wal_level is '{level}'"),
            "ALTER SYSTEM SET wal_level = logical;",
        );
    }
}

#[test]
fn a_role_that_may_not_replicate_is_fatal() {
    check_server(
        |server| server.may_replicate = false,
        true,
        "role \"app\" lacks the REPLICATION attribute",
        "ALTER ROLE \"app\" REPLICATION;",
    );
}

#[test]
fn a_missing_publication_is_fatal_with_the_sql_for_the_tables_of_the_config() {
    let mut server = ready_server();
    server.publication = None;
    let missing = "publication \"powersync\" does not exist";
    let one = |tables: &[String]| server_findings(&server, NAMES, tables);
    let tables = ["\"public\".\"a\"".to_owned(), "\"public\".\"b\"".to_owned()];
    let create = "CREATE PUBLICATION \"powersync\" FOR TABLE \"public\".\"a\", \"public\".\"b\";";
    check_one(&one(&tables), true, missing, create);

    check_one(&one(&[]), true, missing, "FOR TABLE ...;");
    let many = vec!["t".to_owned(); LISTED_TABLES_MAX + 1];
    check_one(&one(&many), true, missing, "t, t, ...;");
}

#[test]
fn no_free_slot_is_fatal_unless_ours_exists() {
    let full = InUse { used: 4, max: 4 };
    check_server(
        |server| server.slots = full,
        true,
        "all replication slots are in use: 4 of max_replication_slots = 4",
        "SET max_replication_slots = 9;",
    );
    let mut server = ready_server();
    server.slots = full;
    server.slot_exists = true;
    assert_eq!(server_findings(&server, NAMES, &[]), []);
}

#[test]
fn no_free_wal_sender_is_fatal_unless_ours_is_in_use() {
    let full = InUse { used: 2, max: 2 };
    check_server(
        |server| server.wal_senders = full,
        true,
        "all WAL senders are in use: 2 of max_wal_senders = 2",
        "SET max_wal_senders = 7;",
    );
    let mut server = ready_server();
    server.wal_senders = full;
    server.is_slot_active = true;
    assert_eq!(server_findings(&server, NAMES, &[]), []);
}

#[test]
fn an_encoding_that_checks_nothing_is_advice() {
    let change = |server: &mut ServerState| server.encoding = "SQL_ASCII".into();
    check_server(change, false, "database app has the encoding SQL_ASCII", "ENCODING 'UTF8'");
}

#[test]
fn unlimited_wal_retention_is_advice() {
    check_server(
        |server| server.keeps_all_wal = true,
        false,
        "can fill the server's disk",
        "ALTER SYSTEM SET max_slot_wal_keep_size",
    );
}

#[test]
fn a_publication_without_some_operations_is_fatal() {
    check_publication(
        |publication| publication.has_all_operations = false,
        true,
        "does not publish all kinds of changes",
        "SET (publish = 'insert, update, delete, truncate');",
    );
}

#[test]
fn a_publication_via_the_partition_root_is_fatal() {
    check_publication(
        |publication| publication.is_via_root = true,
        true,
        "partitions as their root table",
        "SET (publish_via_partition_root = false);",
    );
}

#[test]
fn a_publication_for_all_tables_is_advice() {
    check_publication(
        |publication| publication.is_for_all_tables = true,
        false,
        "FOR ALL TABLES",
        "publish only the tables",
    );
}

#[test]
fn the_error_lists_each_finding_with_its_fix() {
    let findings = vec![Finding::fatal("one", "do this"), Finding::fatal("two", "do that")];
    assert_eq!(
        PreflightError { findings }.to_string(),
        "the source database is not ready for replication:\n  - one\n    fix: do this\n  - two\n    \
         fix: do that"
    );
}
