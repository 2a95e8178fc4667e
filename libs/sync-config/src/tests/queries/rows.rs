//! Output of a query for a row.

use super::*;

#[test]
fn a_star_selects_all_columns_in_table_order() {
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
fn bytea_columns_are_left_out_of_rows() {
    let yaml = stream("SELECT *, hex(b) AS h, CAST(id AS blob) AS c FROM t");
    expect![[r#"
        s|0[] t/x {"id":"x","h":"00FF"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, b bytea)", "x|\\x00ff"));
}

#[test]
fn columns_are_selected_by_name_alias_or_expression() {
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
fn a_later_column_replaces_an_earlier_one_of_its_name() {
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
fn a_number_id_becomes_a_text_object_id() {
    let yaml = stream("SELECT * FROM t");
    expect![[r#"
        s|0[] t/9007199254740993 {"id":9007199254740993}
    "#]]
    .assert_eq(&row(&yaml, "t(id int8)", "9007199254740993"));

    expect![[r#"
        s|0[] t/2 {"id":2.0}
    "#]]
    .assert_eq(&row(&yaml, "t(id float8)", "2"));

    expect![[r#"
        s|0[] t/2.5 {"id":2.5}
    "#]]
    .assert_eq(&row(&yaml, "t(id float8)", "2.5"));

    expect![[r#"
        s|0[] t/2.0 {"id":"2.0"}
    "#]]
    .assert_eq(&row(&yaml, "t(id numeric)", "2.0"));

    expect![[r#"
        s|0[] t/1 {"id":1}
    "#]]
    .assert_eq(&row(&yaml, "t(id bool)", "t"));
}

#[test]
fn a_null_or_blob_id_is_a_row_error() {
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
fn functions_evaluate_in_the_select_list() {
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
fn casts_and_arithmetic_agree_with_sqlite() {
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
fn an_evaluation_error_affects_only_its_query() {
    let yaml = "config: {edition: 3}\nstreams:\n  a: {query: SELECT id FROM todos}\n  \
        b: {query: \"SELECT id, meta ->> 'x' AS x FROM todos\"}\n";
    expect![[r#"
        a|0[] todos/t1 {"id":"t1"}
        error b|0: a value is not valid JSON, or is nested more than 1000 levels deep
    "#]]
    .assert_eq(&row(yaml, TODOS, "t1|u1|7|t|{"));
}

#[test]
fn too_many_array_elements_are_a_row_error() {
    let yaml = stream("SELECT id FROM t WHERE auth.user_id() IN a AND auth.parameter('x') IN b");
    let items: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let array = format!("[{}]", items.join(","));
    let found = row(&yaml, "t(id text, a json, b json)", &format!("t1|{array}|{array}"));
    expect![[r#"
        error s|0: its arrays have more than 10000 combinations of elements
    "#]]
    .assert_eq(&found);
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
fn rows_of_a_definition_contain_all_columns_if_each_of_its_queries_selects_them_as_they_are() {
    let contains = |query: &str, columns: &str| {
        let evaluator = compile(&stream(query)).bind(&table(columns)).unwrap().unwrap();
        evaluator.contains_all_columns(0)
    };
    assert!(contains("SELECT * FROM t", "t(id text, n int4)"));
    assert!(contains("SELECT n, id FROM t WHERE n = 1", "t(id text, n int4)"));
    assert!(contains("SELECT *, n + 1 AS m FROM t", "t(id text, n int4)"));
    assert!(!contains("SELECT id FROM t", "t(id text, n int4)"), "a column is left out");
    assert!(!contains("SELECT *, n + 1 AS n FROM t", "t(id text, n int4)"), "one is replaced");
    assert!(!contains("SELECT * FROM t", "t(id text, b bytea)"), "rows have no bytes");
}

#[test]
fn a_row_output_is_cleared_before_reuse() {
    let yaml = stream("SELECT id FROM t WHERE auth.user_id() IN a");
    let config = compile(&yaml);
    let values = [r#"1|["a"]"#, "2|x", r#"3|["b"]"#];
    expect![[r#"
        s|0["a"] t/1 {"id":"1"}
        error s|0: a value is not valid JSON, or is nested more than 1000 levels deep
        s|0["b"] t/3 {"id":"3"}
    "#]]
    .assert_eq(&rows(&config, &table("t(id text, a json)"), &values));
}

#[test]
fn json_path_semantics_depend_on_the_edition() {
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
fn elements_of_json_arrays_are_addressed_by_index() {
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
fn json_numbers_keep_their_type() {
    let yaml = stream("SELECT id, j ->> 'i' AS i, j ->> 'r' AS r, j -> 'a' AS a FROM t");
    let values = r#"1|{"i": 9007199254740993, "r": 1.0, "a": [1.0, 1e21, 1e-7, 9007199254740993]}"#;
    expect![[r#"
        s|0[] t/1 {"id":"1","i":9007199254740993,"r":1.0,"a":"[1.0,1e+21,1e-7,9007199254740993]"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, j json)", values));
}

#[test]
fn table_functions_return_its_name_and_schema() {
    let yaml = stream(
        "SELECT id, t.schema() AS s, t.table_name() AS n FROM app.todos AS t \
         WHERE t.table_name() = 'todos'",
    );
    expect![[r#"
        s|0[] t/1 {"id":"1","s":"app","n":"todos"}
    "#]]
    .assert_eq(&row(&yaml, "app.todos(id text)", "1"));
}
