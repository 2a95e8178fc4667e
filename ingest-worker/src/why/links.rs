//! Judges each link of a row's chain.

use tidewater_storage::WriteRequests;
use tidewater_sync_config::QueryTrace;

use crate::initial_copy::state::TableCopy;
use crate::why::report::{ConditionReport, DefinitionReport, Link, LinkName, LinkState, WhyReport};
use crate::why::source_side::{FoundRow, FoundTable, RowName, SourceSide};
use crate::why::store_side::{Bucket, RowAt, StoreSide, StoredRow, TableName};
use crate::why::user_side::UserSide;

/// Buckets or names that one text lists.
const LISTED_MAX: usize = 5;
const GIVE_URL: &str = "give --database-url to have this link checked";

/// Everything that was found out about a row.
pub(super) struct Facts<'a> {
    pub(super) name: RowName<'a>,
    pub(super) source: SourceSide,
    pub(super) store: StoreSide,
    /// The table, if the source has it or the config names it.
    pub(super) table: Option<TableName>,
    /// Its number in the store.
    pub(super) number: Option<u16>,
    /// The row in the store, if the table has a number.
    pub(super) row: Option<StoredRow>,
    /// The queries for the row, if it was read from the source; or why they cannot be evaluated.
    pub(super) trace: Option<Result<Vec<QueryTrace>, String>>,
    pub(super) user: UserSide,
    /// The write checkpoints of the client, if one is named.
    pub(super) write_requests: Option<WriteRequests>,
}

fn holds(link: LinkName, text: impl Into<String>) -> Link {
    Link { link, state: LinkState::Holds, text: text.into(), fix: None }
}

fn fails(link: LinkName, text: impl Into<String>, fix: impl Into<String>) -> Link {
    Link { link, state: LinkState::Fails, text: text.into(), fix: Some(fix.into()) }
}

fn unknown(link: LinkName, text: impl Into<String>, fix: Option<&str>) -> Link {
    Link { link, state: LinkState::Unknown, text: text.into(), fix: fix.map(str::to_owned) }
}

