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
use crate::source::inspection::preflight;
use crate::source::preflight::{Finding, PreflightError};
use crate::source::table_check::table_findings;
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
        if !self.begin_if_due() {
            return Ok(());
        }

        let tables = catalog::read_tables(client, &self.publication).await?;
        self.compare(known, &tables)?;

        // What only an administrator can fix ends the worker, with the fix.
        let names = SourceNames { publication: &self.publication, slot: &self.slot };
        let known = known.iter().map(|known| {
            tables.iter().find(|found| found.oid == known.table.oid).unwrap_or(&known.table)
        });
        let findings = preflight(client, known, names).await?;
        Ok(refuse_fatal(findings)?)
    }

    /// Returns whether the catalog is to be compared now. If so, the next interval begins.
    fn begin_if_due(&mut self) -> bool {
        let is_due = self.is_hurried || self.checked.elapsed() >= CATALOG_CHECK_INTERVAL;
        if is_due {
            self.checked = Instant::now();
            self.is_hurried = false;
        }
        is_due
    }

    /// Compares the tables of the catalog with those that the run began with.
    fn compare(&self, known: &[SyncedTable], tables: &[SourceTable]) -> Result<(), SourceError> {
        for SyncedTable { table, .. } in known {
            let Some(found) = tables.iter().find(|found| found.oid == table.oid) else {
                return Err(table.changed("it was dropped"));
            };
            let shape = found.shape();
            if shape != table.shape() {
                return Err(table.changed(&shape.differences(&table.shape())));
            }
        }

        for CandidateTable { table, .. } in
            candidate_tables(&self.patterns, tables, |t| t.is_published)
        {
            let is_known = known.iter().any(|known| known.table.oid == table.oid);
            if !is_known && !self.is_left_out(&table) {
                return Err(table.changed("it is new"));
            }
        }

        Ok(())
    }

    /// Returns whether a table is still in the state in which it was left out.
    fn is_left_out(&self, table: &SourceTable) -> bool {
        let names = SourceNames { publication: &self.publication, slot: &self.slot };
        self.left_out.contains(&table.oid) && !table_findings(table, &self.user, names).is_empty()
    }
}

