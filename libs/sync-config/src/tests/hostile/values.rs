//! Rows, requests and lookup answers that are large, deeply nested, or numerous.

use serde_json::{Value as Json, json};

use super::super::{TestRequest, compile, stream, table};
use super::cpu_time::within_work_limit;
use crate::{Granted, RowOutput};

/// Evaluates a row and returns how many buckets hold it, and how many errors it has.
fn evaluate_row(query: &str, spec: &str, values: &[&str]) -> (usize, usize) {
    let config = compile(&stream(query));
    let evaluator = config.bind(&table(spec)).unwrap().unwrap();
    let values: Vec<Option<&str>> = values.iter().copied().map(Some).collect();
    let mut out = RowOutput::default();
    within_work_limit(query, || evaluator.evaluate(&values, &mut out));
    (out.buckets().count(), out.errors().len())
}

fn request(query: &str, claims: &Json, answer: &dyn Fn(usize) -> Vec<String>) -> Granted {
    let config = compile(&stream(query));
    let request = TestRequest {
        user_id: "u1".to_owned(),
        claims: claims.as_object().unwrap().clone(),
        parameters: None,
        include_defaults: true,
        subscriptions: vec![serde_json::from_value(json!({"stream": "s"})).unwrap()],
    };

    within_work_limit(query, || {
        let mut evaluation = config
            .prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED)
            .unwrap()
            .evaluation();
        let mut step = 0;
        while !evaluation.questions().is_empty() {
            let answers: Vec<_> = evaluation.questions().iter().map(|_| answer(step)).collect();
            evaluation.answer(&answers);
            step += 1;
        }
        evaluation.finish().unwrap()
    })
}

fn outcome(granted: &Granted) -> (usize, usize) {
    (granted.buckets.len(), granted.streams.iter().map(|stream| stream.errors.len()).sum())
}

#[test]
fn deep_json_is_evaluated_or_a_row_error() {
    for depth in [1, 100, 127, 128, 1_000, 200_000] {
        let array = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let object = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));

        let path = format!("$.{}", vec!["a"; depth].join("."));
        for value in [&array, &object, &path] {
            for query in [
                "SELECT id FROM t WHERE auth.user_id() IN v",
                "SELECT id FROM t WHERE 'x' IN v",
                "SELECT id FROM t WHERE v && v",
                "SELECT t.id FROM t, json_each(t.v) e WHERE e.value = auth.user_id()",
                "SELECT id, v ->> '$.a.0' AS a, v -> 'a' AS b, json_extract(v, '$.a') AS c FROM t",
                "SELECT id, json_keys(v) AS a, json_array_length(v) AS b, json_valid(v) AS c FROM t",
                "SELECT id, v ->> v AS a FROM t",
            ] {
                evaluate_row(query, "t(id text, v json)", &["1", value]);
                evaluate_row(query, "t(id text, v jsonb)", &["1", value]);
            }
        }

        // JSON is read up to 1,000 levels deep. The elements of a row are then one text, or
        // an error.
        let (buckets, errors) = evaluate_row(
            "SELECT id FROM t WHERE auth.user_id() IN v",
            "t(id text, v json)",
            &["1", &array],
        );

        assert_eq!(
            (buckets, errors),
            if depth == 1 {
                (0, 0)
            } else if depth <= 1_000 {
                (1, 0)
            } else {
                (0, 1)
            }
        );
    }

    let mut deep = json!("x");
    for _ in 0..120 {
        deep = json!([deep]);
    }

    let claims = json!({"x": deep, "y": {"z": deep}});
    for query in [
        "SELECT id FROM t WHERE a IN auth.parameter('x')",
        "SELECT id FROM t WHERE a = auth.parameter('x')",
        "SELECT id FROM t WHERE a = auth.parameters() ->> '$.y.z.0.0.0'",
        "SELECT id FROM t WHERE a = auth.parameters()",
    ] {
        assert_eq!(outcome(&request(query, &claims, &|_| Vec::new())), (1, 0), "{query}");
    }
}

#[test]
fn products_of_row_arrays_are_bounded() {
    let query = "SELECT t.id FROM t, json_each(t.a) x, json_each(t.b) y, json_each(t.c) z \
                 WHERE x.value = auth.parameter('x') AND y.value = auth.parameter('y') \
                 AND z.value = auth.parameter('z')";
    let spec = "t(id text, a json, b json, c json)";

    for (count, expected) in [(0, (0, 0)), (21, (9_261, 0)), (22, (0, 1)), (60_000, (0, 1))] {
        let array = Json::from((0..count).collect::<Vec<_>>()).to_string();
        assert_eq!(evaluate_row(query, spec, &["1", &array, &array, &array]), expected);
    }

    let array = Json::from((0..300_000).collect::<Vec<_>>()).to_string();
    let other = Json::from((300_000..600_000).collect::<Vec<_>>()).to_string();
    let query = "SELECT id FROM t WHERE a && b AND id = auth.user_id()";
    assert_eq!(evaluate_row(query, spec, &["1", &array, &other, "[]"]), (0, 0));

    let query = "SELECT id FROM t WHERE auth.user_id() IN a";
    assert_eq!(evaluate_row(query, spec, &["1", &array, &other, "[]"]), (0, 1));
}

