//! The reason why a row does not arrive at a user, found beside the worker.
//!
//! The way of a row is a chain of links: publication, sync config, source, copy, definition, store,
//! checkpoint, user, client. Each is judged by itself, and the first that fails is the answer. Conditions and
//! buckets come from the same compiled config as those of the worker and of the sync API.

mod error;
mod links;
mod report;
mod source_side;
mod store_side;
mod user_side;

use serde_json::{Map, Value};
use tidewater_protocol::{ErrorChain, StreamSubscription};
use tidewater_storage::{ClientKey, Storage};
use tidewater_sync_config::{QueryTrace, Request};

pub use error::WhyError;
pub use report::{
    ConditionReport, DefinitionReport, Link, LinkName, LinkState, LookupReport, UserReport,
    WhyReport,
};

use crate::source::database::Database;
use crate::why::links::Facts;
use crate::why::source_side::{RowName, SourceSide};
use crate::why::store_side::{StoreSide, TableName};
use crate::why::user_side::read_user;

/// The row and the request that the chain is followed for.
#[derive(Debug)]
pub struct WhyOptions<'a> {
    /// The source database; `None` to leave out the links that need it.
    pub database: Option<Database>,
    /// The publication that lists the tables.
    pub publication: &'a str,
    /// The table of the source: `schema.table`, or `table` in the schema `public`.
    pub table: &'a str,
    /// The row's value in the only column of its key or in the column `id`, or a JSON array with a value for
    /// each column of its key.
    pub id: &'a str,
    /// The user: the token's `sub`.
    pub user_id: &'a str,
    /// The claims of the token.
    pub claims: &'a Map<String, Value>,
    /// The parameters of the connection.
    pub parameters: Option<&'a Map<String, Value>>,
    /// The streams that the app subscribes to.
    pub subscriptions: &'a [StreamSubscription],
    /// The client, whose write checkpoints are looked at.
    pub client_id: Option<&'a str>,
}

/// Follows a row to a user. A source that cannot be read leaves links unknown.
///
/// # Errors
/// When the store cannot be read, or does not have what its control record names.
pub async fn why<S: Storage>(storage: &S, options: WhyOptions<'_>) -> Result<WhyReport, WhyError> {
    let store = StoreSide::read(storage).await?;
    let name = RowName { table: options.table, id: options.id };
    let source = match &options.database {
        None => SourceSide::NotAsked,
        Some(database) => match source_side::read(database, options.publication, &name).await {
            Ok(found) => SourceSide::Read(found),
            Err(error) => SourceSide::Unreadable(ErrorChain(&error).to_string()),
        },
    };

    let table = match source.table() {
        Some(table) => Some(TableName::of(&table.table.schema)),
        None => store.table_named(options.table),
    };
    let number = table.as_ref().and_then(|name| store.number_of(source.oid(), name));
    let key = source.row_key(number.unwrap_or_default()).unwrap_or_else(|| options.id.into());
    let row = match number {
        Some(number) => Some(store.row(storage, number, key).await?),
        None => None,
    };

    let trace: Option<Result<Vec<QueryTrace>, String>> = source.row().map(|(schema, values)| {
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        store.config.trace_row(schema, &values).map_err(|findings| {
            findings.into_iter().map(|finding| finding.message).collect::<Vec<_>>().join("; ")
        })
    });

    let request = Request {
        user_id: options.user_id,
        claims: options.claims,
        parameters: options.parameters,
        include_defaults: true,
        subscriptions: options.subscriptions,
    };
    let user = read_user(storage, &store, &request).await?;
    let write_requests = match options.client_id {
        Some(client_id) => {
            let user_id = options.user_id.to_owned();
            let client = ClientKey { user_id, client_id: client_id.to_owned() };
            Some(storage.write_requests(&client).await?)
        }
        None => None,
    };

    let facts = Facts { name, source, store, table, number, row, trace, user, write_requests };
    Ok(facts.report(options.publication, options.user_id))
}
