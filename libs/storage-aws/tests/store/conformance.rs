//! The conformance suite on the DynamoDB emulator.

use tidewater_storage::storage_conformance;

mod two_clones {
    use super::storage_conformance;
    storage_conformance!(async {
        let store = crate::emulator::empty_store().await;
        [store.clone(), store]
    });
}

mod connected_twice {
    use super::storage_conformance;
    // Like two processes, these have connections, caches and notifications of their own.
    storage_conformance!(async { crate::emulator::two_handles_of_an_empty_store().await });
}
