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
use crate::source::preflight::{PreflightError, preflight, table_findings};
use crate::source::tables::{CandidateTable, candidate_tables};

/// The catalog is compared this often: some alterations send no change.
const CATALOG_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A reason to end the run, found in the source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// A table has changed, or the source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source is not ready any more: somebody has to fix what the findings say.
    #[error(transparent)]
    NotReady(#[from] PreflightError),
}

/// The knowledge of a run about the source's catalog.
pub(crate) struct CatalogWatcher {
    /// The tables that the sync config reads.
    pub(crate) patterns: Vec<TablePattern>,
    /// Tables that patterns have found, and that cannot be synced.
    pub(crate) left_out: HashSet<u32>,
    /// Our role.
    pub(crate) user: String,
    pub(crate) publication: String,
    pub(crate) slot: String,
    pub(crate) checked: Instant,
    /// True if the next check must not wait for the interval.
    is_hurried: bool,
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
            is_hurried: false,
        }
    }

    /// Makes the next call of [`CatalogWatcher::check`] compare without delay.
    pub(crate) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Compares the source with what the run began with, as the start of a run does. Does nothing if
    /// that was done a moment ago.
    ///
    /// # Errors
    /// `TableChanged` for the first difference. The next run finds all of them, since the shapes that
    /// this run began with are recorded.
    pub(crate) async fn check(
        &mut self,
        client: &Client,
        known: &[SyncedTable],
    ) -> Result<(), WatchError> {
        if self.checked.elapsed() < CATALOG_CHECK_INTERVAL && !self.is_hurried {
            return Ok(());
        }
        self.checked = Instant::now();
        self.is_hurried = false;

        let tables = catalog::read_tables(client, &self.publication).await?;
        for SyncedTable { table, .. } in known {
            let Some(found) = tables.iter().find(|found| found.oid == table.oid) else {
                return Err(table.changed("it was dropped").into());
            };
            let shape = found.shape();
            if shape != table.shape() {
                return Err(table.changed(&shape.differences(&table.shape())).into());
            }
        }

        for CandidateTable { table, .. } in
            candidate_tables(&self.patterns, &tables, |t| t.is_published)
        {
            let is_known = known.iter().any(|known| known.table.oid == table.oid);
            if !is_known && !self.is_left_out(&table) {
                return Err(table.changed("it is new").into());
            }
        }

        // What only an administrator can fix ends the worker, with the fix.
        let names = SourceNames { publication: &self.publication, slot: &self.slot };
        let known = known.iter().map(|known| {
            tables.iter().find(|found| found.oid == known.table.oid).unwrap_or(&known.table)
        });
        let mut findings = preflight(client, known, names).await?.findings;
        findings.retain(|finding| finding.is_fatal);
        if findings.is_empty() { Ok(()) } else { Err(PreflightError { findings }.into()) }
    }

    /// Returns whether a table is still in the state in which it was left out.
    fn is_left_out(&self, table: &SourceTable) -> bool {
        let names = SourceNames { publication: &self.publication, slot: &self.slot };
        self.left_out.contains(&table.oid) && !table_findings(table, &self.user, names).is_empty()
    }
}
