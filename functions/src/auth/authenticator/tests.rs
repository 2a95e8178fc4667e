use aws_lc_rs::hmac;
use aws_lc_rs::rsa::KeySize;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt;
use serde_json::{Map, Value, json};

use super::*;
use crate::auth::error::AuthError;
use issuer::{Issuer, base64};

mod issuer;
mod keys;
mod providers;
mod published;
mod publisher;

const NOW: i64 = 1_800_000_000;

fn secret(kid: Option<&str>) -> Issuer {
    Issuer::oct(kid, "HS256", b"a secret that is long enough to be one")
}

fn authenticator(issuers: &[&Issuer]) -> Authenticator {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk.clone()).collect();
    let set = json!({ "keys": keys }).to_string();
    Authenticator::new(&[set], vec!["app".to_owned(), "other-app".to_owned()]).unwrap()
}

fn claims() -> Value {
    json!({ "sub": "u1", "iat": NOW - 10, "exp": NOW + 3_600, "aud": "app" })
}

fn changed(change: impl FnOnce(&mut Map<String, Value>)) -> Value {
    let mut claims = claims();
    change(claims.as_object_mut().unwrap());
    claims
}

/// Returns the claims with one replaced or added.
fn claims_with(name: &str, value: Value) -> Value {
    changed(|claims| drop(claims.insert(name.to_owned(), value)))
}

fn check(auth: &Authenticator, token: &str) -> Result<Verified, AuthError> {
    check_header(auth, Some(format!("Bearer {token}").as_bytes()))
}

fn check_header(auth: &Authenticator, header: Option<&[u8]>) -> Result<Verified, AuthError> {
    let verdict = auth.check(header, NOW).now_or_never().expect("known keys need no waiting");
    verdict.map_err(|refusal| refusal.error())
}

/// Returns the verdict on a token with these claims and a right signature.
fn verdict(claims: &Value) -> Result<String, AuthError> {
    let issuer = secret(Some("k1"));
    check(&authenticator(&[&issuer]), &issuer.token(claims)).map(|verified| verified.user_id)
}

#[test]
fn a_token_of_each_algorithm_is_accepted() {
    let issuers = [
        Issuer::oct(Some("k256"), "HS256", b"a secret that is long enough to be one"),
        Issuer::oct(Some("k384"), "HS384", b"another that is long enough to be one too, it is"),
        Issuer::oct(Some("k512"), "HS512", b"a third that is long enough to be one too, it is."),
        Issuer::rsa("r256", "RS256", KeySize::Rsa2048),
        Issuer::rsa("r384", "RS384", KeySize::Rsa3072),
        Issuer::rsa("r512", "RS512", KeySize::Rsa2048),
        Issuer::ec("e256", "ES256"),
        Issuer::ec("e384", "ES384"),
        Issuer::ec("e512", "ES512"),
        Issuer::ed25519("ed"),
    ];

    let auth = authenticator(&issuers.iter().collect::<Vec<_>>());
    for issuer in &issuers {
        let token = issuer.token(&claims());
        let verified = check(&auth, &token).unwrap();
        assert_eq!((&*verified.user_id, verified.expires_at), ("u1", NOW + 3_600));
        assert_eq!(Value::Object(verified.claims), claims());

        // One changed character makes the signature invalid.
        let (head, last) = token.split_at(token.len() - 3);
        let forged = format!("{head}{}", if last.starts_with('A') { "BAA" } else { "AAA" });
        assert_eq!(check(&auth, &forged).unwrap_err(), AuthError::Invalid, "{}", issuer.alg);
    }
}

/// Returns the error of a request with this header, if any.
fn header_error(auth: &Authenticator, header: &str) -> Option<AuthError> {
    check_header(auth, Some(header.as_bytes())).map(|_| ()).err()
}

