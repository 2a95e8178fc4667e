//! Keys of a URL. A real server publishes them, and the time is an argument.

use super::publisher::{Publisher, Reply, set};
use super::*;

fn authenticator(publisher: &Publisher) -> Authenticator {
    authenticator_beside(publisher, &[])
}

/// Returns an authenticator with the keys of a publisher and of files.
fn authenticator_beside(publisher: &Publisher, files: &[&Issuer]) -> Authenticator {
    let keys: Vec<_> = files.iter().map(|issuer| &issuer.jwk).collect();
    let sets = [json!({ "keys": keys }).to_string()];
    Authenticator::with_urls(&sets, &[&publisher.url], vec!["app".to_owned()]).unwrap()
}

fn with_urls(urls: &[&String]) -> Authenticator {
    Authenticator::with_urls(&[] as &[&str], urls, vec!["app".to_owned()]).unwrap()
}

/// Returns a token that is valid all day.
fn token(issuer: &Issuer) -> String {
    issuer.token(&changed(|claims| drop(claims.insert("exp".to_owned(), (NOW + 86_000).into()))))
}

async fn verdict_at(auth: &Authenticator, token: &str, now: i64) -> Result<(), AuthError> {
    let verdict = auth.check(Some(format!("Bearer {token}").as_bytes()), now).await;
    verdict.map(|_| ()).map_err(|refusal| refusal.error())
}

/// Lets a request begin, and hangs up.
fn hang_up(auth: &Authenticator, token: &str, now: i64) {
    let verdict = verdict_at(auth, token, now).now_or_never();
    assert_eq!(verdict, None, "it waits for keys");
}

/// Waits until no fetch is in flight.
async fn settled(auth: &Authenticator) {
    while auth.published.iter().any(|keys| keys.is_fetching()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_accepted() {
    let issuers = [
        Issuer::rsa("r256", "RS256", KeySize::Rsa2048),
        Issuer::rsa("r384", "RS384", KeySize::Rsa2048),
        Issuer::rsa("r512", "RS512", KeySize::Rsa3072),
        Issuer::ec("e256", "ES256"),
        Issuer::ec("e384", "ES384"),
        Issuer::ec("e512", "ES512"),
        Issuer::ed25519("ed"),
    ];
    let publisher = Publisher::of(&issuers.iter().collect::<Vec<_>>()).await;
    let auth = authenticator(&publisher);
    for issuer in &issuers {
        assert_eq!(verdict_at(&auth, &token(issuer), NOW).await, Ok(()), "{}", issuer.alg);
        // A key of the same name, but of another issuer.
        let kid = issuer.jwk["kid"].as_str().unwrap();
        let forger = match issuer.alg {
            "EdDSA" => Issuer::ed25519(kid),
            alg if alg.starts_with("ES") => Issuer::ec(kid, alg),
            alg => Issuer::rsa(kid, alg, KeySize::Rsa2048),
        };
        let forged = verdict_at(&auth, &token(&forger), NOW).await;
        assert_eq!(forged, Err(AuthError::Invalid), "{}", issuer.alg);
    }

    assert_eq!(publisher.fetches(), 1, "known keys are not fetched again");
}

/// Returns a copy of a key with one member replaced.
fn jwk_with(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk[name] = value;
    jwk
}

#[tokio::test]
async fn unusable_keys_are_left_out_and_the_others_are_used() {
    let good = Issuer::ec("good", "ES256");
    let oct = secret(Some("oct"));
    let rsa = Issuer::rsa("rsa", "RS256", KeySize::Rsa2048);

    for left_out in [
        oct.jwk.clone(),
        jwk_with(&rsa.jwk, "use", "enc".into()),
        jwk_with(&rsa.jwk, "key_ops", json!(["encrypt"])),
        jwk_with(&rsa.jwk, "n", base64([0xFF_u8; 128]).into()),
        jwk_with(&rsa.jwk, "alg", "RSA-OAEP".into()),
        jwk_with(&rsa.jwk, "alg", "PS256".into()),
        jwk_with(&rsa.jwk, "alg", "HS256".into()),
        jwk_with(&rsa.jwk, "kty", "new".into()),
        jwk_with(&rsa.jwk, "kid", 5.into()),
        json!("nonsense"),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "rsa", "x": "AA", "y": "AA" }),
    ] {
        let reply = Reply::Set(json!({ "keys": [left_out, good.jwk] }));
        let publisher = Publisher::start(reply).await;
        let auth = authenticator(&publisher);
        assert_eq!(verdict_at(&auth, &token(&good), NOW).await, Ok(()), "{left_out}");

        for issuer in [&oct, &rsa] {
            let verdict = verdict_at(&auth, &token(issuer), NOW).await;
            assert_eq!(verdict, Err(AuthError::Invalid), "{left_out}");
        }
    }
}

