use serde_json::Value;
use tidewater_storage::Embedded;

use super::*;
use crate::auth::Authenticator;
use crate::checkpoint::ClientRequest;
use crate::settings::Settings;
use crate::test_store::store;

async fn open(valid_seconds: u64, keep_open: Option<Duration>) -> Connection<Embedded> {
    open_until(valid_seconds, keep_open, None).await
}

async fn open_until(
    valid_seconds: u64,
    keep_open: Option<Duration>,
    deadline: Option<Instant>,
) -> Connection<Embedded> {
    let keys = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;
    let auth = Authenticator::new(&[keys], vec!["app".to_owned()]).unwrap();
    let app = Arc::new(AppState::new(store().await, Settings { keep_open, ..Settings::new(auth) }));

    let permit = Arc::clone(&app.connections).try_acquire_owned().unwrap();
    let client = Client::new(ClientRequest {
        user_id: "u1".to_owned(),
        claims: serde_json::Map::new(),
        parameters: None,
        include_defaults: true,
        subscriptions: Vec::new(),
    });

    let params = StreamParams {
        client,
        client_key: ClientKey { user_id: "u1".to_owned(), client_id: "c1".to_owned() },
        positions: HashMap::new(),
        format: LineFormat::Json,
        snapshots: false,
        valid: Duration::from_secs(valid_seconds),
        deadline,
        permit,
        tally: Arc::default(),
    };

    Connection::open(app, params).await.unwrap()
}

/// Returns all lines up to the end, each with the seconds since the beginning.
async fn all_lines(mut connection: Connection<Embedded>) -> (Vec<(f64, Value)>, f64) {
    let start = Instant::now();
    let mut lines = Vec::new();
    while let Some(chunk) = connection.next_chunk().await.unwrap() {
        let at = start.elapsed().as_secs_f64();
        let whole = chunk.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n');
        lines.extend(whole.map(|line| (at, serde_json::from_slice(line).unwrap())));
    }
    (lines, start.elapsed().as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_tells_the_remaining_lifetime_of_its_token() {
    let (lines, end) = all_lines(open(100, None).await).await;
    assert!(lines[0].1.get("checkpoint").is_some());
    assert!(lines[1].1.get("checkpoint_complete").is_some());

    let told: Vec<_> = lines[2..]
        .iter()
        .map(|(at, line)| (*at, line["token_expires_in"].as_i64().unwrap()))
        .collect();
    let mut before = 0.0;
    for &(at, left) in &told {
        assert!(at - before < 22.1, "silence from {before} to {at}");
        assert!((100.0 - at - f64::from(i32::try_from(left).unwrap())).abs() <= 0.6, "{told:?}");
        before = at;
    }

    assert!(told.iter().any(|&(at, left)| left == 20 && (79.9..80.1).contains(&at)), "{told:?}");
    assert_eq!(told.last().unwrap().1, 0);
    assert!((99.9..100.1).contains(&end), "{end}");
    assert_eq!(told.iter().filter(|(_, left)| *left == 0).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_up_to_date_stream_stays_open_for_the_set_time() {
    let (lines, end) = all_lines(open(3_600, Some(Duration::from_secs(50))).await).await;
    assert!((49.9..50.1).contains(&end), "{end}");
    assert!(lines.len() > 3, "it is kept alive meanwhile");
    let (lines, end) = all_lines(open(3_600, Some(Duration::ZERO)).await).await;
    assert_eq!((lines.len(), end < 0.1), (2, true));
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_closes_before_its_deadline_without_a_hand_over() {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (lines, end) = all_lines(open_until(3_600, None, Some(deadline)).await).await;
    assert!((34.9..35.1).contains(&end), "{end}");
    let left = lines.iter().filter_map(|(_, line)| line["token_expires_in"].as_i64());
    assert!(left.clone().count() > 0, "it is kept alive meanwhile");
    assert!(left.min() > Some(3_500), "{lines:?}");
}

/// Ten thousand connections must fit into a small machine.
#[tokio::test]
async fn an_idle_connection_is_small() {
    let mut connection = open(3_600, None).await;
    assert!(connection.next_chunk().await.unwrap().is_some());
    assert!(!connection.state.is_sending() && connection.buffer.is_empty());
    let waiting = size_of_val(&connection.next_chunk());
    assert!(size_of::<Connection<Embedded>>() + waiting < 4_096, "{waiting}");
}
