//! The buckets of a request at the checkpoint that devices have, found as the sync API finds them.

use std::collections::BTreeSet;

use tidewater_storage::{LookupKey, ReadResult, Storage, StorageError, Visible, table_of_answer};
use tidewater_sync_config::{Granted, Question, Request, RequestLimits, STAGES_MAX};

use crate::why::error::WhyError;
use crate::why::report::{LookupReport, UserReport};
use crate::why::store_side::{Bucket, StoreSide};

/// The user's part of the chain.
pub(super) struct UserSide {
    /// `None` if the sync API refuses the request.
    pub(super) buckets: Option<Vec<Bucket>>,
    /// The streams that the request is subscribed to.
    pub(super) streams: Vec<String>,
    pub(super) report: UserReport,
}

/// Evaluates the request.
pub(super) async fn read_user<S: Storage>(
    storage: &S,
    store: &StoreSide,
    request: &Request<'_>,
) -> Result<UserSide, WhyError> {
    let mut report = UserReport::default();
    let granted = match grant(storage, store, request, &mut report).await? {
        Ok(granted) => granted,
        Err(refusal) => {
            report.errors.push(refusal);
            return Ok(UserSide { buckets: None, streams: Vec::new(), report });
        }
    };

    let buckets: Vec<_> = granted
        .buckets
        .iter()
        .map(|one| Bucket { definition: one.definition, params: one.params.clone() })
        .collect();
    report.buckets = buckets.iter().map(|bucket| store.bucket_name(bucket)).collect();
    for stream in &granted.streams {
        let errors =
            stream.errors.iter().map(|error| format!("{}: {}", stream.name, error.message));
        report.errors.extend(errors);
    }
    let streams = granted.streams.into_iter().map(|stream| stream.name).collect();
    Ok(UserSide { buckets: Some(buckets), streams, report })
}

/// Asks the lookups stage after stage. Returns the refusal of the sync API if the request exceeds a limit.
async fn grant<S: Storage>(
    storage: &S,
    store: &StoreSide,
    request: &Request<'_>,
    report: &mut UserReport,
) -> Result<Result<Granted, String>, WhyError> {
    let prepared = match store.config.prepare(request, &RequestLimits::default()) {
        Ok(prepared) => prepared,
        Err(limit) => return Ok(Err(limit.to_string())),
    };
    let mut evaluation = prepared.evaluation();
    for _ in 0..=STAGES_MAX {
        let questions = evaluation.questions().to_vec();
        if questions.is_empty() {
            return Ok(evaluation.finish().map_err(|limit| limit.to_string()));
        }
        let outputs = outputs(storage, store, &questions).await?;
        for (question, outputs) in questions.iter().zip(&outputs) {
            let table = store.config.lookups()[question.lookup].table;
            report.lookups.push(LookupReport {
                table: store.config.tables()[table].to_string(),
                key: question.key.clone(),
                outputs: outputs.clone(),
            });
        }
        evaluation.answer(&outputs);
    }
    Err(WhyError::Config("the lookups of the request do not end".to_owned()))
}

/// Returns the outputs of all answers to each question. Before there is a checkpoint there is none.
async fn outputs<S: Storage>(
    storage: &S,
    store: &StoreSide,
    questions: &[Question],
) -> Result<Vec<Vec<String>>, StorageError> {
    let Some(visible) = &store.control.visible else {
        return Ok(vec![Vec::new(); questions.len()]);
    };
    let key = |question: &Question| {
        LookupKey::new(&store.generation.lookups[question.lookup], &question.key)
    };
    let keys: Vec<_> = questions.iter().map(key).collect();

    let mut all = Vec::with_capacity(keys.len());
    for rows in storage.lookup_rows(&keys).await? {
        let mut outputs = BTreeSet::new();
        for row in rows {
            // One that is too old to be read has just changed often: its newest state is shown.
            let op = visible.at.op;
            let found = match row.record.read_at(op, &store.committed_ops) {
                ReadResult::TooOld => {
                    row.record.read_at(store.control.committed.op, &store.committed_ops)
                }
                found @ (ReadResult::Found(..) | ReadResult::NotFound) => found,
            };
            let ReadResult::Found(op, value) = found else { continue };
            if is_truncated(visible, &row.answer_name, op) {
                continue;
            }
            let text = std::str::from_utf8(value)
                .map_err(|error| StorageError::Damaged("lookup", error.into()))?;
            outputs.insert(text.to_owned());
        }
        all.push(outputs.into_iter().collect());
    }
    Ok(all)
}

/// Returns whether an answer counts as deleted, because its table was truncated later.
fn is_truncated(visible: &Visible, answer_name: &str, op: tidewater_protocol::OpId) -> bool {
    let table = table_of_answer(answer_name);
    visible.truncated.iter().any(|one| Some(one.table) == table && op < one.op)
}
