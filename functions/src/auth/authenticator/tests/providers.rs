//! Tokens and key sets in the shapes of identity providers, as `docs/tokens.md` configures them. The
//! keys are made here; members of keys and claims are those that each provider publishes and signs.

use super::publisher::{Publisher, Reply};
use super::*;
use crate::auth::error::AuthError;

/// A provider's key set, and the settings of its recipe.
struct Provider {
    key: Issuer,
    auth: Authenticator,
    /// The server of the set. It stops when it is dropped.
    _publisher: Publisher,
}

impl Provider {
    /// Publishes the key, with further members, behind other keys of the provider.
    async fn new(key: Issuer, members: Value, others: Vec<Value>, recipe: [&str; 2]) -> Self {
        let mut jwk = key.jwk.clone();
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let mut keys = others;
        keys.push(jwk);

        let publisher = Publisher::start(Reply::Set(json!({ "keys": keys }))).await;
        let [audience, issuer] = recipe;
        let urls = [&publisher.url];
        let auth = Authenticator::with_urls(&[] as &[&str], &urls, vec![audience.to_owned()]);
        Self { key, auth: auth.unwrap().with_issuer(issuer), _publisher: publisher }
    }

    async fn user(&self, claims: &Value) -> Result<String, (AuthError, &'static str)> {
        let header = format!("Bearer {}", self.key.token(claims));
        let verdict = self.auth.check(Some(header.as_bytes()), NOW).await;
        let verdict = verdict.map(|verified| verified.user_id);
        verdict.map_err(|refusal| (refusal.error(), refusal.reason.name()))
    }
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

/// A further key of a set, without its private part.
fn other_rsa_key(kid: &str) -> Value {
    let mut jwk = Issuer::rsa(kid, "RS256", KeySize::Rsa2048).jwk;
    jwk["use"] = "sig".into();
    jwk["alg"] = "RS256".into();
    jwk
}

const SUPABASE: &str = "https://abcdefghijklmnopqrst.supabase.co/auth/v1";

fn supabase_claims() -> Value {
    json!({
        "aal": "aal1",
        "amr": [{ "method": "password", "timestamp": NOW - 9 }],
        "app_metadata": { "provider": "email", "providers": ["email"], "org_id": "acme" },
        "aud": "authenticated",
        "email": "user@example.com",
        "exp": NOW + 3_600,
        "iat": NOW,
        "is_anonymous": false,
        "iss": SUPABASE,
        "phone": "",
        "role": "authenticated",
        "session_id": "1d2e5b07-6a3c-4a55-9c35-8d1f5b1f0a11",
        "sub": "7a9b3d52-3c62-4d5e-8b47-0f6a2a3c9d10",
        "user_metadata": { "email_verified": true },
    })
}

#[tokio::test]
async fn supabase_with_signing_keys() {
    let key = Issuer::ec("b81269f1-21d8-4f2e-b719-c2240a840d90", "ES256");
    let members = json!({ "alg": "ES256", "ext": true, "key_ops": ["verify"], "use": "sig" });
    let supabase = Provider::new(key, members, vec![], ["authenticated", SUPABASE]).await;

    let claims = supabase_claims();
    assert_eq!(supabase.user(&claims).await.unwrap(), claims["sub"]);
    let other = with(&claims, "iss", "https://other.supabase.co/auth/v1".into());
    assert_eq!(supabase.user(&other).await, Err((AuthError::Invalid, "issuer")));
    // The service key of a project is a token of its own, of another role and without an audience.
    let service =
        json!({ "iss": "supabase", "ref": "abc", "role": "service_role", "iat": NOW, "exp": NOW });
    assert_eq!(supabase.user(&service).await, Err((AuthError::Invalid, "claim")));
}

#[test]
fn supabase_with_the_legacy_secret() {
    let key = Issuer::oct(None, "HS256", b"super-secret-jwt-token-with-at-least-32-characters");
    let set = json!({ "keys": [key.jwk] }).to_string();
    let auth = Authenticator::new(&[set], vec!["authenticated".to_owned()]).unwrap();
    // The header names a key, which no set publishes.
    let header = json!({ "alg": "HS256", "kid": "Hp5x0Yw1pXcVbA7k", "typ": "JWT" });
    let token = key.token_with(&header, &supabase_claims().to_string());
    assert_eq!(check(&auth, &token).unwrap().user_id, supabase_claims()["sub"]);
}

#[tokio::test]
async fn cognito_with_id_tokens() {
    let pool = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A1b2C3d4E";
    let client = "1h57kf5cpq17m0eml12EXAMPLE";
    let key =
        Issuer::rsa("abcdefgH1jk2lmNo3PqR4sTu+/5VwXyZ6aBcDeFgHiJ=", "RS256", KeySize::Rsa2048);
    let members = json!({ "alg": "RS256", "use": "sig" });
    let others = vec![other_rsa_key("zyxwvutS1rq2poNm3LkJ4iHg+/5FeDcB6aZyXwVuTsR=")];
    let cognito = Provider::new(key, members, others, [client, pool]).await;

    let id_token = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "cognito:groups": ["editors"],
        "email_verified": true,
        "iss": pool,
        "cognito:username": "janedoe",
        "origin_jti": "64f513be-32db-42b0-b78e-b02127b4f463",
        "aud": client,
        "event_id": "0ed5ad5c-7182-4ecf-9ce1-f8c9f3c4a6f7",
        "token_use": "id",
        "auth_time": NOW,
        "exp": NOW + 3_600,
        "iat": NOW,
        "jti": "d5a3c1d4-9d4c-4c37-bf4b-6b6d0b1b8d02",
        "email": "jane@example.com",
    });
    assert_eq!(cognito.user(&id_token).await.unwrap(), id_token["sub"]);
    let other = with(&id_token, "aud", "another-app-client".into());
    assert_eq!(cognito.user(&other).await, Err((AuthError::Audience, "audience")));

    // An access token names its app client in `client_id`, and has no audience.
    let mut access_token = with(&id_token, "token_use", "access".into());
    access_token.as_object_mut().unwrap().remove("aud");
    access_token["client_id"] = client.into();
    assert_eq!(cognito.user(&access_token).await, Err((AuthError::Invalid, "claim")));
}