#[test]
fn functions_take_linear_time_for_long_texts() {
    let text = "a".repeat(1 << 20);
    let other = format!("{}b", "a".repeat(1 << 19));
    let distinct: String = (0x4e00..0x9e00).filter_map(char::from_u32).collect();

    for function in [
        "upper(v)",
        "length(v)",
        "hex(v)",
        "base64(v)",
        "instr(v, w)",
        "instr(w, v)",
        "substring(v, 5000, 5000)",
        "replace(v, 'aa', 'b')",
        "replace(v, w, 'b')",
        "trim(v, w)",
        "ltrim(w, v)",
        "rtrim(v, 'a')",
        "v || w",
        "v = w",
        "v < w",
        "CAST(v AS integer)",
        "CAST(v AS numeric)",
        "v + w",
        "datetime(v)",
        "unixepoch(v)",
        "json_extract(v, '$.a')",
        "v ->> w",
        "round(v)",
        "v IN (w, v, w)",
        "CASE v WHEN w THEN 1 WHEN v THEN 2 END",
        "v LIKE '%a%a%a%a%a%a%a%b'",
        "v LIKE '%a_a%b%'",
        "v LIKE 'a%%%%%%%%%%%%%%%%%%%%%b'",
        "NOT v LIKE '%_a_b%_c'",
        "uuid_blob(v)",
        "st_x(v)",
        "st_astext(v)",
    ] {
        let query = format!("SELECT id, {function} AS x FROM t");
        for (v, w) in [(&text, &other), (&distinct, &distinct), (&other, &distinct)] {
            let (buckets, errors) =
                evaluate_row(&query, "t(id text, v text, w text)", &["1", v, w]);
            assert_eq!(buckets + errors, 1, "{query}");
        }
    }
}

/// Each combination writes a key of its own, with the long column in it.
#[test]
fn the_keys_of_a_row_are_bounded_in_bytes() {
    let query = "SELECT id FROM t WHERE v = auth.parameter('v') AND auth.user_id() IN w";
    for (length, expected) in [(1_000, (10_000, 0)), (2_000, (0, 1)), (400_000, (0, 1))] {
        let long = "x".repeat(length);
        let users: Vec<String> = (0..10_000).map(|user| format!("\"u{user}\"")).collect();
        let users = format!("[{}]", users.join(","));
        let found = evaluate_row(query, "t(id text, v text, w json)", &["1", &long, &users]);
        assert_eq!(found, expected, "{length} bytes");
    }
}

#[test]
fn products_of_request_arrays_are_bounded() {
    let query = "SELECT id FROM t WHERE a IN auth.parameter('x') AND b IN auth.parameter('y')";
    for (count, expected) in [(100, (10_000, 0)), (101, (0, 1)), (100_000, (0, 1))] {
        let array: Vec<usize> = (0..count).collect();
        let claims = json!({"x": array, "y": array});
        assert_eq!(outcome(&request(query, &claims, &|_| Vec::new())), expected);
    }

    let (array, other): (Vec<_>, Vec<_>) = ((0..100_000).collect(), (100_000..200_000).collect());
    let claims = json!({"x": array, "y": other});
    let query = "SELECT id FROM t WHERE auth.parameter('x') && auth.parameter('y')";
    assert_eq!(outcome(&request(query, &claims, &|_| Vec::new())), (0, 0));

    let query = "SELECT t.id FROM t, json_each(auth.parameter('x')) x, \
                 json_each(auth.parameter('y')) y WHERE x.value = y.value AND x.value = t.a";
    let (buckets, errors) = outcome(&request(query, &claims, &|_| Vec::new()));
    assert_eq!((buckets, errors), (0, 1));
}

fn number_answers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("[{n}]")).collect::<Vec<_>>()
}

#[test]
fn lookup_answers_are_bounded() {
    let query = "SELECT id FROM t WHERE a IN (SELECT x FROM u WHERE y IN \
                 (SELECT p FROM v WHERE q = auth.user_id()))";
    let few = request(query, &json!({}), &|_| number_answers(50));
    assert_eq!(outcome(&few), (50, 0));

    let many =
        request(query, &json!({}), &|step| number_answers(if step == 0 { 9_000 } else { 200 }));
    assert_eq!(outcome(&many), (0, 1));

    let wide = request(query, &json!({}), &|_| number_answers(10_001));
    assert_eq!(outcome(&wide), (0, 1));

    // An output that no lookup index writes is ignored.
    for junk in ["", "[", "{}", "[1,2]", "[[[[", "null", "\u{0}"] {
        let granted = request(query, &json!({}), &|_| vec![junk.to_owned()]);
        assert_eq!(outcome(&granted), (0, 0), "{junk}");
    }
}

#[test]
fn a_like_pattern_with_too_many_steps_is_an_error() {
    let text = "a".repeat(1 << 20);
    // At each position all of the pattern but its end matches.
    for (length, expected) in [(2, (0, 0)), (1_000, (0, 1))] {
        let query = format!("SELECT id FROM t WHERE v LIKE '%{}b'", "a".repeat(length));
        assert_eq!(evaluate_row(&query, "t(id text, v text)", &["1", &text]), expected);
    }
}