impl Facts<'_> {
    pub(super) fn report(self, publication: &str, user_id: &str) -> WhyReport {
        let mut links = vec![
            self.publication(publication),
            self.config(),
            self.source_row(),
            self.copy(),
            self.definition(),
            self.stored(),
            self.checkpoint(),
            self.user(user_id),
        ];
        links.extend(self.client());
        let first_failure = links.iter().find(|link| link.state == LinkState::Fails).cloned();
        let visible = self.visible_buckets();

        WhyReport {
            arrives: first_failure.is_none(),
            table: self.shown_table(),
            id: self.name.id.to_owned(),
            user_id: user_id.to_owned(),
            first_failure,
            links,
            definitions: self.definitions(),
            row_buckets: visible.iter().map(|bucket| self.store.bucket_name(bucket)).collect(),
            user: self.user.report,
        }
    }

    fn shown_table(&self) -> String {
        self.table.as_ref().map_or_else(|| self.name.table.to_owned(), TableName::shown)
    }

    fn publication(&self, publication: &str) -> Link {
        let link = LinkName::Publication;
        let found = match &self.source {
            SourceSide::NotAsked => {
                return unknown(link, "the source database was not asked", Some(GIVE_URL));
            }
            SourceSide::Unreadable(error) => {
                let text = format!("the source database cannot be read: {error}");
                return unknown(link, text, Some("check --database-url"));
            }
            SourceSide::Read(found) => found,
        };

        match found {
            FoundTable::NoTable(others) if others.is_empty() => fails(
                link,
                format!("the source database has no table '{}'", self.name.table),
                "name the table of PostgreSQL as in schema.table, which may have another name on \
                 devices; or GRANT USAGE ON SCHEMA, if the role may not see it",
            ),
            FoundTable::NoTable(others) => fails(
                link,
                format!("the source database has no table 'public.{}'", self.name.table),
                format!("name its schema: {}", list(others)),
            ),
            FoundTable::Table(facts) => match facts.findings.first() {
                Some(finding) => fails(link, finding.problem.clone(), finding.fix.clone()),
                None => {
                    holds(link, format!("publication {publication} has {}", self.shown_table()))
                }
            },
        }
    }

    fn config(&self) -> Link {
        let link = LinkName::Config;
        let generation = self.store.generation.id.0.number();
        let is_read = self.table.as_ref().is_some_and(|table| {
            let mut patterns = self.store.config.tables().iter();
            patterns.any(|pattern| pattern.matches(&table.schema, &table.name))
        });
        let table = self.shown_table();
        if is_read {
            return holds(
                link,
                format!("the sync config in use (generation {generation}) reads {table}"),
            );
        }

        let explanation = self.store.config.explain();
        let rows = explanation.streams.iter().flat_map(|stream| &stream.families);
        let renamed =
            rows.flat_map(|family| &family.rows).find(|rows| rows.output_table == self.name.table);
        let fix = match renamed {
            Some(rows) => format!(
                "'{}' is the name on devices of table {}: ask for that one",
                self.name.table, rows.table
            ),
            None => "add a query for it to the sync config".to_owned(),
        };
        let text =
            format!("no query of the sync config in use (generation {generation}) reads {table}");
        fails(link, text, fix)
    }

    fn source_row(&self) -> Link {
        let link = LinkName::Source;
        let Some(facts) = self.source.table() else {
            let text = "whether the source has the row is not known";
            return unknown(link, text, None);
        };
        match &facts.row {
            FoundRow::Row(_) => holds(link, "the source has the row"),
            FoundRow::NoRow(by) => fails(
                link,
                format!("the source has no row with {by}"),
                "check the id: it is the value of the table's key, not that of the device",
            ),
            FoundRow::Several(by) => {
                let text = format!("the source has several rows with {by}");
                unknown(link, text, Some("give all columns of the key as a JSON array"))
            }
            FoundRow::NotAsked(reason) => {
                unknown(link, format!("the row cannot be looked for: {reason}"), None)
            }
        }
    }

    fn copy(&self) -> Link {
        let link = LinkName::Copy;
        let table = self.shown_table();
        let copied = self.number.and_then(|number| self.store.copied(number));
        let Some(copied) = copied else {
            return fails(
                link,
                format!("the ingest worker does not have {table}"),
                "see `tidewater status` and the log of the worker: it takes up a table when the config \
                 reads it and the publication has it",
            );
        };
        match &copied.progress {
            TableCopy::Todo => fails(
                link,
                format!("{table} waits for its copy"),
                "wait: `tidewater status` shows the progress",
            ),
            TableCopy::After(_) => match self.row.as_ref().map(|row| &row.committed) {
                Some(RowAt::In(op, _)) => {
                    holds(link, format!("{table} is being copied, and the row is stored (op {op})"))
                }
                Some(RowAt::Absent | RowAt::TooOld) | None => fails(
                    link,
                    format!("{table} is being copied, and the row is not stored yet"),
                    "wait: `tidewater status` shows the progress",
                ),
            },
            TableCopy::Removing(_) | TableCopy::Done | TableCopy::Whole(_) => {
                holds(link, format!("{table} is copied"))
            }
        }
    }

    fn definition(&self) -> Link {
        let link = LinkName::Definition;
        let queries = match &self.trace {
            None => {
                return unknown(
                    link,
                    "conditions are evaluated for a row of the source only",
                    None,
                );
            }
            Some(Err(problem)) => {
                let text = format!("the sync config in use does not fit the table: {problem}");
                return fails(link, text, "see `tidewater validate` with --database-url");
            }
            Some(Ok(queries)) => queries,
        };

        let buckets = self.traced_buckets();
        if !buckets.is_empty() {
            return holds(link, format!("the row belongs to {}", self.names(&buckets)));
        }
        let reasons: Vec<_> = queries.iter().filter_map(|query| self.reason(query)).collect();
        let text = format!("no query puts the row into a bucket: {}", reasons.join("; "));
        fails(link, text, "change the row, or the conditions of the query")
    }

    /// Returns the first reason why a query leaves out the row.
    fn reason(&self, query: &QueryTrace) -> Option<String> {
        let report = self.definition_report(query);
        let name = &report.definition;
        if let Some(failing) = report.conditions.iter().find(|condition| !condition.holds) {
            return Some(format!("{name}: {} is {}", failing.sql, failing.outcome));
        }
        if let Some(error) = &report.error {
            return Some(format!("{name}: {error}"));
        }
        if let Some(missing) = report.missing_parameters.first() {
            return Some(format!("{name}: {missing} is NULL, which equals nothing"));
        }
        report.buckets.is_empty().then(|| format!("{name}: its array has no element that fits"))
    }

    fn stored(&self) -> Link {
        let link = LinkName::Store;
        let Some(row) = &self.row else {
            return unknown(link, "the store has nothing of the table", None);
        };
        let (op, stored) = match &row.committed {
            RowAt::In(op, stored) => (Some(*op), stored.as_slice()),
            RowAt::Absent => (None, &[][..]),
            RowAt::TooOld => return unknown(link, "the row is being changed: ask again", None),
        };

        let expected = self.traced_buckets();
        let missing: Vec<_> =
            expected.iter().filter(|bucket| !stored.contains(bucket)).cloned().collect();
        if !missing.is_empty() && row.is_unsynced {
            return fails(
                link,
                format!("the row is not synced to {}: it exceeds a limit", self.names(&missing)),
                "the log of the ingest worker names the limit (docs/limits.md)",
            );
        }
        if !missing.is_empty() {
            let lsn = self.store.control.committed.lsn;
            return fails(
                link,
                format!("the store, at {lsn}, has the row not yet in {}", self.names(&missing)),
                "see in `tidewater status` whether the worker follows; if nothing lags, `tidewater verify` \
                 compares the table and repairs it",
            );
        }
        if stored.is_empty() && self.trace.is_none() {
            return fails(
                link,
                "the store has the row in no bucket",
                "give --database-url: then the conditions are evaluated. Without it, the id must be the \
                 value of the only column of the table's key",
            );
        }
        match op {
            Some(op) if !stored.is_empty() => {
                holds(link, format!("the row is in {} since operation {op}", self.names(stored)))
            }
            Some(_) | None => unknown(link, "the row is in no bucket", None),
        }
    }

    fn checkpoint(&self) -> Link {
        let link = LinkName::Checkpoint;
        let Some(visible) = &self.store.control.visible else {
            return fails(
                link,
                "there is no checkpoint yet: the server copies its database for the first time",
                "wait: `tidewater status` shows the progress",
            );
        };
        let at = format!("checkpoint {} at {}", visible.at.op, visible.at.lsn);
        let Some(row) = &self.row else {
            return unknown(link, format!("devices have {at}"), None);
        };
        let stored = match &row.committed {
            RowAt::In(_, stored) => stored.as_slice(),
            RowAt::Absent | RowAt::TooOld => &[],
        };
        let seen = self.visible_buckets();
        if stored.is_empty() || stored.iter().any(|bucket| seen.contains(bucket)) {
            return holds(link, format!("devices have {at}"));
        }
        let reason = if self.store.control.visibility_barrier.is_some() {
            "a copy holds it back: wait for the copy"
        } else {
            "ask again: the next commit moves it"
        };
        fails(link, format!("devices have {at}, which is before the row's last change"), reason)
    }

    fn user(&self, user_id: &str) -> Link {
        let link = LinkName::User;
        let Some(granted) = &self.user.buckets else {
            let refusal = self.user.report.errors.join("; ");
            let text = format!("the sync API refuses the request of {user_id}: {refusal}");
            return fails(link, text, "see docs/limits.md");
        };
        let row_buckets = self.row_buckets();
        let common: Vec<_> =
            row_buckets.iter().filter(|bucket| granted.contains(bucket)).cloned().collect();
        if !common.is_empty() {
            return holds(link, format!("{user_id} has {}", self.names(&common)));
        }
        if row_buckets.is_empty() {
            let text = format!("{user_id} has {}, and the row is in none", self.names(granted));
            return unknown(link, text, None);
        }

        let unsubscribed = self.unsubscribed(&row_buckets);
        if let Some(stream) = unsubscribed {
            return fails(
                link,
                format!("the row is in a bucket of stream '{stream}', which is not subscribed to"),
                format!(
                    "subscribe to it in the app, or set auto_subscribe: true; --stream {stream} asks \
                         as an app that does"
                ),
            );
        }
        let same_family: Vec<_> = granted
            .iter()
            .filter(|bucket| row_buckets.iter().any(|one| one.definition == bucket.definition))
            .cloned()
            .collect();
        fails(
            link,
            format!(
                "the row is in {}, and {user_id} has {}",
                self.names(&row_buckets),
                if same_family.is_empty() {
                    "no bucket of that definition".to_owned()
                } else {
                    self.names(&same_family)
                }
            ),
            "compare the claims (--claims) and the answers to the lookups with the row: `tidewater explain` \
             prints how a request finds its buckets",
        )
    }

    /// Returns a stream of the row's buckets that the request does not subscribe to, if that holds for all of
    /// them.
    fn unsubscribed(&self, row_buckets: &[Bucket]) -> Option<String> {
        let explanation = self.store.config.explain();
        let mut found = None;
        for bucket in row_buckets {
            let family = &self.store.config.definitions()[bucket.definition].name;
            let stream = explanation
                .streams
                .iter()
                .find(|stream| stream.families.iter().any(|one| one.name == *family))?;
            if self.user.streams.contains(&stream.name) {
                return None;
            }
            found.get_or_insert_with(|| stream.name.clone());
        }
        found
    }

    fn client(&self) -> Option<Link> {
        let requests = self.write_requests.as_ref()?;
        let link = LinkName::Client;
        let position = "its position is known to the device only";
        let Some(visible) = &self.store.control.visible else {
            return Some(unknown(link, position, None));
        };
        let last = requests.last_number();
        if last == 0 {
            let text = format!("this user's client has asked for no write checkpoint; {position}");
            return Some(unknown(link, text, None));
        }
        let acknowledged = requests.acknowledged(visible.at.ticket).unwrap_or_default();
        Some(if acknowledged == last {
            holds(link, format!("its last write checkpoint, {last}, is acknowledged; {position}"))
        } else {
            fails(
                link,
                format!(
                    "the device shows no newer checkpoint until its write checkpoint {last} is \
                     acknowledged; {acknowledged} is"
                ),
                "see in `tidewater status` whether the ingest worker follows the source",
            )
        })
    }

    /// Returns the buckets that the queries put the row into.
    fn traced_buckets(&self) -> Vec<Bucket> {
        let Some(Ok(queries)) = &self.trace else { return Vec::new() };
        let mut buckets = Vec::new();
        for query in queries {
            for params in &query.buckets {
                let bucket = Bucket { definition: query.definition, params: params.clone() };
                if !buckets.contains(&bucket) {
                    buckets.push(bucket);
                }
            }
        }
        buckets
    }

    /// Returns the buckets that have the row at the checkpoint of devices.
    fn visible_buckets(&self) -> Vec<Bucket> {
        match self.row.as_ref().and_then(|row| row.visible.as_ref()) {
            Some(RowAt::In(_, buckets)) => buckets.clone(),
            Some(RowAt::Absent | RowAt::TooOld) | None => Vec::new(),
        }
    }

    /// Returns the buckets of the row: those that it should be in, where the source was asked.
    fn row_buckets(&self) -> Vec<Bucket> {
        let traced = self.traced_buckets();
        if traced.is_empty() { self.visible_buckets() } else { traced }
    }

    /// Returns the names of some buckets.
    fn names(&self, buckets: &[Bucket]) -> String {
        let names: Vec<_> = buckets.iter().map(|bucket| self.store.bucket_name(bucket)).collect();
        list(&names)
    }

    fn definitions(&self) -> Vec<DefinitionReport> {
        let Some(Ok(queries)) = &self.trace else { return Vec::new() };
        queries.iter().map(|query| self.definition_report(query)).collect()
    }

    fn definition_report(&self, query: &QueryTrace) -> DefinitionReport {
        let bucket = |params: &String| {
            let definition = query.definition;
            self.store.bucket_name(&Bucket { definition, params: params.clone() })
        };
        let missing = query.keys.iter().filter(|key| key.value.is_none());
        DefinitionReport {
            definition: self.store.config.definitions()[query.definition].name.clone(),
            query: query.query + 1,
            conditions: query.conditions.iter().map(ConditionReport::of).collect(),
            missing_parameters: missing.map(|key| key.sql.clone()).collect(),
            buckets: query.buckets.iter().map(bucket).collect(),
            error: query.error.clone(),
        }
    }
}

/// Returns the first of some names as a list.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "no bucket".to_owned();
    }
    let shown = names[..names.len().min(LISTED_MAX)].join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
