//! Tests of the router over HTTP, with a real store. The tests play the ingest worker.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "../../src/auth/authenticator/tests/issuer.rs"]
mod issuer;
#[path = "../../src/auth/authenticator/tests/publisher.rs"]
mod publisher;

mod access;
mod admin;
mod client;
mod coding;
mod content;
mod ending;
mod following;
mod http;
mod lifecycle;
mod limits;
mod positions;
mod published_keys;
mod server;
mod stream_log;
mod web_socket;
mod worker;
mod write_checkpoints;

use client::Device;
use server::Server;
use tidewater_storage::Embedded;
use worker::Worker;

/// Buckets for everybody, of a user, and of the user's organisations.
pub(crate) const CONFIG: &str = "
config:
  edition: 3
streams:
  everyone:
    auto_subscribe: true
    query: SELECT * FROM notices
  own:
    auto_subscribe: true
    priority: 1
    query: SELECT * FROM notes WHERE owner = auth.user_id()
  org:
    auto_subscribe: true
    priority: 2
    query: SELECT * FROM docs WHERE org IN (SELECT org FROM members WHERE usr = auth.user_id())
";

/// Starts a worker with the config above, and a server over the same store.
pub(crate) async fn deployment() -> (Worker, Server) {
    let worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let server = Server::start(worker.storage.clone(), server::settings()).await;
    (worker, server)
}

pub(crate) fn rows<const N: usize>(
    rows: [(&str, &str); N],
) -> std::collections::BTreeMap<String, String> {
    rows.map(|(id, text)| (id.to_owned(), text.to_owned())).into()
}

/// Returns a device of user `u1` that has just synced, and its token.
pub(crate) async fn synced(server: &Server) -> (Device, String) {
    let mut device = Device::default();
    let token = server::token("u1");
    device.sync(server, &token).await;
    (device, token)
}
