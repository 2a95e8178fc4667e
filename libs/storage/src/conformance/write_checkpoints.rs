//! The guarantees of [`WriteCheckpointStore`].

use std::collections::BTreeSet;

use super::{FOREVER, soon};
use crate::{ClientKey, Ticket, WriteCheckpointStore, WriteRequests};

fn client(user_id: &str, client_id: &str) -> ClientKey {
    ClientKey { user_id: user_id.into(), client_id: client_id.into() }
}

/// Returns requests with the numbers and tickets from 1 to `last`.
fn requests(last: u64) -> WriteRequests {
    (1..=last).fold(WriteRequests::default(), |requests, n| {
        requests.with(n.cast_signed(), Ticket(n)).unwrap()
    })
}

pub async fn tickets_start_at_one_and_increase([a, b]: [impl WriteCheckpointStore; 2]) {
    assert_eq!(a.last_ticket().await.unwrap(), Ticket(0));
    assert_eq!(a.take_ticket().await.unwrap(), Ticket(1));
    assert_eq!(b.last_ticket().await.unwrap(), Ticket(1));
    assert_eq!(b.take_ticket().await.unwrap(), Ticket(2));
    assert_eq!(a.take_ticket().await.unwrap(), Ticket(3));
    assert_eq!(a.last_ticket().await.unwrap(), Ticket(3));
}

pub async fn no_ticket_is_issued_twice([a, b]: [impl WriteCheckpointStore + Clone + 'static; 2]) {
    let takers = (0..40).map(|n| {
        let store = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { store.take_ticket().await.unwrap() })
    });

    let mut taken = BTreeSet::new();
    for taker in takers.collect::<Vec<_>>() {
        taken.insert(taker.await.unwrap());
    }
    assert_eq!(taken, (1..=40).map(Ticket).collect());
}

pub async fn a_ticket_wakes_a_waiting_call(
    [a, b]: [impl WriteCheckpointStore + Clone + 'static; 2],
) {
    for seen in 0..3 {
        let waiting = a.clone();
        let waiter = tokio::spawn(async move {
            while waiting.wait_for_ticket(Ticket(seen), FOREVER * 2).await.unwrap() == Ticket(seen)
            {
            }
        });

        tokio::task::yield_now().await;
        b.take_ticket().await.unwrap();
        soon(waiter).await.unwrap();
    }
}

pub async fn a_wait_for_an_outdated_ticket_returns_immediately(
    [a, b]: [impl WriteCheckpointStore; 2],
) {
    a.take_ticket().await.unwrap();
    a.take_ticket().await.unwrap();
    assert_eq!(soon(b.wait_for_ticket(Ticket(1), FOREVER * 2)).await.unwrap(), Ticket(2));
    assert_eq!(soon(a.wait_for_ticket(Ticket(0), FOREVER * 2)).await.unwrap(), Ticket(2));
    // A store that was restored from a backup has a lower ticket than the caller has seen.
    assert_eq!(soon(b.wait_for_ticket(Ticket(3), FOREVER * 2)).await.unwrap(), Ticket(2));
}

pub async fn a_new_client_has_no_requests([a, _]: [impl WriteCheckpointStore; 2]) {
    let found = a.write_requests(&client("u1", "c1")).await.unwrap();
    assert_eq!(found, WriteRequests::default());
}

pub async fn a_request_swap_needs_the_stored_revision([a, b]: [impl WriteCheckpointStore; 2]) {
    let client = client("u1", "c1");
    assert!(!a.swap_write_requests(&client, &requests(2)).await.unwrap());
    assert!(a.swap_write_requests(&client, &requests(1)).await.unwrap());
    assert!(b.swap_write_requests(&client, &requests(2)).await.unwrap());
    assert!(!a.swap_write_requests(&client, &requests(1)).await.unwrap());
    let rival = requests(1).with(5, Ticket(9)).unwrap();
    assert!(!a.swap_write_requests(&client, &rival).await.unwrap());
    assert_eq!(a.write_requests(&client).await.unwrap(), requests(2));
}

pub async fn a_repeated_request_swap_succeeds([a, b]: [impl WriteCheckpointStore; 2]) {
    let client = client("u1", "");
    for store in [&a, &b, &a] {
        assert!(store.swap_write_requests(&client, &requests(1)).await.unwrap());
    }
    assert!(b.swap_write_requests(&client, &requests(2)).await.unwrap());
}

pub async fn requests_of_different_clients_are_distinct([a, b]: [impl WriteCheckpointStore; 2]) {
    let clients = [
        client("ab", "c"),
        client("a", "bc"),
        client("", "abc"),
        client("abc", ""),
        client("a", "b"),
    ];

    for (n, client) in (1..).zip(&clients) {
        let requests = WriteRequests::default().with(n, Ticket(1)).unwrap();
        assert!(a.swap_write_requests(client, &requests).await.unwrap());
    }

    for (n, client) in (1..).zip(&clients) {
        assert_eq!(b.write_requests(client).await.unwrap().last_number(), n, "{client:?}");
    }
}
