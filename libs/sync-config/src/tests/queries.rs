//! Each sentence of the language that is accepted, and what it makes of rows.

use expect_test::{Expect, expect};

use super::{compile, definition, row, rows, stream, table};

const TODOS: &str = "todos(id text, owner_id text, n int4, done bool, meta json)";

fn check(query: &str, values: &str, expected: Expect) {
    expected.assert_eq(&row(&stream(query), TODOS, values));
}

fn check_definition(parameters: &[&str], data: &[&str], values: &str, expected: Expect) {
    expected.assert_eq(&row(&definition(parameters, data), TODOS, values));
}

#[test]
fn a_star_gives_all_columns_in_the_order_of_the_table() {
    check(
        "SELECT * FROM todos",
        r#"t1|u1|7|t|{"a": 1}"#,
        expect![[r#"
        s|0[] todos/t1 {"id":"t1","owner_id":"u1","n":7,"done":1,"meta":"{\"a\": 1}"}
    "#]],
    );
    check(
        "SELECT t.* FROM todos t",
        "t1|~|~|f|~",
        expect![[r#"
        s|0[] t/t1 {"id":"t1","owner_id":null,"n":null,"done":0,"meta":null}
    "#]],
    );
    check(
        "SELECT todos.* FROM public.todos;",
        "t1|~|~|f|~",
        expect![[r#"
        s|0[] todos/t1 {"id":"t1","owner_id":null,"n":null,"done":0,"meta":null}
    "#]],
    );
}

#[test]
fn bytes_are_left_out_of_rows() {
    let yaml = stream("SELECT *, hex(b) AS h, CAST(id AS blob) AS c FROM t");
    expect![[r#"
        s|0[] t/x {"id":"x","h":"00FF"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, b bytea)", "x|\\x00ff"));
}

#[test]
fn columns_are_selected_by_name_alias_and_expression() {
    check(
        "SELECT id, n FROM todos",
        "t1|u1|7|t|~",
        expect![[r#"
        s|0[] todos/t1 {"id":"t1","n":7}
    "#]],
    );
    check(
        "SELECT todos.id, n AS number FROM todos",
        "t1|u1|7|t|~",
        expect![[r#"
        s|0[] todos/t1 {"id":"t1","number":7}
    "#]],
    );
    check(
        "SELECT owner_id || '/' || n AS id, 1 AS one, 2.5 AS real, NULL AS nothing, TRUE AS yes \
         FROM todos",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0[] todos/u1/7 {"id":"u1/7","one":1,"real":2.5,"nothing":null,"yes":1}
        "#]],
    );
}

#[test]
fn a_later_column_takes_the_place_of_a_former_one() {
    check(
        "SELECT *, upper(owner_id) AS owner_id FROM todos",
        "t1|u1|7|t|~",
        expect![[r#"
        s|0[] todos/t1 {"id":"t1","owner_id":"U1","n":7,"done":1,"meta":null}
    "#]],
    );
    check(
        "SELECT n AS id, id FROM todos",
        "t1|u1|7|t|~",
        expect![[r#"
        s|0[] todos/t1 {"id":"t1"}
    "#]],
    );
}

#[test]
fn the_alias_of_the_table_is_the_output_table() {
    check(
        "SELECT id FROM todos AS tasks",
        "t1|u1|7|t|~",
        expect![[r#"
        s|0[] tasks/t1 {"id":"t1"}
    "#]],
    );
    check(
        r#"SELECT id FROM todos AS "Tasks""#,
        "t1|u1|7|t|~",
        expect![[r#"
        s|0[] Tasks/t1 {"id":"t1"}
    "#]],
    );
}

#[test]
fn names_are_folded_unless_quoted() {
    check(
        r#"SELECT ID, N AS "Big N", OWNER_ID AS Who FROM ToDos"#,
        "t1|u1|7|t|~",
        expect![[r#"
            s|0[] todos/t1 {"id":"t1","Big N":7,"who":"u1"}
        "#]],
    );
    let yaml = stream("SELECT ID, ÄB FROM t");
    expect![[r#"
        s|0[] t/1 {"id":"1","Äb":"x"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, Äb text)", "1|x"));
    let yaml = stream(r#"SELECT id, "ownerId" FROM "Lists""#);
    expect![[r#"
        s|0[] Lists/l1 {"id":"l1","ownerId":"u1"}
    "#]]
    .assert_eq(&row(&yaml, r#"Lists(id text, "ownerId" text)"#, "l1|u1"));
}

#[test]
fn an_id_that_is_no_text_is_one_as_object_id() {
    let yaml = stream("SELECT * FROM t");
    expect![[r#"
        s|0[] t/9007199254740993 {"id":9007199254740993}
    "#]]
    .assert_eq(&row(&yaml, "t(id int8)", "9007199254740993"));
    expect![[r#"
        s|0[] t/2.0 {"id":2.0}
    "#]]
    .assert_eq(&row(&yaml, "t(id float8)", "2"));
    expect![[r#"
        s|0[] t/1 {"id":1}
    "#]]
    .assert_eq(&row(&yaml, "t(id bool)", "t"));
}

#[test]
fn an_id_that_cannot_be_one_is_an_error_of_the_row() {
    let yaml = stream("SELECT * FROM t");
    expect![[r#"
        error s|0: the column `id` is NULL
    "#]]
    .assert_eq(&row(&yaml, "t(id text)", "~"));
    expect![[r#"
        error s|0: the column `id` is a blob
    "#]]
    .assert_eq(&row(&yaml, "t(id bytea)", "\\x00"));
}

#[test]
fn the_functions_of_the_select_list() {
    let yaml = stream(
        "SELECT id, upper(s) AS upper, lower(s) AS lower, length(s) AS length, hex(s) AS hex, \
         base64(s) AS base64, typeof(n) AS typeof, ifnull(z, 'none') AS ifnull, \
         iif(n > 5, 'big', 'small') AS iif, instr(s, 'b') AS instr, substring(s, 2, 1) AS substring, \
         j -> 'a' AS arrow, j ->> 'a' AS value, j ->> '$.o.k' AS deep, j ->> 'a.b' AS dotted, \
         json_extract(j, '$.o') AS extract, json_array_length(j -> 'a') AS items, \
         json_keys(j -> 'o') AS keys FROM t",
    );
    let values = r#"1|aßb|7|~|{"a": [1, 2.0, null], "o": {"k": true}, "a.b": "dot"}"#;
    expect![[r#"
        s|0[] t/1 {"id":"1","upper":"ASSB","lower":"aßb","length":3,"hex":"61C39F62","base64":"YcOfYg==","typeof":"integer","ifnull":"none","iif":"big","instr":3,"substring":"ß","arrow":"[1,2.0,null]","value":"[1,2.0,null]","deep":1,"dotted":"dot","extract":"{\"k\":true}","items":3,"keys":"[\"k\"]"}
    "#]].assert_eq(&row(&yaml, "t(id text, s text, n int4, z text, j jsonb)", values));
}

#[test]
fn casts_and_arithmetic_are_those_of_sqlite() {
    let yaml = stream(
        "SELECT id, s::integer AS i, CAST(s AS real) AS r, n::text AS t, r::integer AS down, \
         s::numeric AS num, n + 1 AS plus, n - 0.5 AS minus, n * n AS times, n / 2 AS half, \
         n / 0 AS none, '3x' + 1 AS prefix, -5 AS negative FROM t",
    );
    let spec = "t(id text, s text, n int4, r float8)";
    expect![[r#"
        s|0[] t/1 {"id":"1","i":12,"r":12.5,"t":"7","down":-2,"num":12.5,"plus":8,"minus":6.5,"times":49,"half":3,"none":null,"prefix":4,"negative":-5}
    "#]].assert_eq(&row(&yaml, spec, "1|12.5abc|7|-1.5"));
    expect![[r#"
        s|0[] t/1 {"id":"1","i":null,"r":null,"t":null,"down":null,"num":null,"plus":null,"minus":null,"times":null,"half":null,"none":null,"prefix":4,"negative":-5}
    "#]].assert_eq(&row(&yaml, spec, "1|~|~|~"));
}

#[test]
fn conditions_on_the_row_are_filters() {
    let filters = [
        "n = 7",
        "n != 7",
        "n <> 8 AND n < 8 AND n <= 7 AND n > 6 AND n >= 7",
        "done",
        "NOT done",
        "done = true",
        "meta IS NULL",
        "meta IS NOT NULL",
        "n IN (1, 7)",
        "n NOT IN (1, 7)",
        "owner_id = id OR n = 7",
        "owner_id = id",
        "meta = meta",
        "NOT (meta = meta)",
        "7.0 = n",
        "n = '7'",
        "owner_id > n",
    ];
    let mut text = String::new();
    for filter in filters {
        let found =
            row(&stream(&format!("SELECT id FROM todos WHERE {filter}")), TODOS, "t1|u1|7|t|~");
        text += &format!("{filter}: {}\n", if found.is_empty() { "no" } else { "yes" });
    }
    expect![[r#"
        n = 7: yes
        n != 7: no
        n <> 8 AND n < 8 AND n <= 7 AND n > 6 AND n >= 7: yes
        done: yes
        NOT done: no
        done = true: yes
        meta IS NULL: yes
        meta IS NOT NULL: no
        n IN (1, 7): yes
        n NOT IN (1, 7): no
        owner_id = id OR n = 7: yes
        owner_id = id: no
        meta = meta: no
        NOT (meta = meta): yes
        7.0 = n: yes
        n = '7': no
        owner_id > n: yes
    "#]]
    .assert_eq(&text);
}

#[test]
fn equality_with_the_request_is_a_parameter() {
    check(
        "SELECT id FROM todos WHERE owner_id = auth.user_id()",
        "t1|u1|7|t|~",
        expect![[r#"
        s|0["u1"] todos/t1 {"id":"t1"}
    "#]],
    );
    check(
        "SELECT id FROM todos WHERE auth.parameter('org') = n AND owner_id = connection.parameter('o')",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0[7,"u1"] todos/t1 {"id":"t1"}
        "#]],
    );
    check("SELECT id FROM todos WHERE owner_id = auth.user_id()", "t1|~|7|t|~", expect![[r#""#]]);
}

#[test]
fn whole_reals_are_integers_in_parameters() {
    let yaml = stream("SELECT id FROM t WHERE x = auth.parameter('x')");
    let spec = "t(id text, x float8)";
    let config = compile(&yaml);
    let values = ["1|1", "1|-0", "1|1.5", "1|1e21", "1|9223372036854775807", "1|NaN", "1|Infinity"];
    expect![[r#"
        s|0[1] t/1 {"id":"1"}
        s|0[0] t/1 {"id":"1"}
        s|0[1.5] t/1 {"id":"1"}
        s|0[1e+21] t/1 {"id":"1"}
        s|0[9223372036854776000.0] t/1 {"id":"1"}
        s|0[9e999] t/1 {"id":"1"}
    "#]]
    .assert_eq(&rows(&config, &table(spec), &values));
}

#[test]
fn parameters_are_canonical_json() {
    check(
        "SELECT id FROM todos WHERE owner_id = auth.user_id() AND n = auth.parameter('n')",
        "t1|a \"b\"\\\n\u{1}é|7|t|~",
        expect![[r#"
            s|0["a \"b\"\\\n\u0001é",7] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn an_array_of_the_request_is_one_parameter() {
    check(
        "SELECT id FROM todos WHERE owner_id IN auth.parameter('owners')",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
        "#]],
    );
    check(
        "SELECT id FROM todos WHERE owner_id IN subscription.parameters() -> 'owners'",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn an_array_of_the_row_is_a_bucket_for_each_element() {
    let query = "SELECT id FROM todos WHERE auth.user_id() IN meta";
    check(
        query,
        r#"t1|u1|7|t|["u1", "u2", "u1", null, 3.0]"#,
        expect![[r#"
        s|0["u1"] todos/t1 {"id":"t1"}
        s|0["u2"] todos/t1 {"id":"t1"}
        s|0[3] todos/t1 {"id":"t1"}
    "#]],
    );
    check(query, "t1|u1|7|t|~", expect![[r#""#]]);
    check(query, "t1|u1|7|t|[]", expect![[r#""#]]);
    check(
        query,
        r#"t1|u1|7|t|{"a": 1}"#,
        expect![[r#"
        error s|0: a value is not a JSON array
    "#]],
    );
    check(
        query,
        "t1|u1|7|t|[1",
        expect![[r#"
        error s|0: a value is not valid JSON
    "#]],
    );
}

#[test]
fn alternatives_are_variants() {
    check(
        "SELECT id FROM todos WHERE owner_id = auth.user_id() OR n = auth.parameter('n') OR done",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
            s|1[7] todos/t1 {"id":"t1"}
            s|2[] todos/t1 {"id":"t1"}
        "#]],
    );
    check(
        "SELECT id FROM todos WHERE auth.user_id() IN (owner_id, id)",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
            s|0["t1"] todos/t1 {"id":"t1"}
        "#]],
    );
    check(
        "SELECT id FROM todos WHERE NOT (NOT (owner_id = auth.user_id()) AND NOT (n = 7))",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
            s|1[] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn alternatives_that_differ_in_filters_only_are_one() {
    let yaml = stream(
        "SELECT id FROM todos WHERE (owner_id = auth.user_id() AND n = 1) \
         OR (owner_id = auth.user_id() AND done)",
    );
    assert_eq!(compile(&yaml).definitions().len(), 1);
    let config = compile(&yaml);
    let values = ["a|u1|1|f|~", "b|u1|2|t|~", "c|u1|1|t|~", "d|u1|2|f|~"];
    expect![[r#"
        s|0["u1"] todos/a {"id":"a"}
        s|0["u1"] todos/b {"id":"b"}
        s|0["u1"] todos/c {"id":"c"}
    "#]]
    .assert_eq(&rows(&config, &table(TODOS), &values));
}

#[test]
fn an_inner_query_is_a_lookup() {
    let yaml = stream(
        "SELECT * FROM lists WHERE org_id IN \
         (SELECT org FROM members WHERE usr = auth.user_id() AND role != 'guest')",
    );
    let config = compile(&yaml);
    expect![[r#"
        s|0["o1"] lists/l1 {"id":"l1","org_id":"o1"}
    "#]]
    .assert_eq(&rows(&config, &table("lists(id text, org_id text)"), &["l1|o1"]));
    let members = table("members(org text, usr text, role text)");
    let values = ["o1|u1|admin", "o1|u1|guest", "~|u1|admin", "o1|~|admin", "o1|u1|~"];
    expect![[r#"
        lookup 0 ["u1"] -> ["o1"]
    "#]]
    .assert_eq(&rows(&config, &members, &values));
}

#[test]
fn a_table_may_be_data_and_lookup_at_once() {
    let yaml = stream(
        "SELECT m.* FROM members m WHERE m.org IN \
         (SELECT org FROM members WHERE usr = auth.user_id())",
    );
    let config = compile(&yaml);
    let members = table("members(id text, org text, usr text)");
    expect![[r#"
        s|0["o1"] m/m1 {"id":"m1","org":"o1","usr":"u1"}
        lookup 0 ["u1"] -> ["o1"]
    "#]]
    .assert_eq(&rows(&config, &members, &["m1|o1|u1"]));
}

#[test]
fn alternatives_of_an_inner_query_are_variants() {
    let yaml = stream(
        "SELECT id FROM lists WHERE org_id IN \
         (SELECT org FROM members WHERE usr = auth.user_id() OR public)",
    );
    let config = compile(&yaml);
    expect![[r#"
        s|0["o1"] lists/l1 {"id":"l1"}
        s|1["o1"] lists/l1 {"id":"l1"}
    "#]]
    .assert_eq(&rows(&config, &table("lists(id text, org_id text)"), &["l1|o1"]));
    let members = table("members(org text, usr text, public bool)");
    expect![[r#"
        lookup 0 ["u1"] -> ["o1"]
        lookup 1 [] -> ["o1"]
        lookup 0 ["u1"] -> ["o2"]
    "#]]
    .assert_eq(&rows(&config, &members, &["o1|u1|t", "o2|u1|f"]));
}

#[test]
fn queries_that_are_instantiated_alike_share_their_buckets() {
    let yaml = "config: {edition: 3}\nstreams:\n  s:\n    queries:\n      \
        - SELECT id FROM lists WHERE owner = auth.user_id()\n      \
        - SELECT id FROM todos WHERE owner_id = auth.user_id()\n      \
        - SELECT id FROM todos WHERE owner_id = auth.parameter('x')\n      \
        - SELECT id FROM todos AS again\n";
    let config = compile(yaml);
    let names: Vec<&str> = config.definitions().iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["s|0", "s|1", "s|2"]);
    expect![[r#"
        s|0["u1"] lists/l1 {"id":"l1"}
    "#]]
    .assert_eq(&rows(&config, &table("lists(id text, owner text)"), &["l1|u1"]));
    expect![[r#"
        s|0["u1"] todos/t1 {"id":"t1"}
        s|1["u1"] todos/t1 {"id":"t1"}
        s|2[] again/t1 {"id":"t1"}
    "#]]
    .assert_eq(&rows(&config, &table(TODOS), &["t1|u1|7|t|~"]));
}

#[test]
fn of_equal_objects_in_a_bucket_the_last_query_wins() {
    let yaml = "config: {edition: 3}\nstreams:\n  s:\n    queries:\n      \
        - SELECT id, 1 AS v FROM todos\n      - SELECT id, 2 AS v FROM todos\n";
    expect![[r#"
        s|0[] todos/t1 {"id":"t1","v":2}
    "#]]
    .assert_eq(&row(yaml, TODOS, "t1|u1|7|t|~"));
}

#[test]
fn a_row_that_cannot_be_evaluated_is_an_error_of_its_query_only() {
    let yaml = "config: {edition: 3}\nstreams:\n  a: {query: SELECT id FROM todos}\n  \
        b: {query: \"SELECT id, meta ->> 'x' AS x FROM todos\"}\n";
    expect![[r#"
        a|0[] todos/t1 {"id":"t1"}
        error b|0: a value is not valid JSON
    "#]]
    .assert_eq(&row(yaml, TODOS, "t1|u1|7|t|{"));
}

#[test]
fn too_many_elements_are_an_error_of_the_row() {
    let yaml = stream("SELECT id FROM t WHERE auth.user_id() IN a AND auth.parameter('x') IN b");
    let items: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let array = format!("[{}]", items.join(","));
    let found = row(&yaml, "t(id text, a json, b json)", &format!("t1|{array}|{array}"));
    expect![[r#"
        error s|0: too many combinations of array elements
    "#]]
    .assert_eq(&found);
}

#[test]
fn bucket_definitions_without_parameters_are_one_bucket() {
    check_definition(
        &[],
        &["SELECT * FROM todos"],
        "t1|u1|7|t|~",
        expect![[r#"
        b[] todos/t1 {"id":"t1","owner_id":"u1","n":7,"done":1,"meta":null}
    "#]],
    );
}

#[test]
fn keywords_are_names_where_they_can_be_nothing_else() {
    let yaml = stream(
        "SELECT id, interval, trim, t.date, \"order\", user FROM t \
         WHERE exists = 1 AND interval = 2 AND timestamp IS NOT NULL",
    );
    let spec = "t(id text, interval int4, trim text, date text, order text, user text, exists int4, \
                timestamp text)";
    expect![[r#"
        s|0[] t/1 {"id":"1","interval":2,"trim":"a","date":"b","order":"c","user":"d"}
    "#]]
    .assert_eq(&row(&yaml, spec, "1|2|a|b|c|d|1|x"));
}

#[test]
fn an_empty_list_of_parameters_is_as_none() {
    let yaml = "bucket_definitions: {b: {parameters: [], data: [SELECT id FROM todos]}}";
    expect![[r#"
        b[] todos/t1 {"id":"t1"}
    "#]]
    .assert_eq(&row(yaml, TODOS, "t1|u1|7|t|~"));
}

#[test]
fn bucket_parameters_are_matched_by_data_queries() {
    check_definition(
        &["SELECT request.user_id() AS u, request.jwt() ->> 'org' AS o"],
        &["SELECT id FROM todos WHERE n = bucket.o AND bucket.u = owner_id AND done"],
        "t1|u1|7|t|~",
        expect![[r#"
            b["u1",7] todos/t1 {"id":"t1"}
        "#]],
    );
    check_definition(
        &["SELECT request.user_id() AS u"],
        &["SELECT id FROM todos WHERE bucket.u IN meta"],
        r#"t1|u1|7|t|["a","b"]"#,
        expect![[r#"
            b["a"] todos/t1 {"id":"t1"}
            b["b"] todos/t1 {"id":"t1"}
        "#]],
    );
    check_definition(
        &["SELECT request.user_id() AS u"],
        &["SELECT id FROM todos WHERE owner_id = bucket.u OR id = bucket.u"],
        "t1|u1|7|t|~",
        expect![[r#"
            b["u1"] todos/t1 {"id":"t1"}
            b["t1"] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn a_parameter_query_of_a_table_is_a_lookup() {
    let yaml = definition(
        &["SELECT id AS list_id, request.user_id() AS u, kind FROM lists \
           WHERE owner = request.user_id() AND NOT hidden"],
        &["SELECT id FROM todos \
           WHERE list_id = bucket.list_id AND u = bucket.u AND kind = bucket.kind"],
    );
    let config = compile(&yaml);
    let lists = table("lists(id text, owner text, kind int4, hidden bool)");
    expect![[r#"
        lookup 0 ["u1"] -> ["l1",3]
    "#]]
    .assert_eq(&rows(&config, &lists, &["l1|u1|3|f", "l2|u1|3|t", "l3|u1|~|f"]));
    let todos = table("todos(id text, list_id text, u text, kind int4)");
    expect![[r#"
        b["l1","u1",3] todos/t1 {"id":"t1"}
    "#]]
    .assert_eq(&rows(&config, &todos, &["t1|l1|u1|3"]));
}

#[test]
fn the_star_of_bucket_definitions_skips_underscores() {
    let yaml = definition(&[], &["SELECT * FROM t"]);
    expect![[r#"
        b[] t/1 {"id":"1","a_b":"y"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, _hidden text, a_b text)", "1|x|y"));
    let yaml = definition(&[], &["SELECT *, _hidden FROM t"]);
    expect![[r#"
        b[] t/1 {"id":"1","a_b":"y","_hidden":"x"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, _hidden text, a_b text)", "1|x|y"));
    let yaml = stream("SELECT * FROM t");
    expect![[r#"
        s|0[] t/1 {"id":"1","_hidden":"x","a_b":"y"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, _hidden text, a_b text)", "1|x|y"));
}

#[test]
fn only_the_columns_that_are_used_are_read() {
    let yaml = stream("SELECT id, n + 1 AS m FROM todos WHERE done AND owner_id = auth.user_id()");
    let evaluator = compile(&yaml).bind(&table(TODOS)).unwrap().unwrap();
    assert_eq!(evaluator.columns_read(), [true, true, true, true, false]);
    let evaluator = compile(&stream("SELECT * FROM t")).bind(&table("t(id text, b bytea)"));
    assert_eq!(evaluator.unwrap().unwrap().columns_read(), [true, false]);
}

#[test]
fn an_output_is_cleared_before_it_is_used_again() {
    let yaml = stream("SELECT id FROM t WHERE auth.user_id() IN a");
    let config = compile(&yaml);
    let values = [r#"1|["a"]"#, "2|x", r#"3|["b"]"#];
    expect![[r#"
        s|0["a"] t/1 {"id":"1"}
        error s|0: a value is not valid JSON
        s|0["b"] t/3 {"id":"3"}
    "#]]
    .assert_eq(&rows(&config, &table("t(id text, a json)"), &values));
}

#[test]
fn what_a_json_path_means_depends_on_the_edition() {
    let spec = "t(id text, j json)";
    let values = r#"1|{"a": {"b": 1}, "a.b": 2}"#;
    let query = "SELECT id, j ->> 'a.b' AS plain, j ->> '$.a.b' AS dollar FROM t";
    let yaml = definition(&[], &[query]);
    expect![[r#"
        b[] t/1 {"id":"1","plain":2,"dollar":1}
    "#]]
    .assert_eq(&row(&yaml, spec, values));
    expect![[r#"
        b[] t/1 {"id":"1","plain":1,"dollar":1}
    "#]]
    .assert_eq(&row(&yaml.replace("edition: 2", "edition: 1"), spec, values));
    let fixed = yaml.replace("edition: 2", "edition: 1\n  fixed_json_extract: true");
    expect![[r#"
        b[] t/1 {"id":"1","plain":2,"dollar":1}
    "#]]
    .assert_eq(&row(&fixed, spec, values));
}

#[test]
fn elements_of_json_arrays_are_named_by_their_index() {
    let yaml = stream(
        "SELECT id, j ->> '$.a.1' AS a, j ->> '$.a.01' AS b, j ->> '$.a.-1' AS c, j ->> '$.a.9' AS d, \
         j -> '$.o.1' AS e, j ->> '$.o.1.x' AS f, j ->> '$' AS g FROM t",
    );
    let values = r#"1|{"a": ["x", "y"], "o": {"1": null}}"#;
    expect![[r#"
        s|0[] t/1 {"id":"1","a":"y","b":null,"c":null,"d":null,"e":"null","f":null,"g":"{\"a\":[\"x\",\"y\"],\"o\":{\"1\":null}}"}
    "#]].assert_eq(&row(&yaml, "t(id text, j json)", values));
}

#[test]
fn json_numbers_keep_what_they_are() {
    let yaml = stream("SELECT id, j ->> 'i' AS i, j ->> 'r' AS r, j -> 'a' AS a FROM t");
    let values = r#"1|{"i": 9007199254740993, "r": 1.0, "a": [1.0, 1e21, 1e-7, 9007199254740993]}"#;
    expect![[r#"
        s|0[] t/1 {"id":"1","i":9007199254740993,"r":1.0,"a":"[1.0,1e+21,1e-7,9007199254740993]"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, j json)", values));
}
