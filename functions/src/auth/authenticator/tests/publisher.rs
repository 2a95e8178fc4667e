//! A server that publishes keys. The tests over HTTP use it, too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::issuer::Issuer;

/// The server's answer.
#[derive(Clone)]
pub(crate) enum Reply {
    Set(Value),
    Text(&'static str),
    Status(u16),
    Redirect,
    /// Bytes without an end.
    Endless,
    /// One byte at a time, without an end.
    Drip,
    /// No answer, ever.
    Silence,
    /// The answer that is set when this is notified.
    Held(Arc<Notify>),
}

/// An identity provider's URL, at `/keys`.
pub(crate) struct Publisher {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    reply: Mutex<Reply>,
    fetches: AtomicUsize,
    elsewhere: AtomicUsize,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Publisher {
    pub(crate) async fn start(reply: Reply) -> Self {
        let shared = Shared {
            reply: Mutex::new(reply),
            fetches: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
        };
        let shared = Arc::new(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let router = Router::new().route("/keys", get(answer)).route("/elsewhere", get(elsewhere));
        let router = router.with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, task }
    }

    pub(crate) async fn of(issuers: &[&Issuer]) -> Self {
        Self::start(set(issuers)).await
    }

    pub(crate) fn answer_with(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    /// Returns how often the keys were fetched.
    pub(crate) fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Returns how often a redirect was followed.
    pub(crate) fn followed(&self) -> usize {
        self.shared.elsewhere.load(Ordering::SeqCst)
    }
}

async fn answer(State(shared): State<Arc<Shared>>) -> Response {
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    let mut reply = shared.reply.lock().unwrap().clone();
    if let Reply::Held(answer) = reply {
        answer.notified().await;
        reply = shared.reply.lock().unwrap().clone();
    }

    match reply {
        Reply::Set(set) => set.to_string().into_response(),
        Reply::Text(text) => text.into_response(),
        Reply::Status(status) => axum::http::StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Redirect => Redirect::temporary("/elsewhere").into_response(),
        Reply::Endless => {
            let spaces = stream::repeat_with(|| Ok::<&[u8], std::io::Error>(&[b' '; 4096]));
            Body::from_stream(spaces).into_response()
        }
        Reply::Drip => {
            let slow = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((Ok::<_, std::io::Error>(" "), ()))
            });
            Body::from_stream(slow).into_response()
        }
        Reply::Silence | Reply::Held(_) => std::future::pending().await,
    }
}

async fn elsewhere(State(shared): State<Arc<Shared>>) -> Response {
    shared.elsewhere.fetch_add(1, Ordering::SeqCst);
    "{\"keys\":[]}".into_response()
}

/// Returns a set of the issuers' keys.
pub(crate) fn set(issuers: &[&Issuer]) -> Reply {
    Reply::Set(json!({ "keys": issuers.iter().map(|one| &one.jwk).collect::<Vec<_>>() }))
}