#[test]
fn a_token_follows_token_or_bearer_and_nothing_else() {
    let issuer = secret(Some("k1"));
    let auth = authenticator(&[&issuer]);
    let token = issuer.token(&claims());
    assert_eq!(header_error(&auth, &format!("Token {token}")), None);
    assert_eq!(header_error(&auth, &format!("Bearer {token}")), None);
    assert_eq!(check_header(&auth, None).unwrap_err(), AuthError::Missing);
    assert_eq!(header_error(&auth, &format!("Basic {token}")), Some(AuthError::Missing));
    assert_eq!(header_error(&auth, &token), Some(AuthError::Missing));

    for header in [format!("Token  {token}"), format!("Token {token} x"), "Token ".to_owned()] {
        assert_eq!(header_error(&auth, &header), Some(AuthError::Invalid), "{header}");
    }

    assert_eq!(check_header(&auth, Some(b"Token \xFF\xFE")).unwrap_err(), AuthError::Invalid);

    let huge = format!("Token {}", "a".repeat(1 << 20));
    assert_eq!(header_error(&auth, &huge), Some(AuthError::Invalid));
}

#[test]
fn the_algorithm_is_never_taken_from_the_token_alone() {
    let hs = secret(Some("hs"));
    let rs = Issuer::rsa("rs", "RS256", KeySize::Rsa2048);
    let es = Issuer::ec("es", "ES256");
    let auth = authenticator(&[&hs, &rs, &es]);
    let payload = claims().to_string();

    for alg in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "PS256", "ES512", "RS1"] {
        let header = json!({ "alg": alg, "kid": "hs" });
        let token = hs.token_with(&header, &payload);
        assert_eq!(check(&auth, &token).unwrap_err(), AuthError::Invalid, "{alg}");

        let unsigned = format!("{}.{}.", base64(header.to_string()), base64(&payload));
        assert_eq!(check(&auth, &unsigned).unwrap_err(), AuthError::Invalid, "{alg}");
    }

    for header in [json!({ "kid": "hs" }), json!({ "alg": 5, "kid": "hs" }), json!([])] {
        let token = hs.token_with(&header, &payload);
        assert_eq!(check(&auth, &token).unwrap_err(), AuthError::Invalid, "{header}");
    }
}

/// Returns the bytes of a member of the issuer's key.
fn decoded(issuer: &Issuer, member: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(issuer.jwk[member].as_str().unwrap()).unwrap()
}

#[test]
fn a_public_key_is_never_used_as_an_hmac_secret() {
    let rs = Issuer::rsa("rs", "RS256", KeySize::Rsa2048);
    let es = Issuer::ec("es", "ES256");
    let auth = authenticator(&[&rs, &es]);

    let mut point = vec![4];
    point.extend(decoded(&es, "x"));
    point.extend(decoded(&es, "y"));

    let secrets = [
        decoded(&rs, "n"),
        rs.jwk["n"].as_str().unwrap().into(),
        point,
        rs.jwk.to_string().into(),
        es.jwk.to_string().into(),
    ];

    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        for kid in [json!("rs"), json!("es"), Value::Null] {
            let header = base64(json!({ "alg": "HS256", "kid": kid }).to_string());
            let message = format!("{header}.{}", base64(claims().to_string()));
            let signature = base64(hmac::sign(&key, message.as_bytes()));
            let token = format!("{message}.{signature}");
            assert_eq!(check(&auth, &token).unwrap_err(), AuthError::Invalid);
        }
    }
}

#[test]
fn a_key_is_used_with_its_own_algorithm_and_curve() {
    let mut only = Issuer::rsa("only", "RS512", KeySize::Rsa2048);
    only.jwk["alg"] = "RS256".into();
    let p256 = Issuer::ec("p256", "ES256");
    let p384 = Issuer::ec("p384", "ES384");
    let auth = authenticator(&[&only, &p256, &p384]);
    assert_eq!(check(&auth, &only.token(&claims())).unwrap_err(), AuthError::Invalid);

    let crossed = p384.token_with(&json!({ "alg": "ES384", "kid": "p256" }), &claims().to_string());
    assert_eq!(check(&auth, &crossed).unwrap_err(), AuthError::Invalid);

    let renamed = p384.token_with(&json!({ "alg": "ES256", "kid": "p384" }), &claims().to_string());
    assert_eq!(check(&auth, &renamed).unwrap_err(), AuthError::Invalid);

    // A PSS signature of the right key is refused, whatever the header calls it.
    let pss = Issuer::rsa("pss", "PS256", KeySize::Rsa2048);
    let auth = authenticator(&[&pss]);
    for alg in ["PS256", "RS256"] {
        let token = pss.token_with(&json!({ "alg": alg, "kid": "pss" }), &claims().to_string());
        assert_eq!(check(&auth, &token).unwrap_err(), AuthError::Invalid, "{alg}");
    }
}

