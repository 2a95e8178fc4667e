use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{
    CallScheduler, Committed, ControlStore, Embedded, FaultPlan, Faulty, Lsn, SwapOutcome, Visible,
    WriteCheckpointStore,
};

use super::*;
use tidewater_protocol::OpId;

fn client(user_id: &str) -> ClientKey {
    ClientKey { user_id: user_id.to_owned(), client_id: "c".to_owned() }
}

/// Returns a store whose visible checkpoint covers the tickets up to `ticket`.
async fn store_covering(ticket: Ticket) -> Embedded {
    let storage = Embedded::temporary().unwrap();
    let mut control = first_control();
    let at = Committed { op: OpId::ZERO, lsn: Lsn(1), ticket };
    let generation = control.generation;
    control.visible = Some(Visible { at, generation, truncated: Vec::new(), current_at: None });
    storage.put_generation(&empty_generation(generation)).await.unwrap();
    assert_eq!(storage.swap_control(None, &control).await.unwrap(), SwapOutcome::Swapped);
    storage
}

#[tokio::test]
async fn each_client_has_its_own_ascending_numbers() {
    let storage = Embedded::temporary().unwrap();
    for number in 1..=10 {
        assert_eq!(next_number(&storage, &client("u1")).await.unwrap(), number);
    }
    assert_eq!(next_number(&storage, &client("u2")).await.unwrap(), 1);
}

#[tokio::test]
async fn a_chosen_number_is_registered_unless_a_greater_one_is_known() {
    let storage = Embedded::temporary().unwrap();
    let client = client("u");
    assert_eq!(register(&storage, &client, 41).await.unwrap(), 41);

    let ticket = storage.last_ticket().await.unwrap();
    assert_eq!(register(&storage, &client, 3).await.unwrap(), 41);
    assert_eq!(register(&storage, &client, 41).await.unwrap(), 41);

    assert_eq!(storage.last_ticket().await.unwrap(), ticket, "no ticket was taken again");
    assert_eq!(register(&storage, &client, 42).await.unwrap(), 42);

    assert_eq!(next_number(&storage, &client).await.unwrap(), 43);
    assert_eq!(register(&storage, &client, i64::MAX).await.unwrap(), i64::MAX);
    let used_up = next_number(&storage, &client).await.unwrap_err();
    assert!(matches!(used_up, ApiError::Invalid(_)), "no number is left: {used_up}");
}

/// Numbers and tickets must rise together, whichever request overtakes another. Otherwise a number
/// would be acknowledged for a write that the checkpoint does not contain.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests_keep_numbers_and_tickets_in_the_same_order() {
    let storage = Embedded::temporary().unwrap();
    let mut seen = BTreeMap::new();
    for _ in 0..20 {
        let requests = (0..3).map(|_| async {
            let before = storage.last_ticket().await.unwrap();
            let number = next_number(&storage, &client("u")).await.unwrap();
            (number, before)
        });
        for (number, before) in futures::future::join_all(requests).await {
            assert!(seen.insert(number, before).is_none(), "{number} was handed out twice");
        }

        let stored = storage.write_requests(&client("u")).await.unwrap().entries;
        for pair in stored.windows(2) {
            assert!(pair[0].number < pair[1].number && pair[0].ticket < pair[1].ticket);
        }

        for entry in stored {
            // The ticket was taken after the request had begun, so a checkpoint that covers it
            // contains the write.
            assert!(seen.get(&entry.number).is_none_or(|before| entry.ticket > *before));
        }
    }

    assert_eq!(seen.len(), 60);
}

/// Runs three requests of one client, whose storage calls happen in the order of `turns`.
async fn interleaved(turns: Vec<usize>) {
    let storage = store_covering(Ticket(0)).await;
    let client = client("u");
    let schedulers: Vec<_> = (0..3).map(|_| Arc::new(CallScheduler::default())).collect();
    let mut requests = Vec::new();
    for scheduler in &schedulers {
        let store = Faulty::new(storage.clone(), FaultPlan::default());
        let store = store.with_scheduler(Arc::clone(scheduler));
        let client = client.clone();
        requests.push(tokio::spawn(async move { next_number(&store, &client).await.unwrap() }));
    }

    for turn in turns {
        schedulers[turn].admit_one();
        // Its call is done when it waits with the next one, or has ended.
        while !requests[turn].is_finished() && !schedulers[turn].is_idle() {
            tokio::task::yield_now().await;
        }
    }

    schedulers.iter().for_each(|scheduler| scheduler.admit_all());

    let mut numbers = Vec::new();
    for request in requests {
        numbers.push(request.await.unwrap());
    }

    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);

    let stored = storage.write_requests(&client).await.unwrap().entries;
    assert_eq!(stored.iter().map(|entry| entry.number).collect::<Vec<_>>(), numbers);
    assert!(stored.is_sorted_by(|a, b| a.ticket < b.ticket), "{stored:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
    #[test]
    fn numbers_and_tickets_rise_together_in_every_order_of_calls(
        turns in prop::collection::vec(0..3_usize, 0..16)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(interleaved(turns));
    }
}

#[tokio::test]
async fn a_request_that_a_checkpoint_overtook_renews_its_ticket() {
    let storage = store_covering(Ticket(1)).await;
    // The checkpoint covers ticket 1 before the request is stored. An open stream that read the
    // requests then found nothing, and reads again only when the ticket moves.
    assert_eq!(next_number(&storage, &client("u")).await.unwrap(), 1);
    let stored = storage.write_requests(&client("u")).await.unwrap().entries;
    assert_eq!(stored[0].ticket, Ticket(1));
    assert_eq!(storage.last_ticket().await.unwrap(), Ticket(2));
    // The next one is not covered yet: nothing more to do.
    assert_eq!(next_number(&storage, &client("u")).await.unwrap(), 2);
    assert_eq!(storage.last_ticket().await.unwrap(), Ticket(3));
}