#[tokio::test]
async fn a_published_key_verifies_only_its_own_algorithm() {
    let rs = Issuer::rsa("rs", "RS256", KeySize::Rsa2048);
    let wild = Issuer::oct(None, "HS256", b"a wildcard secret of a sufficient length");
    let publisher = Publisher::of(&[&rs]).await;
    let auth = authenticator_beside(&publisher, &[&wild]);
    let modulus = URL_SAFE_NO_PAD.decode(rs.jwk["n"].as_str().unwrap()).unwrap();
    let forged = Issuer::oct(Some("rs"), "HS256", modulus.leak());
    assert_eq!(verdict_at(&auth, &token(&forged), NOW).await, Err(AuthError::Invalid));

    let unsigned = format!("{}.{}.", base64(r#"{"alg":"none","kid":"rs"}"#), base64("{}"));
    assert_eq!(verdict_at(&auth, &unsigned, NOW).await, Err(AuthError::Invalid));
    assert_eq!(publisher.fetches(), 0, "no published key has such an algorithm");
    assert_eq!(verdict_at(&auth, &token(&rs), NOW).await, Ok(()));
    assert_eq!(verdict_at(&auth, &token(&wild), NOW).await, Ok(()));

    // The named key decides alone, whatever its algorithm.
    for alg in ["ES256", "RS384", "EdDSA", "PS256", "none"] {
        let header = json!({ "alg": alg, "kid": "rs" });
        let token = rs.token_with(&header, &claims().to_string());
        assert_eq!(verdict_at(&auth, &token, NOW).await, Err(AuthError::Invalid), "{alg}");
    }

    assert_eq!(publisher.fetches(), 1);
}

#[tokio::test]
async fn a_key_of_a_file_is_used_before_a_published_one_of_the_same_name() {
    let file = Issuer::ec("k", "ES256");
    let published = Issuer::ec("k", "ES256");
    let publisher = Publisher::of(&[&published]).await;
    let auth = authenticator_beside(&publisher, &[&file]);
    assert_eq!(verdict_at(&auth, &token(&file), NOW).await, Ok(()));
    assert_eq!(verdict_at(&auth, &token(&published), NOW).await, Err(AuthError::Invalid));
    assert_eq!(publisher.fetches(), 0);
}

#[tokio::test]
async fn a_published_key_without_a_name_verifies_tokens_that_name_no_known_key() {
    let mut wild = Issuer::ec("wild", "ES256");
    wild.jwk.as_object_mut().unwrap().remove("kid");
    let publisher = Publisher::of(&[&wild]).await;
    let auth = authenticator(&publisher);
    for kid in [Value::Null, "unknown".into()] {
        let header = json!({ "alg": "ES256", "kid": kid });
        let token = wild.token_with(&header, &claims().to_string());
        assert_eq!(verdict_at(&auth, &token, NOW).await, Ok(()), "{kid}");
    }
    assert_eq!(publisher.fetches(), 1, "a token that is right causes no fetch");
}

#[tokio::test]
async fn an_unknown_key_causes_a_fetch() {
    let old = Issuer::rsa("old", "RS256", KeySize::Rsa2048);
    let new = Issuer::ec("new", "ES256");
    let publisher = Publisher::of(&[&old]).await;
    let auth = authenticator(&publisher);
    assert_eq!(verdict_at(&auth, &token(&old), NOW).await, Ok(()));
    assert_eq!(verdict_at(&auth, &token(&new), NOW + 1).await, Err(AuthError::Invalid));

    publisher.answer_with(set(&[&old, &new]));
    assert_eq!(verdict_at(&auth, &token(&new), NOW + 2).await, Ok(()), "the set is not old yet");
    assert_eq!(verdict_at(&auth, &token(&old), NOW + 2).await, Ok(()));

    // A key that was withdrawn serves until its set is fetched again.
    publisher.answer_with(set(&[&new]));
    assert_eq!(verdict_at(&auth, &token(&old), NOW + 301).await, Ok(()));
    assert_eq!(verdict_at(&auth, &token(&old), NOW + 302).await, Err(AuthError::Invalid));
    assert_eq!(verdict_at(&auth, &token(&new), NOW + 302).await, Ok(()));

    // An empty set is a set: all keys are withdrawn.
    publisher.answer_with(set(&[]));
    assert_eq!(verdict_at(&auth, &token(&new), NOW + 700).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn made_up_names_cause_few_fetches() {
    let real = Issuer::ec("real", "ES256");
    let forger = Issuer::ec("forged", "ES256");
    let publisher = Publisher::of(&[&real]).await;
    let auth = authenticator(&publisher);
    assert_eq!(verdict_at(&auth, &token(&real), NOW).await, Ok(()));

    let payload = claims().to_string();
    for count in 0..10_000_i64 {
        let header = json!({ "alg": "ES256", "kid": format!("../{count}'--") });
        let forged = forger.token_with(&header, &payload);
        assert_eq!(
            verdict_at(&auth, &forged, NOW + 1 + count / 200).await,
            Err(AuthError::Invalid)
        );
    }

    assert_eq!(publisher.fetches(), 1 + 5);

    let other = forger.token_with(&json!({ "alg": "ES256", "kid": "x" }), &payload);
    assert_eq!(verdict_at(&auth, &other, NOW + 61).await, Err(AuthError::Invalid));
    assert_eq!(publisher.fetches(), 1 + 5 + 1);
    assert_eq!(verdict_at(&auth, &token(&real), NOW + 61).await, Ok(()));
}

#[tokio::test]
async fn the_last_keys_are_used_until_newer_ones_arrive() {
    let issuer = Issuer::rsa("k", "RS256", KeySize::Rsa2048);
    let new = Issuer::ec("new", "ES256");
    let publisher = Publisher::of(&[&issuer]).await;
    let auth = authenticator(&publisher);
    let token = token(&issuer);
    assert_eq!(verdict_at(&auth, &token, NOW).await, Ok(()));

    publisher.answer_with(Reply::Status(503));
    for minute in 1..23 * 60 {
        assert_eq!(verdict_at(&auth, &token, NOW + minute * 60).await, Ok(()), "{minute}");
    }
    let attempts = 23 * 60 - 5;
    assert_eq!(publisher.fetches(), 1 + attempts, "old after five minutes, then one a minute");

    // The owner may have published another key: the server cannot tell.
    let other = new.token(&claims());
    assert_eq!(verdict_at(&auth, &other, NOW + 600).await, Err(AuthError::NoKeys));
    let forged = Issuer::rsa("k", "RS256", KeySize::Rsa2048).token(&claims());
    assert_eq!(verdict_at(&auth, &forged, NOW + 600).await, Err(AuthError::Invalid));

    publisher.answer_with(set(&[&new]));
    assert_eq!(verdict_at(&auth, &other, NOW + 660).await, Ok(()));
    assert_eq!(verdict_at(&auth, &token, NOW + 660).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn missing_keys_are_fetched_again_after_a_pause() {
    let issuer = Issuer::rsa("k", "RS256", KeySize::Rsa2048);
    let publisher = Publisher::start(Reply::Status(503)).await;
    let auth = authenticator(&publisher);
    let token = token(&issuer);
    for _ in 0..100 {
        assert_eq!(verdict_at(&auth, &token, NOW).await, Err(AuthError::NoKeys));
    }
    assert_eq!(publisher.fetches(), 1, "attempts keep their distance");

    publisher.answer_with(set(&[&issuer]));
    assert_eq!(verdict_at(&auth, &token, NOW + 4).await, Err(AuthError::NoKeys));
    assert_eq!(verdict_at(&auth, &token, NOW + 5).await, Ok(()));
}

/// The attack that kept a new key out: each request with a made-up key hangs up at once.
#[tokio::test]
async fn a_flood_of_made_up_keys_delays_a_new_key_by_a_minute_at_most() {
    let old = Issuer::ec("old", "ES256");
    let new = Issuer::ec("new", "ES256");
    let forger = Issuer::ec("nobody", "ES256");
    let publisher = Publisher::of(&[&old]).await;
    let auth = authenticator(&publisher);
    assert_eq!(verdict_at(&auth, &token(&old), NOW).await, Ok(()));

    let published_at = 250;
    let forged = token(&forger);
    let flood = async |from: i64, to: i64| {
        for second in from..to {
            for _ in 0..50 {
                // Without a permitted fetch it is refused at once.
                let _hung_up = verdict_at(&auth, &forged, NOW + second).now_or_never();
            }
            settled(&auth).await;
        }
    };

    flood(1, published_at).await;
    publisher.answer_with(set(&[&old, &new]));
    flood(published_at, published_at + 60).await;
    assert_eq!(verdict_at(&auth, &token(&new), NOW + published_at + 60).await, Ok(()));

    // And good users are served for hours.
    for hour in 1..=3 {
        flood(hour * 3_600, hour * 3_600 + 10).await;
        assert_eq!(verdict_at(&auth, &token(&old), NOW + hour * 3_600 + 10).await, Ok(()));
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_the_fetch() {
    let issuer = Issuer::ec("k", "ES256");
    let answer = Arc::new(tokio::sync::Notify::new());
    let publisher = Publisher::start(Reply::Held(Arc::clone(&answer))).await;
    let auth = authenticator(&publisher);
    hang_up(&auth, &token(&issuer), NOW);
    hang_up(&auth, &token(&issuer), NOW + 1);

    publisher.answer_with(set(&[&issuer]));
    answer.notify_one();
    assert_eq!(verdict_at(&auth, &token(&issuer), NOW + 2).await, Ok(()));
    assert_eq!(publisher.fetches(), 1);
}

/// A function's process stops between requests, and a fetch in flight with it.
#[tokio::test]
async fn a_fetch_that_was_frozen_is_repeated() {
    let issuer = Issuer::ec("k", "ES256");
    let publisher = Publisher::start(Reply::Silence).await;
    let auth = authenticator(&publisher);
    hang_up(&auth, &token(&issuer), NOW);
    let joined = verdict_at(&auth, &token(&issuer), NOW + 14).now_or_never();
    assert_eq!(joined, None, "the fetch may still end");

    // More often than unknown keys cause a fetch: repetitions are not counted.
    for repetition in 1..=8 {
        hang_up(&auth, &token(&issuer), NOW + 15 * repetition);
        let started = i64::try_from(auth.published[0].fetches_started()).unwrap();
        assert_eq!(started, 1 + repetition);
    }

    publisher.answer_with(set(&[&issuer]));
    assert_eq!(verdict_at(&auth, &token(&issuer), NOW + 15 * 9).await, Ok(()));
}

/// A request may come between a fetch and the publication of its key, while the fetch is in flight.
#[tokio::test]
async fn a_fetch_from_before_the_request_does_not_decide() {
    let old = Issuer::ec("old", "ES256");
    let new = Issuer::ec("new", "ES256");
    let publisher = Publisher::of(&[&old]).await;
    let auth = authenticator(&publisher);
    assert_eq!(verdict_at(&auth, &token(&old), NOW).await, Ok(()));

    let answer = Arc::new(tokio::sync::Notify::new());
    publisher.answer_with(Reply::Held(Arc::clone(&answer)));
    hang_up(&auth, &token(&new), NOW + 1);
    let token = token(&new);
    let mut waiting = Box::pin(verdict_at(&auth, &token, NOW + 2));
    assert!((&mut waiting).now_or_never().is_none(), "it joins the fetch");

    // The first answer is the old set.
    publisher.answer_with(set(&[&old]));
    answer.notify_one();
    while publisher.fetches() < 2 {
        tokio::task::yield_now().await;
    }
    publisher.answer_with(set(&[&old, &new]));
    assert_eq!(waiting.await, Ok(()));
}

#[tokio::test]
async fn fetched_keys_are_refreshed_after_five_minutes() {
    let issuer = Issuer::ec("k", "ES256");
    let publisher = Publisher::of(&[&issuer]).await;
    let auth = authenticator(&publisher);
    let token = token(&issuer);
    for (seconds, fetches) in [(0, 1), (299, 1), (300, 2), (599, 2), (4_000, 3)] {
        assert_eq!(verdict_at(&auth, &token, NOW + seconds).await, Ok(()));
        assert_eq!(publisher.fetches(), fetches, "{seconds}");
    }

    // A clock that is set back makes keys old; it does not keep them young for ever.
    let early = issuer.token(&json!({ "sub": "u", "iat": 0, "exp": 9, "aud": "app" }));
    let back = 5;
    assert_eq!(verdict_at(&auth, &early, back).await, Ok(()));
    assert_eq!(publisher.fetches(), 4);
}

#[tokio::test]
async fn an_answer_that_is_not_a_set_changes_nothing() {
    let issuer = Issuer::ec("k", "ES256");
    let many: Vec<_> = (0..101).map(|count| json!({ "kty": "new", "kid": count })).collect();

    for wrong in [
        Reply::Status(404),
        Reply::Status(500),
        Reply::Status(204),
        Reply::Redirect,
        Reply::Endless,
        Reply::Text(""),
        Reply::Text("<html>sign in</html>"),
        Reply::Text("[]"),
        Reply::Text(r#"{"keys":{}}"#),
        Reply::Set(json!({ "keys": many })),
        Reply::Set(json!({ "keys": [issuer.jwk], "more": "x".repeat(65 << 10) })),
    ] {
        let publisher = Publisher::start(wrong.clone()).await;
        let auth = authenticator(&publisher);
        let token = token(&issuer);
        assert_eq!(verdict_at(&auth, &token, NOW).await, Err(AuthError::NoKeys));

        publisher.answer_with(set(&[&issuer]));
        assert_eq!(verdict_at(&auth, &token, NOW + 10).await, Ok(()));
        publisher.answer_with(wrong);
        assert_eq!(verdict_at(&auth, &token, NOW + 400).await, Ok(()));

        assert!(publisher.fetches() >= 3);
        let elsewhere = publisher.followed();
        assert_eq!(elsewhere, 0, "a redirect was followed");
    }
}

#[tokio::test]
async fn a_server_that_is_down_has_no_keys() {
    let issuer = Issuer::ec("k", "ES256");
    let publisher = Publisher::of(&[&issuer]).await;
    let auth = authenticator(&publisher);
    drop(publisher);
    let verdict = verdict_at(&auth, &token(&issuer), NOW).await;
    assert_eq!(verdict, Err(AuthError::NoKeys));
}

/// The clock is paused: it advances by itself when all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_request_waits_three_seconds_at_most() {
    let issuer = Issuer::ec("k", "ES256");
    for slow in [Reply::Silence, Reply::Drip] {
        let publisher = Publisher::start(slow).await;
        let auth = authenticator(&publisher);
        let token = token(&issuer);

        let began = Instant::now();
        // The limit of a request holds although others began to wait before it.
        let verdicts = join_all((0..50).map(|_| verdict_at(&auth, &token, NOW))).await;
        assert!(verdicts.iter().all(|verdict| *verdict == Err(AuthError::NoKeys)));
        let waited = began.elapsed();
        assert!(waited >= KEY_WAIT_MAX && waited < KEY_WAIT_MAX * 2, "{waited:?}");

        // The fetch ends after ten seconds. Then nobody waits until the next one is permitted.
        settled_in_time(&auth).await;
        let began = Instant::now();
        assert_eq!(verdict_at(&auth, &token, NOW + 4).await, Err(AuthError::NoKeys));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

/// Waits until no fetch is in flight, on a paused clock.
async fn settled_in_time(auth: &Authenticator) {
    let began = Instant::now();
    while auth.published.iter().any(|keys| keys.is_fetching()) {
        assert!(began.elapsed() < Duration::from_secs(20), "a fetch has a timeout");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_request_with_old_keys_does_not_wait_for_a_fetch_of_another() {
    let issuer = Issuer::ec("k", "ES256");
    let publisher = Publisher::of(&[&issuer]).await;
    let auth = authenticator(&publisher);
    let token = token(&issuer);
    assert_eq!(verdict_at(&auth, &token, NOW).await, Ok(()));

    publisher.answer_with(Reply::Silence);
    let mut fetching = Box::pin(verdict_at(&auth, &token, NOW + 300));
    assert!((&mut fetching).now_or_never().is_none(), "it waits for its fetch");

    let other = verdict_at(&auth, &token, NOW + 300).now_or_never();
    assert_eq!(other, Some(Ok(())), "another does not");

    drop(fetching);
    publisher.answer_with(set(&[]));
    assert_eq!(verdict_at(&auth, &token, NOW + 360).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn requests_without_keys_share_a_fetch() {
    let issuer = Issuer::ec("k", "ES256");
    let publisher = Publisher::of(&[&issuer]).await;
    let auth = authenticator(&publisher);
    let token = token(&issuer);
    let verdicts = join_all((0..100).map(|_| verdict_at(&auth, &token, NOW))).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(publisher.fetches(), 1);
}

#[tokio::test]
async fn each_url_has_keys_of_its_own() {
    let one = Issuer::ec("one", "ES256");
    let two = Issuer::rsa("two", "RS256", KeySize::Rsa2048);
    let first = Publisher::of(&[&one]).await;
    let second = Publisher::of(&[&two]).await;
    let auth = with_urls(&[&first.url, &second.url]);
    assert_eq!(verdict_at(&auth, &token(&one), NOW).await, Ok(()));
    assert_eq!(verdict_at(&auth, &token(&two), NOW).await, Ok(()));

    assert_eq!((first.fetches(), second.fetches()), (1, 1));

    // The first set knows the token: nobody waits for the second, which never answers.
    let second = Publisher::start(Reply::Silence).await;
    let auth = with_urls(&[&first.url, &second.url]);
    auth.published[0].refresh_if_old(NOW, Instant::now() + KEY_WAIT_MAX).await;
    assert_eq!(verdict_at(&auth, &token(&one), NOW).await, Ok(()));
    assert_eq!(second.fetches(), 0);
}

#[test]
fn a_url_that_cannot_be_used_is_named() {
    let urls = ["http://id.example/keys"];
    let error = Authenticator::with_urls(&[] as &[&str], &urls, vec!["app".to_owned()]);
    let problem = error.map(|_| ()).unwrap_err().to_string();
    assert!(
        problem.starts_with("http://id.example/keys: http is allowed for this machine only"),
        "{problem}"
    );
}