#[test]
fn headers_that_change_the_meaning_of_a_signature_are_refused() {
    let issuer = secret(Some("k1"));
    let auth = authenticator(&[&issuer]);
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", Value::Null),
        ("b64", json!(false)),
        ("enc", json!("A128GCM")),
    ] {
        let mut header = issuer.header();
        header[name] = value;
        let token = issuer.token_with(&header, &claims().to_string());
        assert_eq!(check(&auth, &token).unwrap_err(), AuthError::Invalid, "{name}");
    }

    let token = issuer.token(&claims());
    let parts: Vec<_> = token.split('.').collect();
    for malformed in [
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}.{}.{}", parts[0], parts[1], parts[1], parts[1], parts[2]),
        format!("{}.{}=.{}", parts[0], parts[1], parts[2]),
        ".".to_owned(),
        "..".to_owned(),
        "garbage".to_owned(),
    ] {
        assert_eq!(check(&auth, &malformed).unwrap_err(), AuthError::Invalid, "{malformed}");
    }
}

#[test]
fn keys_in_a_token_are_ignored() {
    let ours = secret(Some("k1"));
    let theirs = Issuer::rsa("evil", "RS256", KeySize::Rsa2048);
    let auth = authenticator(&[&ours]);

    for name in ["jwk", "jku", "x5u", "x5c"] {
        let mut header = theirs.header();
        header[name] = if name == "jwk" { theirs.jwk.clone() } else { "http://evil/".into() };
        for kid in ["evil", "k1"] {
            header["kid"] = kid.into();
            let token = theirs.token_with(&header, &claims().to_string());
            assert_eq!(check(&auth, &token).unwrap_err(), AuthError::Invalid, "{name}");
        }

        // A token that is valid without them remains valid.
        let mut header = ours.header();
        header[name] = json!({ "kty": "nonsense" });
        let token = ours.token_with(&header, &claims().to_string());
        assert!(check(&auth, &token).is_ok(), "{name}");
    }
}

/// Returns whether a token of the issuer with this `kid` is accepted.
fn is_accepted(auth: &Authenticator, issuer: &Issuer, kid: Value) -> bool {
    let header = json!({ "alg": "HS256", "kid": kid });
    check(auth, &issuer.token_with(&header, &claims().to_string())).is_ok()
}

#[test]
fn a_kid_only_chooses_the_key() {
    let named = secret(Some("k1"));
    let wild = Issuer::oct(None, "HS256", b"a wildcard secret of a sufficient length");
    let auth = authenticator(&[&named, &wild]);
    assert!(is_accepted(&auth, &named, "k1".into()));
    assert!(
        !is_accepted(&auth, &named, Value::Null),
        "without a kid, only keys without a name are used"
    );
    assert!(!is_accepted(&auth, &wild, "k1".into()), "the named key decides alone");
    assert!(is_accepted(&auth, &wild, Value::Null));

    for odd in ["unknown", "../../etc/passwd", "' OR 1=1 --", "", "ключ\u{202e}"] {
        assert!(
            is_accepted(&auth, &wild, odd.into()),
            "an unknown kid may match a wildcard key: {odd}"
        );
        assert!(!is_accepted(&auth, &named, odd.into()), "{odd}");
    }

    assert!(!is_accepted(&auth, &wild, 5.into()));

    let long = "k".repeat(1 << 20);
    assert!(!is_accepted(&auth, &wild, long.into()), "a token of a megabyte is refused unread");
}

#[test]
fn a_claim_of_the_wrong_type_is_refused() {
    let wrong = [
        ("exp", json!("1800003600")),
        ("exp", json!([NOW + 3_600])),
        ("exp", json!(1e30)),
        ("exp", json!(9_007_199_254_740_993.0)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(true)),
        ("exp", Value::Null),
        ("iat", json!("1800000000")),
        ("iat", json!({})),
        ("nbf", json!("0")),
        ("nbf", json!(-1e300)),
        ("sub", json!(["u1"])),
        ("sub", json!(true)),
        ("sub", json!(1.5)),
        ("sub", json!("")),
        ("sub", json!("u".repeat(10_000))),
        ("aud", json!(5)),
        ("aud", json!([5, "app"])),
        ("aud", json!({ "app": true })),
        ("parameters", json!("x")),
        ("parameters", json!([])),
        ("parameters", Value::Null),
        ("iss", json!(5)),
    ];

    for (name, value) in wrong {
        let claims = claims_with(name, value.clone());
        assert_eq!(verdict(&claims), Err(AuthError::Invalid), "{name}: {value}");
    }
}

