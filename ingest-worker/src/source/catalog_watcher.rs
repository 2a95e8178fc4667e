//! Looks out for tables that become others while a run goes on.

use std::collections::HashSet;
use std::time::Duration;

use tidewater_sync_config::TablePattern;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::apply::applier::SyncedTable;
use crate::config::{Config, SourceNames};
use crate::source::catalog::{self, SourceTable};
use crate::source::error::SourceError;
use crate::source::preflight::table_findings;
use crate::source::tables::{CandidateTable, candidate_tables};

/// The catalog is compared this often: some alterations send no change.
const CATALOG_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What a run knows of the source's catalog.
pub(crate) struct CatalogWatcher {
    /// What the sync config reads.
    pub(crate) patterns: Vec<TablePattern>,
    /// Tables that patterns have found, and that cannot be synced.
    pub(crate) left_out: HashSet<u32>,
    /// Our role.
    pub(crate) user: String,
    pub(crate) publication: String,
    pub(crate) slot: String,
    pub(crate) checked: Instant,
}

impl CatalogWatcher {
    pub(crate) fn new(config: &Config, patterns: Vec<TablePattern>, user: String) -> Self {
        Self {
            patterns,
            left_out: HashSet::new(),
            user,
            publication: config.publication.clone(),
            slot: config.slot.clone(),
            checked: Instant::now(),
        }
    }

    /// Compares the catalog with the tables that the run was begun with.
    pub(crate) async fn check(
        &mut self,
        client: &Client,
        known: &[SyncedTable],
    ) -> Result<(), SourceError> {
        if self.checked.elapsed() < CATALOG_CHECK_INTERVAL {
            return Ok(());
        }
        self.checked = Instant::now();
        let tables = catalog::read_tables(client, &self.publication).await?;
        for SyncedTable { table, .. } in known {
            let reason = match tables.iter().find(|found| found.oid == table.oid) {
                None => "it was dropped",
                Some(found) if found.shape_hash() != table.shape_hash() => {
                    "its name, its columns, their types or its replica identity are others"
                }
                Some(found) if !found.is_published => "it is no longer published",
                Some(_) => continue,
            };
            return Err(changed(table, reason));
        }
        for CandidateTable { table, .. } in
            candidate_tables(&self.patterns, &tables, |t| t.is_published)
        {
            let is_known = known.iter().any(|known| known.table.oid == table.oid);
            if !is_known && !self.is_left_out(&table) {
                return Err(changed(&table, "it is new"));
            }
        }
        Ok(())
    }

    /// Whether a table is still in the state in which it was left out.
    fn is_left_out(&self, table: &SourceTable) -> bool {
        let names = SourceNames { publication: &self.publication, slot: &self.slot };
        self.left_out.contains(&table.oid) && !table_findings(table, &self.user, names).is_empty()
    }
}

/// Returns the error that ends a run, so that the next one begins with the tables as they are.
pub(crate) fn changed(table: &SourceTable, reason: &str) -> SourceError {
    table.changed(reason)
}
