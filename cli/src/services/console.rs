//! The console: a web page that shows the state of a deployment.
//!
//! The page has no data of its own and is served to everybody. It asks the admin API, with a token that
//! the user has.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;

/// The path of the page.
pub(crate) const PATH: &str = "/console/";

const PAGE: &str = include_str!("console/index.html");
const STYLE: &str = include_str!("console/style.css");
const SCRIPT: &str = include_str!("console/script.js");

/// Policy of the page: it may load its own files and nothing else. Nothing within it is a script or a
/// style, and no other page may show it in a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// Returns the routes of the page. Other pages of the server lead to it.
pub(crate) fn pages() -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::to(PATH) }))
        .route("/console", get(|| async { Redirect::to(PATH) }))
        .route(PATH, get(async || file("text/html; charset=utf-8", PAGE)))
        .route("/console/style.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/console/script.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
}

fn file(content_type: &'static str, content: &'static str) -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // The files belong to the program: a new version must not meet old ones.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (headers, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_nothing_that_its_policy_forbids() {
        for forbidden in
            ["style=", "onclick", "onload=", "http://", "https://", "<script>", "<style>"]
        {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        // The server's texts are set as text.
        for unsafe_sink in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
            assert!(!SCRIPT.contains(unsafe_sink), "{unsafe_sink}");
        }
    }
}
