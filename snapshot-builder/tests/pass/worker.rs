//! Runs of the worker, as far as they matter to the builder.

use tidewater_ingest_worker::{CommitOptions, LogWriter};
use tidewater_protocol::{Body, RowKey};
use tidewater_storage::conformance::{empty_generation, first_control};
use tidewater_storage::{
    BucketKey, ControlStore, Embedded, Generation, GenerationId, Lsn, Nonce, Numbering, Tag, Ticket,
};

pub(crate) type Writer = LogWriter<Embedded>;

/// Begins the next run: with a new generation of these definitions, or with the generation of the previous
/// run. Each operation makes its bucket due.
pub(crate) async fn begun(store: &Embedded, definitions: Option<&[Tag]>) -> Writer {
    let former = store.control().await.unwrap();
    let nonce = Nonce("n".into());
    let (mut next, archived) = match &former {
        Some(former) => former.after_takeover(nonce).unwrap(),
        None => (first_control(), Vec::new()),
    };

    let generation = definitions.map(|definitions| Generation {
        definitions: definitions.to_vec(),
        definition_numbers: Numbering::first(definitions.len()).unwrap(),
        ..empty_generation(GenerationId(next.epoch))
    });
    if let Some(generation) = &generation {
        next.generation = generation.id;
    }

    let writer =
        LogWriter::take_over(store.clone(), former, next, archived, generation.as_ref()).await;
    writer.unwrap().with_compaction_threshold(1)
}

/// Puts rows into a bucket.
pub(crate) fn put(writer: &mut Writer, bucket: &BucketKey, rows: u64) {
    for id in 0..rows {
        let id = id.to_string();
        let row = RowKey::new("t", &id, "0");
        writer.append(bucket.as_str(), Body::Put { row, data: "{}".into() });
    }
}

/// Commits what the writer has collected, visible at once.
pub(crate) async fn commit(writer: &mut Writer) {
    writer.commit(Lsn(1), Ticket(0), CommitOptions::default()).await.unwrap();
}