#[tokio::test]
async fn auth0_with_access_tokens_of_an_api() {
    let tenant = "https://example.eu.auth0.com/";
    let api = "https://sync.example.com";
    let key = Issuer::rsa("NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4", "RS256", KeySize::Rsa2048);
    let members = json!({
        "alg": "RS256", "use": "sig", "x5t": "NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4",
        "x5c": ["MIIDDTCCAfWgAwIBAgIJAJVkuSv2H8mDMA0GCSqGSIb3DQEBCwUA"],
    });
    let others = vec![other_rsa_key("ODJCNzQ2RTlBRjNDMEI5RTYwQ0Q5RkY4")];
    let auth0 = Provider::new(key, members, others, [api, tenant]).await;

    let claims = json!({
        "https://example.com/org_id": "acme",
        "iss": tenant,
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "aud": [api, "https://example.eu.auth0.com/userinfo"],
        "iat": NOW,
        "exp": NOW + 86_400,
        "azp": "my_client_id",
        "scope": "openid profile",
        "permissions": [],
    });
    assert_eq!(auth0.user(&claims).await.unwrap(), claims["sub"]);
    let no_slash = with(&claims, "iss", tenant.trim_end_matches('/').into());
    assert_eq!(auth0.user(&no_slash).await, Err((AuthError::Invalid, "issuer")));
    let userinfo = with(&claims, "aud", "https://example.eu.auth0.com/userinfo".into());
    assert_eq!(auth0.user(&userinfo).await, Err((AuthError::Audience, "audience")));
    let longer = with(&claims, "exp", (NOW + 7 * 86_400).into());
    assert_eq!(auth0.user(&longer).await, Err((AuthError::Lifetime, "lifetime")));
}

/// All projects of Firebase share their keys: only audience and issuer tell them apart.
#[tokio::test]
async fn firebase_with_id_tokens() {
    let project = "my-project-1234";
    let issuer = "https://securetoken.google.com/my-project-1234";
    let key = Issuer::rsa("f90fb1ae048a548fb681ad6092b0b869ea467ac6", "RS256", KeySize::Rsa2048);
    let members = json!({ "alg": "RS256", "use": "sig" });
    let others = vec![other_rsa_key("a1c2e3f4048a548fb681ad6092b0b869ea467ac7")];
    let firebase = Provider::new(key, members, others, [project, issuer]).await;

    let claims = json!({
        "name": "Jane",
        "iss": issuer,
        "aud": project,
        "auth_time": NOW - 90_000,
        "user_id": "Xk2hVb1cQ0d8",
        "sub": "Xk2hVb1cQ0d8",
        "iat": NOW,
        "exp": NOW + 3_600,
        "email": "jane@example.com",
        "email_verified": false,
        "firebase": { "identities": { "email": ["jane@example.com"] }, "sign_in_provider": "password" },
    });
    assert_eq!(firebase.user(&claims).await.unwrap(), "Xk2hVb1cQ0d8");
    let other = with(&claims, "aud", "project-of-somebody-else".into());
    let other =
        with(&other, "iss", "https://securetoken.google.com/project-of-somebody-else".into());
    assert_eq!(firebase.user(&other).await, Err((AuthError::Audience, "audience")));
}

#[tokio::test]
async fn clerk_with_a_jwt_template() {
    let issuer = "https://clerk.example.com";
    let key = Issuer::rsa("ins_2GIoQhbUpy0hX7B2cVkuTMinXoD", "RS256", KeySize::Rsa2048);
    let members = json!({ "alg": "RS256", "use": "sig" });
    let clerk = Provider::new(key, members, vec![], ["tidewater", issuer]).await;

    let from_template = json!({
        "aud": "tidewater",
        "azp": "https://app.example.com",
        "exp": NOW + 600,
        "iat": NOW,
        "iss": issuer,
        "jti": "4a3b2c1d0e9f8a7b6c5d",
        "nbf": NOW - 5,
        "org_id": "org_2GIoQhbUpy0hX7B2cVkuTMinXoA",
        "sub": "user_2GIoQhbUpy0hX7B2cVkuTMinXoB",
    });
    assert_eq!(clerk.user(&from_template).await.unwrap(), from_template["sub"]);

    // A session token has no audience, and lives for a minute.
    let mut session = from_template.clone();
    session.as_object_mut().unwrap().remove("aud");
    session["sid"] = "sess_2GIoQhbUpy0hX7B2cVkuTMinXoC".into();
    session["fva"] = json!([0, -1]);
    session["v"] = 2.into();
    assert_eq!(clerk.user(&session).await, Err((AuthError::Invalid, "claim")));
}
