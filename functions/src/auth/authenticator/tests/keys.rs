//! Keys that cannot be used are refused at the start, by name.

use super::*;

fn refused(keys: &Value) -> String {
    let set = json!({ "keys": keys }).to_string();
    let error = Authenticator::new(&[set], vec!["app".to_owned()]).map(|_| ());
    error.expect_err("it must be refused").to_string()
}

#[test]
fn a_key_that_cannot_be_used_is_named() {
    let short = base64([1_u8; 31]);
    let refusals = [
        (json!([{ "kty": "oct", "kid": "a" }]), "key \"a\": \"k\" is missing"),
        (json!([{ "kty": "oct", "kid": "a", "k": "" }]), "key \"a\": the secret \"k\" is empty"),
        (json!([{ "kty": "oct", "k": "a+b/" }]), "key 1: \"k\" is not base64url"),
        (
            json!([{ "kty": "oct", "kid": "a", "k": "aaaa", "alg": "RS256" }]),
            "key \"a\": alg \"RS256\" does not fit the key: use HS256 or HS384 or HS512",
        ),
        (
            json!([{ "kty": "OKP", "kid": "o", "crv": "Ed448", "x": short }]),
            "key \"o\": Ed448 is not supported: use an Ed25519 key for EdDSA",
        ),
        (
            json!([{ "kty": "OKP", "kid": "o", "crv": "X25519", "x": short }]),
            "key \"o\": \"crv\" must be Ed25519",
        ),
        (json!([{ "kty": "DH" }]), "key 1: kty \"DH\" is not one of oct, RSA, EC and OKP"),
        (json!([{ "k": "aaaa" }]), "key 1: a member is missing or has the wrong type"),
        (
            json!([{ "kty": "oct", "kid": "a", "k": "aaaa" }, { "kty": "oct", "kid": "a", "k": "bbbb" }]),
            "key \"a\": another key has the same kid",
        ),
        (json!([]), "no key that can verify a token is configured"),
        (
            json!([{ "kty": "oct", "k": "aaaa", "use": "enc" }]),
            "no key that can verify a token is configured",
        ),
        (
            json!([{ "kty": "oct", "k": "aaaa", "key_ops": ["sign"] }]),
            "no key that can verify a token is configured",
        ),
    ];
    for (keys, expected) in refusals {
        assert_eq!(refused(&keys), expected);
    }

    let no_audience = Authenticator::new(&[r#"{"keys":[{"kty":"oct","k":"aaaa"}]}"#], vec![]);
    assert!(matches!(no_audience.map(|_| ()), Err(AuthConfigError::NoAudience)));

    let no_set = Authenticator::new(&["[]"], vec!["app".to_owned()]);
    assert!(matches!(no_set.map(|_| ()), Err(AuthConfigError::NotAJwkSet(_))));
}

#[test]
fn a_weak_or_malformed_public_key_is_named() {
    let weak = base64([0xFF_u8; 128]);
    let a_bit_short = base64([&[0x7F_u8], &[0xFF; 255][..]].concat());
    let even = base64([&[0xFF_u8; 255][..], &[0xFE]].concat());
    let large = base64([0xFF_u8; 1_025]);
    let right = base64([0xFF_u8; 256]);
    let short = base64([1_u8; 31]);
    let off = base64([1_u8; 32]);
    let zero = base64([0_u8; 48]);
    let far = base64([0xFF_u8; 66]);
    let exponent = "key \"r\": an RSA exponent \"e\" must be odd and at least 3; nearly all keys have \
                    65537 (\"AQAB\")";
    let refusals = [
        (
            json!([{ "kty": "RSA", "kid": "r", "n": weak, "e": "AQAB" }]),
            "key \"r\": an RSA modulus needs at least 2048 bits",
        ),
        (
            json!([{ "kty": "RSA", "kid": "r", "n": a_bit_short, "e": "AQAB" }]),
            "key \"r\": an RSA modulus needs at least 2048 bits",
        ),
        (
            json!([{ "kty": "RSA", "kid": "r", "n": even, "e": "AQAB" }]),
            "key \"r\": an RSA modulus must be odd, and have at most 8192 bits",
        ),
        (
            json!([{ "kty": "RSA", "kid": "r", "n": large, "e": "AQAB" }]),
            "key \"r\": an RSA modulus must be odd, and have at most 8192 bits",
        ),
        (json!([{ "kty": "RSA", "kid": "r", "n": right, "e": "AA" }]), exponent),
        (json!([{ "kty": "RSA", "kid": "r", "n": right, "e": "AQ" }]), exponent),
        (json!([{ "kty": "RSA", "kid": "r", "n": right, "e": "AAAAAQ" }]), exponent),
        (json!([{ "kty": "RSA", "kid": "r", "n": right, "e": "AQAA" }]), exponent),
        (json!([{ "kty": "RSA", "kid": "r", "n": right, "e": "________" }]), exponent),
        (json!([{ "kty": "RSA", "kid": "r", "n": right, "e": "" }]), exponent),
        (
            json!([{ "kty": "EC", "kid": "e", "crv": "P-256", "x": off, "y": off }]),
            "key \"e\": \"x\" and \"y\" are not a point of the curve P-256",
        ),
        (
            json!([{ "kty": "EC", "kid": "e", "crv": "P-384", "x": zero, "y": zero }]),
            "key \"e\": \"x\" and \"y\" are not a point of the curve P-384",
        ),
        (
            json!([{ "kty": "EC", "kid": "e", "crv": "P-521", "x": far, "y": far }]),
            "key \"e\": \"x\" and \"y\" are not a point of the curve P-521",
        ),
        (
            json!([{ "kty": "EC", "kid": "e", "crv": "P-256", "x": short, "y": short }]),
            "key \"e\": \"x\" must have 32 bytes for P-256",
        ),
        (
            json!([{ "kty": "EC", "kid": "e", "crv": "P-521", "x": short, "y": short }]),
            "key \"e\": \"x\" must have 66 bytes for P-521",
        ),
        (
            json!([{ "kty": "EC", "kid": "e", "crv": "secp256k1", "x": short, "y": short }]),
            "key \"e\": \"crv\" must be P-256, P-384 or P-521",
        ),
    ];

    for (keys, expected) in refusals {
        assert_eq!(refused(&keys), expected);
    }
}

/// Keys are published with exponents other than 65537, and with moduli that begin with a zero.
#[test]
fn unusual_public_keys_are_accepted() {
    let right = base64([0xFF_u8; 256]);
    let with_zero = base64([&[0_u8][..], &[0xFF; 256]].concat());
    for (n, e) in [(&right, "Aw"), (&right, "AAEAAQ"), (&right, "Af____8"), (&with_zero, "AQAB")] {
        let set = json!({ "keys": [{ "kty": "RSA", "kid": "r", "n": n, "e": e }] }).to_string();
        assert!(Authenticator::new(&[set], vec!["app".to_owned()]).is_ok(), "{n} {e}");
    }
}