#[test]
fn each_required_claim_is_required() {
    for name in ["sub", "iat", "exp", "aud"] {
        let claims = changed(|claims| drop(claims.remove(name)));
        assert_eq!(verdict(&claims), Err(AuthError::Invalid), "{name}");
    }
    for payload in ["", "[]", "\"u1\"", "{", "null"] {
        let issuer = secret(Some("k1"));
        let token = issuer.token_with(&issuer.header(), payload);
        assert_eq!(check(&authenticator(&[&issuer]), &token).unwrap_err(), AuthError::Invalid);
    }
}

#[test]
fn a_claim_given_twice_is_refused() {
    let issuer = secret(Some("k1"));
    for twice in ["\"sub\":\"u2\"", "\"exp\":1900000000", "\"aud\":\"other\""] {
        let mut payload = claims().to_string();
        payload.insert_str(1, &format!("{twice},"));
        let token = issuer.token_with(&issuer.header(), &payload);
        assert_eq!(check(&authenticator(&[&issuer]), &token).unwrap_err(), AuthError::Invalid);
    }
}

fn times(iat: i64, exp: i64) -> Result<String, AuthError> {
    verdict(&changed(|claims| {
        claims.insert("iat".to_owned(), iat.into());
        claims.insert("exp".to_owned(), exp.into());
    }))
}

#[test]
fn times_are_checked_with_a_minute_of_skew() {
    assert!(times(NOW - 100, NOW - 59).is_ok());
    assert_eq!(times(NOW - 100, NOW - 60), Err(AuthError::Expired));
    assert_eq!(times(0, 1), Err(AuthError::Expired));
    assert_eq!(times(i64::MIN, i64::MIN), Err(AuthError::Expired));
    assert!(times(NOW + 60, NOW + 100).is_ok());
    assert_eq!(times(NOW + 61, NOW + 100), Err(AuthError::Invalid));
    let nbf =
        |nbf: i64| verdict(&changed(|claims| drop(claims.insert("nbf".to_owned(), nbf.into()))));
    assert!(nbf(NOW + 60).is_ok());
    assert_eq!(nbf(NOW + 61), Err(AuthError::Invalid));
}

/// RFC 7519 allows a fraction, and libraries that divide milliseconds by 1,000 write one.
#[test]
fn times_may_have_a_fraction() {
    let issuer = secret(Some("k1"));
    let auth = authenticator(&[&issuer]);
    let verified = |iat: f64, exp: f64, nbf: f64| {
        let claims = json!({ "sub": "u1", "iat": iat, "exp": exp, "nbf": nbf, "aud": "app" });
        check(&auth, &issuer.token(&claims)).map(|verified| verified.expires_at)
    };

    #[expect(clippy::cast_precision_loss, reason = "the time is exact")]
    let now = NOW as f64;
    assert_eq!(verified(now - 9.5, now + 3_600.4, now - 9.5), Ok(NOW + 3_600));
    assert_eq!(verified(now + 0.25, now + 86_400.25, now), Ok(NOW + 86_400), "a day exactly");
    assert_eq!(verified(now + 0.25, now + 86_401.5, now), Err(AuthError::Lifetime));
    assert_eq!(verified(now - 100.0, now - 59.5, now), Err(AuthError::Expired), "rounded down");
    assert_eq!(verified(now + 61.0, now + 99.0, now), Err(AuthError::Invalid));
    assert_eq!(verified(now, now + 99.0, now + 61.9), Err(AuthError::Invalid));
}

#[test]
fn a_token_lives_a_day_at_most() {
    assert!(times(NOW, NOW + 86_400).is_ok());
    assert_eq!(times(NOW, NOW + 86_401), Err(AuthError::Lifetime));
    assert_eq!(times(NOW - 90_000, NOW + 10), Err(AuthError::Lifetime));
    assert_eq!(times(i64::MIN, i64::MAX), Err(AuthError::Lifetime));
    assert_eq!(times(NOW, i64::MAX), Err(AuthError::Lifetime));
}

