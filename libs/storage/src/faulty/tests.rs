use std::time::Duration;

use super::*;
use crate::storage_conformance;
use crate::{ControlStore, Embedded, Ticket, WriteCheckpointStore};

mod without_faults {
    use super::storage_conformance;
    storage_conformance!(async {
        let store = crate::Embedded::temporary().unwrap();
        let store = crate::Faulty::new(store, crate::FaultPlan::default());
        [store.clone(), store]
    });
}

fn store(plan: &str) -> Faulty<Embedded> {
    Faulty::new(Embedded::temporary().unwrap(), plan.parse().unwrap())
}

#[tokio::test]
async fn a_failed_call_does_nothing() {
    let store = store("take_ticket:2:fail,take_ticket:3:full");
    assert_eq!(store.take_ticket().await.unwrap(), Ticket(1));
    assert!(matches!(store.take_ticket().await, Err(StorageError::Unavailable(_))));
    assert!(matches!(store.take_ticket().await, Err(StorageError::Full(_))));
    assert_eq!(store.last_ticket().await.unwrap(), Ticket(1));
    assert_eq!(store.take_ticket().await.unwrap(), Ticket(2));
    assert_eq!(store.calls(PortMethod::TakeTicket), 4);
}

#[tokio::test]
async fn a_call_whose_reply_is_lost_is_done() {
    let store = store("take_ticket:1:lose_reply,last_ticket:1:lose_reply");
    assert!(matches!(store.take_ticket().await, Err(StorageError::Unknown(_))));
    assert!(matches!(store.last_ticket().await, Err(StorageError::Unavailable(_))));
    assert_eq!(store.last_ticket().await.unwrap(), Ticket(1));
}

#[tokio::test]
async fn clones_count_together_and_methods_apart() {
    let store = store("take_ticket:2:fail");
    let clone = store.clone();
    store.last_ticket().await.unwrap();
    store.take_ticket().await.unwrap();
    assert!(clone.take_ticket().await.is_err());
    assert_eq!((store.calls(PortMethod::TakeTicket), store.calls(PortMethod::Control)), (2, 0));
}

#[tokio::test]
async fn a_delayed_call_is_made() {
    let store = store("take_ticket:1:delay_30ms");
    let begun = tokio::time::Instant::now();
    assert_eq!(store.take_ticket().await.unwrap(), Ticket(1));
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_seed_determines_the_random_faults() {
    let first = failures(1).await;
    let failed = first.iter().filter(|&&failed| failed).count();
    assert!((15..45).contains(&failed), "{failed} of 100 with a chance of 30 %");
    assert_eq!(first, failures(1).await);
    assert_ne!(first, failures(2).await);
}

/// Returns which of 100 calls fail with this seed.
async fn failures(seed: u64) -> Vec<bool> {
    let plan = FaultPlan::default().with_random(seed, 300);
    let store = Faulty::new(Embedded::temporary().unwrap(), plan);
    let mut failures = Vec::new();
    for _ in 0..100 {
        failures.push(store.control().await.is_err());
    }
    failures
}

#[test]
fn a_plan_is_read_from_text() {
    let plan: FaultPlan =
        "swap_control:3:kill_before, write:1:lose_reply,write:2:delay_50ms,random:7:20"
            .parse()
            .unwrap();
    let expected = FaultPlan::default()
        .with(PortMethod::SwapControl, 3, Fault::KillBefore)
        .with(PortMethod::Write, 1, Fault::LoseReply)
        .with(PortMethod::Write, 2, Fault::Delay(Duration::from_millis(50)))
        .with_random(7, 20);
    assert_eq!(plan, expected);
    assert_eq!("".parse(), Ok(FaultPlan::default()));
}

#[test]
fn an_invalid_fault_is_named() {
    for bad in [
        "write",
        "write:1",
        "write:x:fail",
        "write:0:fail",
        "write:1:explode",
        "wrote:1:fail",
        "write:1:delay_5",
        "random:1",
        "write:1:fail:2",
        "control:-1:fail",
    ] {
        let error = format!("control:1:fail,{bad}").parse::<FaultPlan>().unwrap_err();
        assert!(error.to_string().starts_with(&format!("'{bad}' is not a fault")), "{error}");
    }
}

#[test]
fn every_method_has_the_name_of_its_port() {
    let ports = include_str!("../ports.rs");
    for method in PortMethod::ALL {
        assert!(ports.contains(&format!("    fn {}(", method.name())), "{method}");
    }
    let declared = ports.matches("\n    fn ").count();
    assert_eq!(declared, PortMethod::ALL.len());
}

#[tokio::test]
async fn a_call_waits_until_the_scheduler_admits_it() {
    let scheduler = Arc::new(CallScheduler::default());
    let store = store("").with_scheduler(Arc::clone(&scheduler));
    let callers = [store.clone(), store.clone()]
        .map(|store| tokio::spawn(async move { store.take_ticket().await.unwrap() }));

    scheduler.wait_until_idle().await;
    assert_eq!(store.calls(PortMethod::TakeTicket), 0);
    scheduler.admit_one();
    scheduler.wait_until_idle().await;
    assert_eq!(store.calls(PortMethod::TakeTicket), 1);
    assert_eq!(store.inner().last_ticket().await.unwrap(), Ticket(1));

    scheduler.admit_all();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(store.take_ticket().await.unwrap(), Ticket(3));
}

#[tokio::test]
async fn a_cancelled_call_does_not_wait() {
    let scheduler = Arc::new(CallScheduler::default());
    let store = store("").with_scheduler(Arc::clone(&scheduler));
    let caller = tokio::spawn({
        let store = store.clone();
        async move { store.take_ticket().await }
    });
    scheduler.wait_until_idle().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let nobody = tokio::time::timeout(Duration::from_millis(20), scheduler.wait_until_idle()).await;
    assert!(nobody.is_err(), "no call waits");
}
