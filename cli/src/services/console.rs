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

/// The page's scripts, by their names: modules of one duty each.
const SCRIPTS: [(&str, &str); 7] = [
    ("/console/api.js", include_str!("console/api.js")),
    ("/console/charts.js", include_str!("console/charts.js")),
    ("/console/editor.js", include_str!("console/editor.js")),
    ("/console/main.js", include_str!("console/main.js")),
    ("/console/page.js", include_str!("console/page.js")),
    ("/console/picture.js", include_str!("console/picture.js")),
    ("/console/state.js", include_str!("console/state.js")),
];

/// Policy of the page: it may load its own files and nothing else. Nothing within it is a script or a
/// style, and no other page may show it in a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// Returns the routes of the page. Other pages of the server lead to it.
pub(crate) fn pages() -> Router {
    let pages = Router::new()
        .route("/", get(|| async { Redirect::to(PATH) }))
        .route("/console", get(|| async { Redirect::to(PATH) }))
        .route(PATH, get(async || file("text/html; charset=utf-8", PAGE)))
        .route("/console/style.css", get(async || file("text/css; charset=utf-8", STYLE)));
    SCRIPTS.iter().fold(pages, |pages, &(path, script)| {
        pages.route(path, get(async move || file("text/javascript; charset=utf-8", script)))
    })
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
        for (name, script) in SCRIPTS {
            for unsafe_sink in
                ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "srcdoc"]
            {
                assert!(!script.contains(unsafe_sink), "{name}: {unsafe_sink}");
            }
        }
    }

    #[test]
    fn each_module_that_a_script_imports_is_served() {
        for (name, script) in SCRIPTS {
            let imports = script.lines().filter_map(|line| line.split_once(" from './"));
            for (_, rest) in imports {
                let path = format!("/console/{}", rest.trim_end_matches("';"));
                assert!(SCRIPTS.iter().any(|(other, _)| *other == path), "{name} imports {path}");
            }
        }
    }
}
