//! Operators, and the SQLite functions that only edition 3 has.

use super::*;

#[test]
fn between_compares_with_both_bounds() {
    check(&[
        ("i BETWEEN 7 AND 7", "1"),
        ("i BETWEEN 8 AND 9", "0"),
        ("i BETWEEN 9 AND 8", "0"),
        ("i NOT BETWEEN 1 AND 6.5", "1"),
        ("s BETWEEN 'a' AND 'b'", "1"),
        ("i BETWEEN 1 AND 'x'", "1"),
        ("n BETWEEN 1 AND 2", "null"),
        ("i BETWEEN n AND 8", "null"),
        ("1 + i BETWEEN 1 + 7 AND 8 AND TRUE", "1"),
    ]);

    check_both(&[
        ("i BETWEEN n AND 6", "null", "0"),
        ("i BETWEEN 8 AND n", "null", "0"),
        ("i NOT BETWEEN n AND 8", "1", "null"),
    ]);
}

#[test]
fn case_returns_the_first_branch_that_is_true() {
    check(&[
        ("CASE WHEN n THEN 1 WHEN i = 7 THEN 2 WHEN TRUE THEN 3 ELSE 4 END", "2"),
        ("CASE WHEN 'x' THEN 1 ELSE 4 END", "4"),
        ("CASE WHEN n THEN 1 END", "null"),
        ("CASE i WHEN 1 THEN 'one' WHEN 7.0 THEN 'seven' END", "\"seven\""),
        ("CASE n WHEN NULL THEN 1 ELSE 2 END", "2"),
        ("CASE i WHEN '7' THEN 1 ELSE 2 END", "2"),
        // Branches that are not chosen are not evaluated.
        ("CASE WHEN json_valid(s) THEN s ->> 'x' ELSE 'none' END", "\"none\""),
    ]);
}

/// `IS TRUE` compares with 1, as in the PowerSync service.
#[test]
fn is_compares_null_as_a_value() {
    check(&[
        ("n IS NOT DISTINCT FROM NULL", "1"),
        ("n IS DISTINCT FROM 7", "1"),
        ("i IS DISTINCT FROM 7.0", "0"),
        ("i IS NOT DISTINCT FROM 7", "1"),
        ("(i = 7) IS TRUE", "1"),
        ("i IS TRUE", "0"),
        ("n IS TRUE", "0"),
        ("n IS NOT TRUE", "1"),
        ("(i = 8) IS FALSE", "1"),
        ("n IS FALSE", "0"),
        ("n IS NOT FALSE", "1"),
        ("'1' IS TRUE", "0"),
    ]);
}

#[test]
fn remainder_and_bit_operators_convert_to_integers() {
    check(&[
        ("i % 4", "3"),
        ("-i % 4", "-3"),
        ("i % -4", "3"),
        ("7.9 % 4", "3.0"),
        ("i % 0", "null"),
        ("i % 0.5", "null"),
        ("i % n", "null"),
        ("(-9223372036854775807 - 1) % -1", "0"),
        ("i & 3", "3"),
        ("i | 8", "15"),
        ("r & 3", "2"),
        ("-2.5 & -1", "-2"),
        ("'6x' & 3", "2"),
        ("n | 1", "null"),
        ("1 << 4", "16"),
        ("1 << 63", "-9223372036854775808"),
        ("1 << 64", "0"),
        ("-16 >> 2", "-4"),
        ("-16 >> 64", "-1"),
        ("16 >> 64", "0"),
        ("1 << -1", "0"),
        ("4 >> -2", "16"),
        ("1 >> (-9223372036854775807 - 1)", "0"),
        ("n << 1", "null"),
    ]);
}

