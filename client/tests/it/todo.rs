//! The example app, against the scripted server.

use serde_json::json;
use tempfile::TempDir;

use crate::server::Server;

#[path = "../../examples/todo.rs"]
#[expect(dead_code, reason = "the example's main function is not called")]
mod example;

#[tokio::test]
async fn the_example_uploads_a_todo_and_lists_it_with_the_others() {
    let dir = TempDir::new().unwrap();
    let server = Server::start().await;
    let other = json!({"title": "a walk", "done": 1, "list_id": null});
    server.change(|source| source.put("a", "todos", "t1", &other));

    let path = dir.path().join("todo.db");
    let upload_url = server.upload_url();
    let todos = example::add_todo(&path, &server.url, "t", &upload_url, "buy milk").await.unwrap();
    assert_eq!(todos, [("a walk".to_owned(), true), ("buy milk".to_owned(), false)]);

    let seen = server.seen();
    assert_eq!(seen.uploads.len(), 1);
    assert_eq!(seen.uploads[0].operations[0].data["title"], "buy milk");
}
