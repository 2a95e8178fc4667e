//! A client: its user and its request, evaluated for a sync config.

use std::sync::Arc;

use serde_json::{Map, Value};
use tidewater_protocol::StreamSubscription;
use tidewater_storage::GenerationId;
use tidewater_sync_config::{PreparedRequest, Request, RequestLimits};

use super::compute::compute;
use super::error::CheckpointError;
use super::view::CheckpointView;

/// Number of values from which a request is evaluated besides the threads that serve connections.
/// Evaluating this many takes about as long as handing them over.
const LARGE_VALUES: usize = 500;

/// A request as it was received. Only the claims are verified.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    pub(crate) user_id: String,
    pub(crate) claims: Map<String, Value>,
    pub(crate) parameters: Option<Map<String, Value>>,
    pub(crate) include_defaults: bool,
    pub(crate) subscriptions: Vec<StreamSubscription>,
}

/// A client. It keeps what the queries read of the request, for the life of its stream. The request
/// itself takes many times the memory, and is dropped when the stream is open.
#[derive(Debug)]
pub(crate) struct Client {
    request: Option<Arc<ClientRequest>>,
    prepared: Option<(GenerationId, Arc<PreparedRequest>)>,
}

impl Client {
    /// Creates a client whose request is not evaluated yet.
    pub(crate) fn new(request: ClientRequest) -> Self {
        Self { request: Some(Arc::new(request)), prepared: None }
    }

    /// Drops the request. From here on, the client can be served with its present sync config only.
    pub(crate) fn drop_request(&mut self) {
        self.request = None;
    }

    /// Returns about how many bytes are kept of the request.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.prepared.as_ref().map_or(0, |(_, prepared)| prepared.kept_bytes())
    }

    /// Returns the request as evaluated for a view's sync config.
    ///
    /// # Errors
    /// `Replaced` if the view has another sync config than the request was evaluated for.
    pub(super) async fn prepared(
        &mut self,
        view: &CheckpointView,
        limits: RequestLimits,
    ) -> Result<Arc<PreparedRequest>, CheckpointError> {
        let id = view.id().generation;
        if let Some((generation, prepared)) = &self.prepared
            && *generation == id
        {
            return Ok(Arc::clone(prepared));
        }

        let request = Arc::clone(self.request.as_ref().ok_or(CheckpointError::Replaced)?);
        let generation = Arc::clone(&view.generation);
        let is_large = request.is_large();
        let prepared = compute(is_large, move || {
            generation.config.prepare(&request.borrow(), &limits).map(Arc::new)
        });
        let prepared = prepared.await?;
        let prepared = prepared.map_err(|limit| CheckpointError::OverQuota(limit.to_string()))?;
        self.prepared = Some((id, Arc::clone(&prepared)));
        Ok(prepared)
    }
}

impl ClientRequest {
    fn borrow(&self) -> Request<'_> {
        Request {
            user_id: &self.user_id,
            claims: &self.claims,
            parameters: self.parameters.as_ref(),
            include_defaults: self.include_defaults,
            subscriptions: &self.subscriptions,
        }
    }

    fn is_large(&self) -> bool {
        let mut left = LARGE_VALUES;
        let subscribed = self.subscriptions.iter().filter_map(|one| one.parameters.as_ref());
        let maps = std::iter::once(&self.claims).chain(&self.parameters).chain(subscribed);
        !maps.flat_map(Map::values).all(|value| count(value, &mut left))
            || self.subscriptions.len() > LARGE_VALUES
    }
}

/// Counts a value and those within it. Returns `false` if there are more than `left`.
fn count(value: &Value, left: &mut usize) -> bool {
    let Some(next) = left.checked_sub(1) else { return false };
    *left = next;
    match value {
        Value::Array(items) => items.iter().all(|item| count(item, left)),
        Value::Object(members) => members.values().all(|member| count(member, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