#[test]
fn the_audience_must_be_one_of_ours() {
    for right in [json!("other-app"), json!(["foreign", "app"])] {
        assert!(verdict(&claims_with("aud", right)).is_ok());
    }
    for wrong in [json!("foreign"), json!(["foreign"]), json!([]), json!("APP"), json!("")] {
        assert_eq!(verdict(&claims_with("aud", wrong)), Err(AuthError::Audience));
    }
}

#[test]
fn the_issuer_must_be_ours_where_one_is_configured() {
    let issuer = secret(Some("k1"));
    let auth = authenticator(&[&issuer]).with_issuer("https://id.example");

    for (iss, is_accepted) in [
        (json!("https://id.example"), true),
        (json!("https://id.example/"), false),
        (Value::Null, false),
    ] {
        let token = issuer.token(&claims_with("iss", iss));
        assert_eq!(check(&auth, &token).is_ok(), is_accepted);
    }
    assert!(check(&auth, &issuer.token(&claims())).is_err());
}

#[test]
fn a_number_may_be_the_subject() {
    for (sub, user_id) in
        [(json!(17), "17"), (json!(-17), "-17"), (json!(u64::MAX), "18446744073709551615")]
    {
        assert_eq!(verdict(&claims_with("sub", sub)), Ok(user_id.to_owned()));
    }
    assert!(verdict(&claims_with("parameters", json!({}))).is_ok());
}

fn reason(verdict: Result<Verified, Refusal>) -> (&'static str, Option<&'static str>) {
    let refusal = verdict.expect_err("the token is refused");
    (refusal.reason.name(), refusal.reason.claim())
}

#[test]
fn a_refusal_has_its_reason() {
    let hs = secret(Some("hs"));
    let rs = Issuer::rsa("rs", "RS256", KeySize::Rsa2048);
    let auth = authenticator(&[&hs, &rs]).with_issuer("https://id.example");
    let ours = claims_with("iss", "https://id.example".into());
    let with = |name: &str, value: Value| {
        let mut claims = ours.clone();
        claims[name] = value;
        hs.token(&claims)
    };
    let twice = ours.to_string().replacen('{', "{\"exp\":1900000000,", 1);
    let mut critical = hs.header();
    critical["crit"] = json!([]);

    for (token, expected) in [
        ("garbage".to_owned(), ("malformed", None)),
        (hs.token_with(&critical, &ours.to_string()), ("extension", None)),
        (hs.token_with(&json!({ "alg": "none" }), "{}"), ("algorithm", None)),
        (hs.token_with(&json!({ "alg": "HS256", "kid": "rs" }), "{}"), ("algorithm", None)),
        (hs.token_with(&json!({ "alg": "HS256", "kid": "x" }), "{}"), ("unknown_key", None)),
        (rs.token_with(&json!({ "alg": "RS256", "kid": "x" }), "{}"), ("unknown_key", None)),
        (rs.token_with(&json!({ "alg": "HS256", "kid": "hs" }), "{}"), ("signature", None)),
        (hs.token_with(&hs.header(), "[]"), ("claim", Some("payload"))),
        (hs.token_with(&hs.header(), &twice), ("claim", Some("given twice"))),
        (hs.token(&json!({ "iat": NOW, "exp": NOW, "aud": "app" })), ("claim", Some("sub"))),
        (hs.token(&json!({ "sub": "u", "iat": NOW, "aud": "app" })), ("claim", Some("exp"))),
        (with("exp", "1".into()), ("claim", Some("exp"))),
        (with("nbf", "1".into()), ("claim", Some("nbf"))),
        (with("sub", "u".repeat(600).into()), ("claim", Some("sub"))),
        (with("iat", (NOW + 100).into()), ("not_yet_valid", None)),
        (with("exp", (NOW - 100).into()), ("expired", None)),
        (with("exp", (NOW + 90_000).into()), ("lifetime", None)),
        (with("aud", "other".into()), ("audience", None)),
        (with("iss", "https://other.example".into()), ("issuer", None)),
    ] {
        let header = format!("Bearer {token}");
        let verdict = auth.check(Some(header.as_bytes()), NOW).now_or_never().unwrap();
        assert_eq!(reason(verdict), expected, "{token}");
    }
    assert_eq!(reason(auth.check(None, NOW).now_or_never().unwrap()), ("missing", None));
}
