use super::*;
use crate::source::catalog::tests::source_table;
use tidewater_sync_config::Column;

const NAMES: SourceNames<'_> = SourceNames { publication: "powersync", slot: "s" };

/// Checks that a change of a ready table gives exactly one finding, which is fatal, with this problem and
/// fix; and whether the problem prevents reading it, too.
fn check_table(
    change: impl FnOnce(&mut SourceTable),
    prevents_reading: bool,
    problem: &str,
    fix: &str,
) {
    let mut table = source_table(1, "lists");
    change(&mut table);
    check_one(&table_findings(&table, "app", NAMES), problem, fix);
    assert_eq!(!reading_findings(&table, "app").is_empty(), prevents_reading, "{problem}");
}

#[track_caller]
fn check_one(found: &[Finding], problem: &str, fix: &str) {
    let [one] = found else { panic!("expected one finding: {found:?}") };
    assert!(one.is_fatal, "{one}");
    assert!(one.problem.contains(problem), "'{problem}' is not in: {one}");
    assert!(one.fix.contains(fix), "'{fix}' is not in: {one}");
}

#[test]
fn a_ready_table_has_no_findings() {
    assert_eq!(table_findings(&source_table(1, "lists"), "app", NAMES), []);
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
    let change = |table: &mut SourceTable| {
        table.key.clear();
        table.check.has_primary_key = false;
    };
    check_table(
        change,
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
    check_one(&found, "\"o'brien\"", fix);
}

/// Returns a column that the stream does not carry.
fn unsent(name: &str, reason: UnsentReason, in_identity: bool) -> UnsentColumn {
    UnsentColumn { column: Column { name: name.into(), type_oid: 25 }, reason, in_identity }
}

#[test]
fn a_schema_that_may_not_be_used_prevents_reading_and_syncing() {
    check_table(
        |table| table.check.lacks_schema_usage = true,
        true,
        "role \"app\" may not use schema public",
        "GRANT USAGE ON SCHEMA \"public\" TO \"app\";",
    );
}

#[test]
fn an_unlogged_table_can_be_read_but_not_synced() {
    // PostgreSQL would refuse to add it to the publication.
    let change = |table: &mut SourceTable| {
        table.check.persistence = 'u';
        table.is_published = false;
    };
    check_table(change, false, "public.lists is unlogged", "\"public\".\"lists\" SET LOGGED;");
}

#[test]
fn a_temporary_table_can_be_neither_read_nor_synced() {
    let change = |table: &mut SourceTable| {
        table.check.persistence = 't';
        table.is_published = false;
    };
    check_table(change, true, "public.lists is a temporary table", "name an ordinary table");
}

#[test]
fn a_key_that_is_no_replica_identity_is_made_one() {
    for (replica_identity, problem) in [('n', "is NOTHING"), ('i', "is an index that is gone")] {
        let change = |table: &mut SourceTable| {
            table.replica_identity = replica_identity;
            table.key.clear();
        };
        check_table(change, false, problem, "\"lists\" REPLICA IDENTITY DEFAULT;");
    }

    let without_key = |table: &mut SourceTable| {
        table.replica_identity = 'n';
        table.key.clear();
        table.check.has_primary_key = false;
    };
    let fix = "ADD PRIMARY KEY (...); ALTER TABLE \"public\".\"lists\" REPLICA IDENTITY DEFAULT;";
    check_table(without_key, false, "neither a primary key nor a replica identity", fix);
}

#[test]
fn a_deferrable_key_is_no_replica_identity() {
    let change = |table: &mut SourceTable| {
        table.key.clear();
        table.check.has_deferrable_key = true;
    };
    check_table(change, false, "is DEFERRABLE", "REPLICA IDENTITY FULL;");
}

#[test]
fn a_key_outside_the_column_list_is_added_to_it() {
    let change = |table: &mut SourceTable| {
        table.key.clear();
        table.schema.columns[0].name = "name".into();
        table.check.unsent_columns = vec![unsent("id", UnsentReason::NotListed, true)];
    };
    // With it, the list would name all columns.
    let all = "ADD TABLE \"public\".\"lists\"; COMMIT;";
    check_table(change, false, "\"id\" is missing", all);

    let change = |table: &mut SourceTable| {
        change(table);
        table.check.unsent_columns.push(unsent("b", UnsentReason::NotListed, false));
    };
    let list = "ADD TABLE \"public\".\"lists\" (\"name\", \"id\"); COMMIT;";
    check_table(change, false, "\"id\" is missing", list);
}

#[test]
fn a_generated_key_is_published_where_the_server_can() {
    for (reason, fix) in [
        (UnsentReason::NotPublished, "SET (publish_generated_columns = stored);"),
        (UnsentReason::NotPublishable, "a key of ordinary columns"),
        (UnsentReason::Virtual, "\"lists\" REPLICA IDENTITY DEFAULT;"),
    ] {
        let change = |table: &mut SourceTable| {
            table.key.clear();
            table.check.unsent_columns = vec![unsent("g", reason, true)];
        };
        check_table(change, false, "generated column \"g\"", fix);
    }
}

#[test]
fn a_column_that_is_not_sent_and_identifies_nothing_is_no_finding() {
    let mut table = source_table(1, "lists");
    table.check.unsent_columns = vec![
        unsent("a", UnsentReason::NotListed, false),
        unsent("g", UnsentReason::NotPublishable, false),
    ];
    assert_eq!(table_findings(&table, "app", NAMES), []);
}

#[test]
fn a_missing_publication_hides_only_what_follows_from_it() {
    let mut table = source_table(1, "lists");
    table.is_published = false;
    assert_eq!(findings_without_publication(&table, "app", NAMES), []);
    table.check.persistence = 'u';
    let found = findings_without_publication(&table, "app", NAMES);
    check_one(&found, "is unlogged", "SET LOGGED;");
}
