//! A store for unit tests.

use tidewater_protocol::OpId;
use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{Committed, ControlStore, Embedded, Generation, Lsn, Tag, Ticket, Visible};

const CONFIG: &str = "
config:
  edition: 3
streams:
  everyone:
    auto_subscribe: true
    query: SELECT * FROM notices
";

/// Returns a store whose first checkpoint is visible and empty.
pub(crate) async fn store() -> Embedded {
    let storage = Embedded::temporary().unwrap();
    let mut control = first_control();
    let id = control.generation;
    let generation = Generation {
        sync_config: CONFIG.to_owned(),
        definitions: vec![Tag::from_bits(1)],
        ..empty_generation(id)
    };
    storage.put_generation(&generation).await.unwrap();
    let at = Committed { op: OpId::ZERO, lsn: Lsn(1), ticket: Ticket::default() };
    control.visible = Some(Visible { at, generation: id, truncated: Vec::new(), current_at: None });
    storage.swap_control(None, &control).await.unwrap();
    storage
}
