//! Explanations of compiled configs.

use expect_test::{Expect, expect};

use super::{compile, definition, stream};
use crate::StepExplanation;

fn check(yaml: &str, expected: &Expect) {
    expected.assert_eq(&compile(yaml).explain().to_string());
}

/// Compares the row filter of a stream with one query.
fn check_filter(query: &str, expected: &str) {
    let explanation = compile(&stream(query)).explain();
    assert_eq!(explanation.streams[0].families[0].rows[0].conditions.join(" AND "), expected);
}

#[test]
fn per_user_and_global_buckets_are_explained() {
    let yaml = "\
config: {edition: 3}
streams:
  countries: {auto_subscribe: true, query: SELECT * FROM countries}
  project:
    query: SELECT * FROM tasks WHERE project_id = subscription.parameter('project') AND org_id = auth.parameter('org_id')
    priority: 1
  accounts: {query: 'SELECT aid AS id, bid, upper(name) AS \"Name\" FROM app.accounts AS a'}
  audit: {query: SELECT * FROM audit_log WHERE auth.parameter('role') = 'admin'}
";

    check(
        yaml,
        &expect![[r#"
        stream countries  (subscribed by default, priority 3)
          family countries|0
            rows: public.countries as countries, all columns
            found by: every request
            buckets: one for all

        stream project  (subscribed by the app, priority 1)
          family project|0
            rows: public.tasks as tasks, all columns
              by project_id, org_id
            found by:
              1. subscription.parameter('project')
              2. auth.parameter('org_id')
            buckets: one, of subscription.parameter('project'), auth.parameter('org_id')

        stream accounts  (subscribed by the app, priority 3)
          family accounts|0
            rows: app.accounts as a, aid AS id, bid, upper(name) AS Name
            found by: every request
            buckets: one for all

        stream audit  (subscribed by the app, priority 3)
          family audit|0
            rows: public.audit_log as audit_log, all columns
            found by:
              only if auth.parameter('role') = 'admin'
            buckets: one for all

        table public.countries: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
        table public.tasks: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
        table app.accounts: a change of a row writes up to 1 bucket family and 0 lookups; reads aid, bid, name
        table public.audit_log: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
    "#]],
    );
}

#[test]
fn a_lookup_shows_its_key_and_its_output() {
    let query = "SELECT * FROM tasks WHERE NOT done AND project_id IN \
                 (SELECT project_id FROM members WHERE user_id = auth.user_id() AND active)";

    check(
        &stream(query),
        &expect![[r#"
        stream s  (subscribed by the app, priority 3)
          family s|0
            rows: public.tasks as tasks, all columns
              where NOT done
              by project_id
            found by:
              1. auth.user_id()
              2. public.members where user_id = auth.user_id() AND active  gives members.project_id
            buckets: one for each members.project_id

        table public.tasks: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
        table public.members: a change of a row writes up to 0 bucket families and 1 lookup; reads active, project_id, user_id
    "#]],
    );
}

#[test]
fn joins_are_explained_table_by_table() {
    let yaml = "\
config: {edition: 3}
with:
  my_projects: SELECT project_id FROM members WHERE user_id = auth.user_id()
streams:
  comments_on_them:
    query: >
      SELECT comments.* FROM comments
      JOIN tasks ON tasks.id = comments.task_id
      JOIN my_projects ON my_projects.project_id = tasks.project_id
";

    check(
        yaml,
        &expect![[r#"
        stream comments_on_them  (subscribed by the app, priority 3)
          family comments_on_them|0
            rows: public.comments as comments, all columns
              by task_id
            found by:
              1. auth.user_id()
              2. public.members where user_id = auth.user_id()  gives members.project_id
              3. public.tasks where project_id = members.project_id  gives tasks.id
            buckets: one for each tasks.id

        table public.comments: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
        table public.tasks: a change of a row writes up to 0 bucket families and 1 lookup; reads id, project_id
        table public.members: a change of a row writes up to 0 bucket families and 1 lookup; reads project_id, user_id
    "#]],
    );
}

#[test]
fn a_table_used_twice_has_two_aliases() {
    let query = "SELECT * FROM users WHERE id IN (SELECT friend FROM friends WHERE person IN \
                 (SELECT friend FROM friends WHERE person = auth.user_id()))";

    check(
        &stream(query),
        &expect![[r#"
        stream s  (subscribed by the app, priority 3)
          family s|0
            rows: public.users as users, all columns
              by id
            found by:
              1. auth.user_id()
              2. public.friends where person = auth.user_id()  gives friends.friend
              3. public.friends as friends_2 where person = friends.friend  gives friends_2.friend
            buckets: one for each friends_2.friend

        table public.users: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
        table public.friends: a change of a row writes up to 0 bucket families and 1 lookup; reads friend, person
    "#]],
    );
}

#[test]
fn array_columns_are_explained_as_elements() {
    let query = "SELECT d.* FROM documents AS d, json_each(d.shares) AS s \
                 WHERE s.value ->> 'user' = auth.user_id() AND s.value ->> 'can_read' = 1";

    check(
        &stream(query),
        &expect![[r#"
        stream s  (subscribed by the app, priority 3)
          family s|0
            rows: public.documents as d, all columns
              for each of json_each(shares)
              where json_each(shares).value ->> 'can_read' = 1
              by json_each(shares).value ->> 'user'
            found by:
              1. auth.user_id()
            buckets: one, of auth.user_id()

        table public.documents: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
    "#]],
    );
}

#[test]
fn each_alternative_is_explained_as_a_family() {
    let yaml = "\
config: {edition: 3}
streams:
  mine_or_shared:
    queries:
      - SELECT * FROM notes WHERE owner_id = auth.user_id() OR team_id IN auth.parameter('teams')
      - SELECT * FROM notes WHERE auth.user_id() IN shared_with
";

    check(
        yaml,
        &expect![[r#"
        stream mine_or_shared  (subscribed by the app, priority 3)
          family mine_or_shared|0
            rows: public.notes as notes, all columns
              by owner_id
            rows: public.notes as notes, all columns
              for each of json_each(shared_with)
              by json_each(shared_with).value
            found by:
              1. auth.user_id()
            buckets: one, of auth.user_id()
          family mine_or_shared|1
            rows: public.notes as notes, all columns
              by team_id
            found by:
              1. each of json_each(auth.parameter('teams'))  gives json_each(auth.parameter('teams')).value
            buckets: one for each json_each(auth.parameter('teams')).value

        table public.notes: a change of a row writes up to 2 bucket families and 0 lookups; reads all columns
    "#]],
    );
}

#[test]
fn a_bucket_definition_lists_each_of_its_parameter_queries() {
    let parameters = [
        "SELECT id AS list_id FROM lists WHERE owner_id = request.user_id()",
        "SELECT value AS list_id, 1 AS _priority FROM json_each(request.jwt() -> 'lists')",
        "SELECT request.parameters() ->> 'list' AS list_id WHERE request.jwt() ->> 'role' = 'admin'",
        "SELECT token_parameters.list AS list_id",
    ];

    let data = [
        "SELECT * FROM lists WHERE id = bucket.list_id",
        "SELECT upper(title) AS title, * FROM todos WHERE list_id = bucket.list_id",
    ];

    check(
        &definition(&parameters, &data),
        &expect![[r#"
        bucket definition b  (priority 3)
          family b
            rows: public.lists as lists, all columns but those that begin with _
              by id
            rows: public.todos as todos, upper(title) AS title, * but those that begin with _
              by list_id
            found by:
              1. request.user_id()
              2. public.lists where owner_id = request.user_id()  gives lists.id
            buckets: one for each lists.id
            or by  (priority 1):
              1. each of json_each(request.jwt() -> 'lists')  gives json_each(request.jwt() -> 'lists').value
            buckets: one for each json_each(request.jwt() -> 'lists').value
            or by:
              only if request.jwt() ->> 'role' = 'admin'
              1. request.parameter('list')
            buckets: one, of request.parameter('list')
            or by:
              1. token_parameters.list
            buckets: one, of token_parameters.list

        table public.lists: a change of a row writes up to 1 bucket family and 1 lookup; reads all columns
        table public.todos: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
    "#]],
    );
}

#[test]
fn a_row_that_only_has_to_exist_has_no_output() {
    let query = "SELECT * FROM news WHERE EXISTS \
                 (SELECT 1 FROM readers WHERE readers.user_id = auth.user_id())";
    let explanation = compile(&stream(query)).explain();
    let way = &explanation.streams[0].families[0].found_by[0];
    let Some(StepExplanation::Lookup { gives, keys, .. }) = way.steps.last() else {
        panic!("no lookup in {way:?}");
    };
    assert!(gives.is_empty(), "{gives:?}");
    let keys: Vec<_> = keys.iter().map(|key| (key.row.as_str(), key.value.as_str())).collect();
    assert_eq!(keys, [("user_id", "auth.user_id()")]);
    assert!(explanation.to_string().contains("user_id = auth.user_id()  if there is one\n"));
}

#[test]
fn each_table_lists_the_families_and_lookups_that_read_it() {
    let yaml = "\
config: {edition: 3}
streams:
  a: {query: SELECT id FROM t WHERE owner = auth.user_id() OR team = auth.parameter('team')}
  b: {query: SELECT * FROM other WHERE kind IN (SELECT kind FROM t WHERE owner = auth.user_id())}
";
    let tables = compile(yaml).explain().tables;
    let [t, other] = tables.as_slice() else { panic!("{tables:?}") };
    assert_eq!((t.table.as_str(), t.families, t.lookups), ("public.t", 2, 1));
    assert_eq!(t.reads, ["id", "kind", "owner", "team"]);
    assert_eq!((other.table.as_str(), other.families, other.lookups), ("public.other", 1, 0));
    assert_eq!(other.reads, ["*"]);
}

fn check_condition(condition: &str, expected: &str) {
    check_filter(&format!("SELECT * FROM t WHERE {condition}"), expected);
}

#[test]
fn parentheses_are_printed_only_where_needed() {
    check_condition("a = 1 AND (b = 2 OR c = 3)", "a = 1 AND (b = 2 OR c = 3)");
    check_condition("NOT (a = 1) AND b IS NULL", "NOT a = 1 AND b IS NULL");
    check_condition("(a + b) * c > a + b * c", "(a + b) * c > a + b * c");
    check_condition("a - (b - c) > a - b - c", "a - (b - c) > a - b - c");
    check_condition("(a || b) ->> 'k' = 'x'", "(a || b) ->> 'k' = 'x'");
    check_condition("a || (b ->> 'k') = 'x'", "a || b ->> 'k' = 'x'");
    check_condition("a = (1 << 2) | 4", "a = (1 << 2) | 4");
    check_condition("a || (b + 1) = 1 << (2 | 4)", "a || (b + 1) = 1 << 2 | 4");
    check_condition("(a = b) = c", "(a = b) = c");
    check_condition("a & (b + 1) = 1", "a & b + 1 = 1");
    check_condition("(a & b) + 1 = 1", "(a & b) + 1 = 1");
}

#[test]
fn every_expression_has_a_text() {
    check_condition("name = 'it''s'", "name = 'it''s'");
    check_condition("r > 1.0", "r > 1.0");
    check_condition("\"a b\" <= -1", "\"a b\" <= -1");
    check_condition("a IN ('x', 'y')", "a IN ('x', 'y')");
    check_condition("a BETWEEN 1 AND 2", "a BETWEEN 1 AND 2");
    check_condition("CAST(a AS integer) % 2 = 0", "CAST(a AS integer) % 2 = 0");
    check_condition("a LIKE '5!%%' ESCAPE '!'", "a LIKE '5\\%%' ESCAPE '\\'");
    check_condition("a LIKE 'x_'", "a LIKE 'x_'");
    check_condition("substr(a, 1, 2) = 'ab'", "substring(a, 1, 2) = 'ab'");
    check_condition("CASE WHEN a THEN b ELSE c END", "CASE WHEN a THEN b ELSE c END");
}

/// The printed filter compiles again, to the same expression.
#[test]
fn a_printed_expression_compiles_to_itself() {
    for condition in [
        "a = 1 AND (b = 2 OR NOT c) AND NOT (a IS NULL OR b IS NOT NULL)",
        "(a || b) ->> 'k' || (c -> '$.x.y') <> coalesce(a, b, 'z')",
        "(a - (b - c)) * 2 / -3 % 5 > (a & b) << 1",
        "CASE a WHEN 1 THEN 'x' WHEN 2 THEN b END = CAST(c AS text)",
        "a NOT BETWEEN 1 AND 2 AND b NOT IN (1, 2.5, 'x') AND c NOT LIKE 'A%!_!\\' ESCAPE '!'",
        "a IS DISTINCT FROM b AND c IS NOT DISTINCT FROM 1 AND (a = b) = (b = c)",
        "a && b AND 'x' IN c AND iif(json_valid(a), round(b, 1), length(c)) >= 1e300",
    ] {
        let first = compile(&stream(&format!("SELECT * FROM t WHERE {condition}")));
        let explanation = first.explain();
        let filter = explanation.streams[0].families[0].rows[0].conditions.join(" AND ");
        let second = compile(&stream(&format!("SELECT * FROM t WHERE {filter}")));

        assert_eq!(first.definitions(), second.definitions(), "{condition}\nis not\n{filter}");
    }
}

#[test]
fn steps_are_machine_readable() {
    let query = "SELECT id FROM tasks WHERE project_id IN \
                 (SELECT project_id FROM members WHERE user_id IN auth.parameter('users') AND active) \
                 AND project_id = subscription.parameter('project')";
    let explanation = compile(&stream(query)).explain();
    let steps = explanation.streams[0].families[0].found_by[0].steps.iter();
    let json: String = steps.map(|step| serde_json::to_string(step).unwrap() + "\n").collect();
    expect![[r#"
        {"kind":"elements","array":"json_each(auth.parameter('users'))","conditions":[],"gives":["json_each(auth.parameter('users')).value"]}
        {"kind":"lookup","lookup":0,"table":"public.members","alias":"members","arrays":[],"keys":[{"row":"user_id","value":"json_each(auth.parameter('users')).value"}],"conditions":["active"],"gives":["members.project_id"]}
        {"kind":"value","value":"subscription.parameter('project')"}
        {"kind":"equal","left":"members.project_id","right":"subscription.parameter('project')"}
    "#]].assert_eq(&json);
}

#[test]
fn table_patterns_are_explained_as_patterns() {
    let query = r#"SELECT id, "ev_%".table_suffix() AS year FROM "ev_%" WHERE org IN
                   (SELECT org FROM "members_%".m WHERE m.usr = auth.user_id() AND m.schema() > 'x')
                   AND "ev_%".table_name() <> 'ev_x'"#;

    check(
        &stream(query),
        &expect![[r#"
            stream s  (subscribed by the app, priority 3)
              family s|0
                rows: public."ev_%" as ev_%, id, table_suffix() AS year
                  where NOT table_name() = 'ev_x'
                  by org
                found by:
                  1. auth.user_id()
                  2. "members_%".m where usr = auth.user_id() AND schema() > 'x'  gives m.org
                buckets: one for each m.org

            table public."ev_%": a change of a row writes up to 1 bucket family and 0 lookups; reads id, org
            table "members_%".m: a change of a row writes up to 0 bucket families and 1 lookup; reads org, usr
        "#]],
    );
}
