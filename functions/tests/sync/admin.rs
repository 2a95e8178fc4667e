//! Who may use the admin API.

use axum::Router;
use axum::routing::post;
use reqwest::StatusCode;
use tidewater_functions::{Admin, Settings};

use crate::deployment;
use crate::server::{Server, body_of, settings, token};

const TOKEN: &str = "0123456789abcdef-admin";
const PATH: &str = "/api/admin/v1/diagnostics";

/// Starts a server whose admin API has one route.
async fn server() -> Server {
    let (worker, _) = deployment().await;
    let routes = Router::new().route(PATH, post(|| async { "{\"data\":{}}" }));
    let admin = Some(Admin::new(&[TOKEN], routes).unwrap());
    Server::start(worker.storage.clone(), Settings { admin, ..settings() }).await
}

/// Returns the status and the code of the reply to a request with a token.
async fn answer(server: &Server, path: &str, token: &str) -> (StatusCode, String) {
    let (status, body) = body_of(server.post(path, token, "{}").await).await;
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn without_a_token_of_the_server_every_admin_path_says_that_it_is_off() {
    let (_worker, server) = deployment().await;
    for path in [PATH, "/api/admin/v1/schema", "/api/sync-rules/v1/deploy", "/api/admin/x/y"] {
        let (status, body) = body_of(server.post(path, TOKEN, "{}").await).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        let description = body["error"]["description"].as_str().unwrap();
        assert!(description.contains("The admin API is off"), "{body}");
    }
}

#[tokio::test]
async fn only_the_admin_token_opens_the_admin_api() {
    let server = server().await;
    assert_eq!(answer(&server, PATH, TOKEN).await, (StatusCode::OK, String::new()));
    for wrong in ["", "0123456789abcdef-", "0123456789abcdef-admin2", &token("u1")] {
        let refused = (StatusCode::UNAUTHORIZED, "PSYNC_S2101".to_owned());
        assert_eq!(answer(&server, PATH, wrong).await, refused, "{wrong}");
    }
    let unknown = answer(&server, "/api/admin/v1/unknown", TOKEN).await;
    assert_eq!(unknown, (StatusCode::NOT_FOUND, "PSYNC_S2002".to_owned()));

    let request = reqwest::Client::new().post(format!("{}{PATH}", server.url));
    let (status, body) = body_of(request.send().await.unwrap()).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::UNAUTHORIZED, &"PSYNC_S2106".into()));
}

#[tokio::test]
async fn the_admin_token_is_no_token_of_a_user() {
    let server = server().await;
    let (status, _) = server.refusal(TOKEN, "{}").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn many_wrong_tokens_are_answered_with_a_pause_and_the_right_one_still_opens() {
    let server = server().await;
    let mut limited = None;
    for _ in 0..50 {
        let reply = server.post(PATH, "a wrong token", "{}").await;
        if reply.status() == StatusCode::TOO_MANY_REQUESTS {
            limited = Some(reply.headers()["retry-after"].to_str().unwrap().to_owned());
            break;
        }
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(limited.as_deref(), Some("1"));
    assert_eq!(answer(&server, PATH, TOKEN).await.0, StatusCode::OK);
}