/// Fails if any finding is fatal, with those that are.
fn refuse_fatal(mut findings: Vec<Finding>) -> Result<(), PreflightError> {
    findings.retain(|finding| finding.is_fatal);
    if findings.is_empty() { Ok(()) } else { Err(PreflightError { findings }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnError;
    use crate::source::database::Database;
    use crate::source::error::TableChanged;
    use crate::test_support::{CONFIG, NOTES, TODOS, compiled, oid, synced_tables, table, tables};

    /// The id of a table that the run does not know.
    const UNKNOWN: u32 = 9;

    /// A watcher of the tables of the config, and of those that `event_%` matches.
    fn watcher(left_out: &[u32]) -> CatalogWatcher {
        let config = Config {
            database: Database::new(""),
            sync_config: CONFIG.to_owned(),
            publication: "p".to_owned(),
            slot: "s".to_owned(),
            snapshot_threshold: 1,
            receiver_timeout: Duration::from_secs(30),
            wal_budget_bytes: 10 << 30,
            rollback_grace: Duration::ZERO,
            on_error: OnError::Stop,
            until_caught_up: false,
        };
        let mut patterns = compiled().tables().to_vec();
        patterns.push(TablePattern { schema: "public".into(), name: "event_%".into() });
        let mut watcher = CatalogWatcher::new(&config, patterns, "app".into());
        watcher.left_out = left_out.iter().copied().collect();
        watcher
    }

    /// Returns the table and the reason for which a catalog ends the run.
    fn ended(watcher: &CatalogWatcher, catalog: &[SourceTable]) -> Option<TableChanged> {
        match watcher.compare(&synced_tables(), catalog) {
            Ok(()) => None,
            Err(SourceError::TableChanged(changed)) => Some(changed),
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn each_difference_of_a_known_table_ends_the_run_with_its_reason() {
        type Change = fn(&mut Vec<SourceTable>);
        let cases: [(Change, usize, &str); 10] = [
            (|t| drop(t.remove(TODOS)), TODOS, "it was dropped"),
            (|t| drop(t.remove(NOTES)), NOTES, "it was dropped"),
            (|t| t.clear(), TODOS, "it was dropped"),
            (|t| t[TODOS].oid = UNKNOWN, TODOS, "it was dropped"),
            (|t| t[NOTES].schema.name = "memos".into(), NOTES, "it has another name"),
            (|t| t[TODOS].facts.storage = "7 p".into(), TODOS, "it was rewritten"),
            (
                |t| t[TODOS].column_types[1] = "varchar(3)".into(),
                TODOS,
                "its columns or their types are others",
            ),
            (|t| t[NOTES].replica_identity = 'd', NOTES, "its replica identity"),
            (|t| t[NOTES].is_published = false, NOTES, "it was taken out of the publication"),
            (|t| t[TODOS].has_row_filter = true, TODOS, "the row filter"),
        ];
        for (change, known, reason) in cases {
            let mut catalog = tables();
            change(&mut catalog);
            let changed = ended(&watcher(&[]), &catalog).expect(reason);
            // The next run copies the table with this id, so it is the one that the run knew.
            assert_eq!(changed.oid, oid(known), "{reason}");
            assert_eq!(changed.table, tables()[known].display_name(), "{reason}");
            assert!(changed.reason.starts_with(reason), "{reason}: {}", changed.reason);
        }
    }

    #[test]
    fn what_changes_neither_rows_nor_their_stream_does_not_end_the_run() {
        type Change = fn(&mut Vec<SourceTable>);
        let cases: [(&str, Change); 5] = [
            ("nothing has changed", |_| {}),
            ("the order is another", |t| t.reverse()),
            ("the planner has an estimate", |t| t[TODOS].estimated_rows = 1e6),
            // The preflight reports lost rights, with the GRANT that brings them back.
            ("the role may no longer read", |t| t[TODOS].may_select = false),
            ("a table came that is not read", |t| t.push(table(UNKNOWN, "other", false))),
        ];
        for (case, change) in cases {
            let mut catalog = tables();
            change(&mut catalog);
            assert_eq!(ended(&watcher(&[]), &catalog), None, "{case}");
        }
    }

    #[test]
    fn an_unknown_table_ends_the_run_once_it_can_be_synced() {
        type Change = fn(&mut SourceTable);
        const NOBODY: &[u32] = &[];
        const LEFT_OUT: &[u32] = &[UNKNOWN];
        let cases: [(&str, &[u32], Change, bool); 8] = [
            ("it is published", NOBODY, |_| {}, true),
            ("it is not published", NOBODY, |t| t.is_published = false, false),
            ("it is a view", NOBODY, |t| t.kind = 'v', false),
            ("it is partitioned", NOBODY, |t| t.kind = 'p', false),
            // The next run finds out why it cannot be synced, and leaves it out.
            ("it has no key and is unknown", NOBODY, |t| t.key.clear(), true),
            ("it still has no key", LEFT_OUT, |t| t.key.clear(), false),
            ("it still may not be read", LEFT_OUT, |t| t.may_select = false, false),
            ("it was repaired", LEFT_OUT, |_| {}, true),
        ];
        for (case, left_out, change, is_ended) in cases {
            let mut found = table(UNKNOWN, "event_1", false);
            change(&mut found);
            let mut catalog = tables();
            catalog.push(found);

            let expected = is_ended.then(|| TableChanged {
                oid: UNKNOWN,
                table: "public.event_1".into(),
                reason: "it is new".into(),
                replaces_rows: false,
            });
            assert_eq!(ended(&watcher(left_out), &catalog), expected, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_catalog_is_compared_once_in_an_interval_unless_it_is_urgent() {
        let mut watcher = watcher(&[]);
        assert!(!watcher.begin_if_due(), "the start of the run has just compared it");
        tokio::time::advance(CATALOG_CHECK_INTERVAL - Duration::from_millis(1)).await;
        assert!(!watcher.begin_if_due());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(watcher.begin_if_due());
        assert!(!watcher.begin_if_due(), "the next interval has begun");

        watcher.hurry();
        assert!(watcher.begin_if_due());
        assert!(!watcher.begin_if_due(), "it was urgent once");
    }

    #[test]
    fn only_fatal_findings_end_the_run() {
        let finding = |is_fatal, problem: &str| Finding {
            is_fatal,
            problem: problem.to_owned(),
            fix: "mend it".to_owned(),
        };
        refuse_fatal(vec![]).unwrap();
        refuse_fatal(vec![finding(false, "slow")]).unwrap();
        let findings = vec![finding(false, "slow"), finding(true, "broken"), finding(true, "odd")];
        let refused = refuse_fatal(findings).unwrap_err().findings;
        let problems: Vec<_> = refused.iter().map(|finding| &*finding.problem).collect();
        assert_eq!(problems, ["broken", "odd"]);
    }
}