#[test]
fn signs_may_precede_any_expression() {
    check(&[
        ("-i", "-7"),
        ("- - i", "7"),
        ("-(i + 1) * 2", "-16"),
        ("-r", "-2.5"),
        ("-'3x'", "-3"),
        ("-s", "0"),
        ("+s", "\"aßÉ😀\""),
        ("-n", "null"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-(-9223372036854775808)", "9223372036854776000.0"),
    ]);
}

#[test]
fn like_ignores_the_case_of_ascii_letters() {
    check(&[
        ("'abc' LIKE 'A%'", "1"),
        ("'abc' ILIKE 'A%'", "1"),
        ("'abc' NOT LIKE 'A%'", "0"),
        ("'abc' LIKE 'bc'", "0"),
        ("'abc' LIKE '%b%'", "1"),
        ("'abc' LIKE 'a_'", "0"),
        ("'abc' LIKE '___'", "1"),
        ("'' LIKE '%'", "1"),
        ("'' LIKE ''", "1"),
        ("'' LIKE '_'", "0"),
        ("'aab' LIKE '%ab'", "1"),
        ("'abab' LIKE '%ab_%'", "1"),
        ("'a%c' LIKE 'a!%c' ESCAPE '!'", "1"),
        ("'abc' LIKE 'a!%c' ESCAPE '!'", "0"),
        ("'a_' LIKE 'a__' ESCAPE '_'", "1"),
        ("s LIKE 'AßÉ_'", "1"),
        ("s LIKE 'Aßé_'", "0"),
        ("i LIKE '7'", "1"),
        ("b LIKE 'aé'", "1"),
        ("n LIKE '%'", "null"),
        ("'a' || 'b' LIKE 'AB' AND i = 7", "1"),
    ]);
}

#[test]
fn in_accepts_a_list_of_values() {
    check(&[
        ("i IN ARRAY[1, 7.0]", "1"),
        ("i IN ARRAY['7']", "0"),
        ("i IN ROW(7)", "1"),
        ("i NOT IN ROW(1, 2)", "1"),
        ("n IN ARRAY[1]", "null"),
        ("i IN ARRAY[-7, 7, TRUE, NULL] AND TRUE", "1"),
        ("i IN ARRAY[1] OR i = 7", "1"),
    ]);
    check_both(&[("i NOT IN ARRAY[1, NULL]", "1", "null")]);
}

#[test]
fn arrays_overlap_if_they_share_a_value() {
    check(&[
        ("'[1, 2]' && '[3, 2.0]'", "1"),
        ("'[1, 2]' && '[\"1\", 3]'", "0"),
        ("'[\"b\", 9, \"a\", 1]' && '[0, 5, \"a\"]'", "1"),
        ("'[]' && '[1]'", "0"),
        ("'[null]' && '[null]'", "0"),
        ("(j -> 'k') && '[\"x\"]'", "1"),
        ("n && '[1]'", "null"),
        ("'[1]' && s", "a value is not valid JSON, or is nested more than 1000 levels deep"),
        ("'{\"a\": 2}' && '[1, 2]'", "1"),
        ("'{}' && '[1]'", "0"),
        ("'1' && '[1, 2]'", "1"),
        ("'5' && '[5.0]'", "1"),
        ("'null' && '[null]'", "0"),
        ("b && '[7]'", "a value is not a JSON array"),
    ]);

    check_both(&[("i && '[7]'", "a value is not a JSON array", "1")]);
}

#[test]
fn overlap_on_the_request_decides_access() {
    let yaml = stream(
        "SELECT id FROM t WHERE auth.parameter('roles') && connection.parameter('roles') AND s = 'x'",
    );
    let yaml = yaml.replace("  s:\n", "  s:\n    auto_subscribe: true\n");

    for (roles, is_granted) in [("[2.0]", true), ("[\"2\"]", false), ("null", false)] {
        let request =
            format!(r#"{{"claims": {{"roles": ["a", 2]}}, "parameters": {{"roles": {roles}}}}}"#);
        let granted = crate::tests::granted(&yaml, &request, &[]);
        assert_eq!(granted.contains("s|0[] priority"), is_granted, "{roles}: {granted}");
    }
}

#[test]
fn row_and_request_expressions_share_all_operators() {
    let yaml = stream(
        "SELECT id FROM t WHERE coalesce(n, s) = replace(auth.user_id(), 'u', 'v') \
         AND CASE auth.parameter('role') WHEN 'admin' THEN TRUE END \
         AND auth.parameter('age') BETWEEN 18 AND 99 AND i NOT BETWEEN 1 AND 2 AND s LIKE '%x'",
    );
    let values = r"1|7|2.5|ax|~|[]|\x";

    assert_eq!(row(&yaml, SPEC, values), "s|0[\"ax\"] t/1 {\"id\":\"1\"}\n");
    assert_eq!(row(&yaml, SPEC, r"1|2|2.5|ax|~|[]|\x"), "");

    let yaml = yaml.replace("  s:\n", "  s:\n    auto_subscribe: true\n");
    for (claims, start) in [
        (r#"{"role": "admin", "age": 18}"#, "s|0[\"v1\"] priority 3"),
        (r#"{"role": "admin", "age": 17}"#, "stream s"),
        (r#"{"role": "guest", "age": 18}"#, "stream s"),
    ] {
        let request = format!(r#"{{"sub": "u1", "claims": {claims}}}"#);
        let granted = crate::tests::granted(&yaml, &request, &[]);
        assert!(granted.starts_with(start), "{claims}: {granted}");
    }
}

#[test]
fn sqlite_functions_return_sqlite_values() {
    check(&[
        ("coalesce(n, NULL, i, 1)", "7"),
        ("coalesce(n, NULL)", "null"),
        ("coalesce(i, j -> i)", "7"),
        ("nullif(i, 7.0)", "null"),
        ("nullif(i, '7')", "7"),
        ("nullif(n, 1)", "null"),
        ("nullif(i, n)", "7"),
        ("abs(-i)", "7"),
        ("abs(-r)", "2.5"),
        ("abs('-3x')", "3.0"),
        ("abs(s)", "0.0"),
        ("abs(n)", "null"),
        ("abs(-9223372036854775808)", "an integer is beyond 64 bits"),
        ("round(r)", "3.0"),
        ("round(-r)", "-3.0"),
        ("round(i)", "7.0"),
        ("round(2.675, 2)", "2.67"),
        ("round(0.125, 2)", "0.13"),
        ("round(9.995, 2)", "9.99"),
        ("round(999.96875, 4)", "999.9688"),
        ("round(9.9999, 2)", "10.0"),
        ("round(1e-50, 30)", "0.0"),
        ("round(-0.004, 2)", "0.0"),
        ("round(10000.8850916345, 9)", "10000.885091634"),
        ("round(123.4, -1)", "123.0"),
        ("round(1e300, 2)", "1e+300"),
        ("round(r, n)", "null"),
        ("round(n)", "null"),
        ("trim('  a ')", "\"a\""),
        ("ltrim('  a ')", "\"a \""),
        ("rtrim('  a ')", "\"  a\""),
        ("trim('xyaxbyx', 'xy')", "\"axb\""),
        ("ltrim('xyax', 'xy')", "\"ax\""),
        ("rtrim(s, '😀É')", "\"aß\""),
        ("trim('xx', 'x')", "\"\""),
        ("trim('\ta', '')", "\"\\ta\""),
        ("trim('a', n)", "null"),
        ("trim(n)", "null"),
        ("trim(i)", "\"7\""),
        ("TRIM(LEADING 'x' FROM 'xax')", "\"ax\""),
        ("TRIM(TRAILING 'x' FROM 'xax')", "\"xa\""),
        ("TRIM(BOTH 'x' FROM 'xax')", "\"a\""),
        ("TRIM('x' FROM 'xax')", "\"a\""),
        ("replace('aXbX', 'X', 'yy')", "\"ayybyy\""),
        ("replace('aaa', 'aa', 'b')", "\"ba\""),
        ("replace('a', '', 'b')", "\"a\""),
        ("replace('a', 'b', n)", "null"),
        ("replace('a', n, 'b')", "null"),
        ("replace(i, 7, 8)", "\"8\""),
    ]);
}
