use super::*;
use crate::source::catalog::tests::source_table;

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
        has_free_slots: true,
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
    check_one(&findings(&server, [], NAMES), is_fatal, problem, fix);
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

/// Checks the same for a change of a table, and whether the problem prevents reading it, too.
fn check_table(
    change: impl FnOnce(&mut SourceTable),
    prevents_reading: bool,
    problem: &str,
    fix: &str,
) {
    let mut table = source_table(1, "lists");
    change(&mut table);
    check_one(&table_findings(&table, "app", NAMES), true, problem, fix);
    assert_eq!(!reading_findings(&table, "app").is_empty(), prevents_reading, "{problem}");
}

#[track_caller]
fn check_one(found: &[Finding], is_fatal: bool, problem: &str, fix: &str) {
    let [one] = found else { panic!("expected one finding: {found:?}") };
    assert_eq!(one.is_fatal, is_fatal, "{one}");
    assert!(one.problem.contains(problem), "'{problem}' is not in: {one}");
    assert!(one.fix.contains(fix), "'{fix}' is not in: {one}");
}

#[test]
fn a_ready_server_and_table_have_no_findings() {
    assert_eq!(findings(&ready_server(), [&source_table(1, "lists")], NAMES), []);
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
    assert_eq!(findings(&oldest, [], NAMES), []);
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
fn a_missing_publication_is_fatal_and_hides_what_follows_from_it() {
    let mut server = ready_server();
    server.publication = None;
    let mut unpublished = source_table(1, "lists");
    unpublished.is_published = false;
    let found = findings(&server, [&unpublished], NAMES);
    check_one(&found, true, "publication \"powersync\" does not exist", "CREATE PUBLICATION");
}

#[test]
fn no_free_slot_is_fatal_unless_ours_exists() {
    check_server(
        |server| server.has_free_slots = false,
        true,
        "all replication slots are in use",
        "max_replication_slots",
    );
    let mut server = ready_server();
    server.has_free_slots = false;
    server.slot_exists = true;
    assert_eq!(findings(&server, [], NAMES), []);
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
fn fatal_findings_come_first() {
    let mut server = ready_server();
    server.keeps_all_wal = true;
    let mut table = source_table(1, "lists");
    table.may_select = false;
    let found = findings(&server, [&table], NAMES);
    let fatal: Vec<_> = found.iter().map(|finding| finding.is_fatal).collect();
    assert_eq!(fatal, [true, false]);
}

#[test]
fn an_unpublished_table_can_be_read_but_not_synced() {
    check_table(
        |table| table.is_published = false,
        false,
        "table public.lists is not in publication \"powersync\"",
        "ALTER PUBLICATION \"powersync\" ADD TABLE \"public\".\"lists\";",
    );
}

#[test]
fn a_row_filter_prevents_syncing() {
    check_table(
        |table| table.has_row_filter = true,
        false,
        "filters rows of table public.lists",
        "filter in the sync config",
    );
}

#[test]
fn a_table_without_identity_cannot_be_synced() {
    check_table(
        |table| table.key.clear(),
        false,
        "neither a primary key nor a replica identity",
        "ALTER TABLE \"public\".\"lists\" ADD PRIMARY KEY",
    );
}

#[test]
fn a_keyless_table_with_full_identity_can_be_synced() {
    let mut table = source_table(1, "lists");
    table.key.clear();
    table.replica_identity = 'f';
    assert_eq!(table_findings(&table, "app", NAMES), []);
}

#[test]
fn a_table_without_select_privilege_can_be_neither_read_nor_synced() {
    check_table(
        |table| table.may_select = false,
        true,
        "role \"app\" may not read table public.lists",
        "GRANT SELECT ON \"public\".\"lists\" TO \"app\";",
    );
}

#[test]
fn row_security_prevents_reading_and_syncing() {
    check_table(
        |table| table.row_security = true,
        true,
        "row security hides rows of table public.lists",
        "ALTER ROLE \"app\" BYPASSRLS;",
    );
}

#[test]
fn only_ordinary_tables_can_be_synced() {
    for (kind, name) in [
        ('p', "a partitioned table"),
        ('v', "a view"),
        ('m', "a view"),
        ('f', "a foreign table"),
        ('S', "not an ordinary table"),
    ] {
        let problem = format!("public.lists is {name}");
        // It is the one finding, whatever else is wrong with it.
        let change = |table: &mut SourceTable| {
            table.kind = kind;
            table.is_published = false;
            table.key.clear();
        };
        check_table(change, true, &problem, "name an ordinary table");
    }
}

#[test]
fn odd_names_are_quoted_in_every_fix() {
    let mut table = source_table(1, "odd\"name");
    table.may_select = false;
    let found = table_findings(&table, "o'brien", NAMES);
    let fix = "GRANT SELECT ON \"public\".\"odd\"\"name\" TO \"o'brien\";";
    check_one(&found, true, "\"o'brien\"", fix);
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
