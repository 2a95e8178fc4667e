//! One round of a comparison: over everything, or over places that were not equal.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tidewater_protocol::OpId;
use tidewater_storage::{BucketKey, Storage};

use crate::verify::checkpoint::View;
use crate::verify::error::VerifyError;
use crate::verify::options::{OnProgress, VerifyOptions, VerifyProgress};
use crate::verify::place::{Place, PlaceKind};
use crate::verify::report::{
    DamagedBucket, Difference, DifferencePlace, VerifiedTable, VerifyReport,
};
use crate::verify::scope::Scope;
use crate::verify::sides::{BothSides, Places, SpilledSides, WatchedSides};
use crate::verify::source_side::{Evaluation, SourceSession, SourceSnapshot, keys_by_table};
use crate::verify::store_side::{BucketReader, ReadBuckets, read_answers, read_former_lookups};
use crate::verify::subject::Subject;
use crate::verify::verdict::{StoredHistory, Verdict};

/// Time for transactions to end before a snapshot is used that does not see all of them.
pub(super) const TRANSACTION_PATIENCE: Duration = Duration::from_secs(5);
/// Places that are compared again, with the data of both sides in memory.
const SUSPECTS_MAX: usize = 10_000;

/// The two sides of a comparison.
pub(super) struct Comparison<'a, S> {
    pub(super) storage: &'a S,
    pub(super) source: &'a SourceSession,
    pub(super) subject: &'a Subject,
    pub(super) scope: &'a Scope,
    pub(super) options: &'a VerifyOptions,
}

/// A place that was not equal in one round.
pub(super) struct Suspect {
    /// The place in its binary form.
    place: Box<[u8]>,
    /// The name of the source row, if it is known.
    row_name: Option<String>,
    difference: Difference,
}

impl Suspect {
    pub(super) fn into_difference(self) -> Difference {
        self.difference
    }
}

/// The positions from which the histories of places are complete, where that is after the checkpoint
/// before the snapshot.
struct CompleteFrom<'r> {
    buckets: &'r ReadBuckets,
    answers: HashMap<Box<[u8]>, OpId>,
}

impl CompleteFrom<'_> {
    /// Compares what both sides have at a place; `None` if its bucket is damaged.
    fn compare(
        &self,
        encoded: &[u8],
        place: &Place<'_>,
        sides: &BothSides,
        since: OpId,
    ) -> Option<Verdict> {
        let complete_from = match place.kind {
            PlaceKind::Row if self.buckets.damaged.contains_key(place.container) => return None,
            PlaceKind::Row => self.buckets.new_bases.get(place.container),
            PlaceKind::Answer => self.answers.get(encoded),
        };

        let complete_from = complete_from.copied().unwrap_or(OpId::ZERO);
        let history = StoredHistory::new(sides.changes.clone(), since, complete_from);
        Some(history.compare(sides.source))
    }
}

impl<S: Storage> Comparison<'_, S> {
    /// Compares everything in the scope. `since` is a checkpoint before the snapshot.
    pub(super) async fn whole(
        &self,
        since: &View,
        snapshot: SourceSnapshot,
        on_progress: OnProgress<'_>,
    ) -> Result<(VerifyReport, Vec<Suspect>), VerifyError> {
        let since = since.visible.at.op;
        let mut report = VerifyReport {
            position: snapshot.position,
            checkpoint: since,
            ..VerifyReport::default()
        };
        let mut sides = SpilledSides::create()?;
        let tables = self.subject.tables.iter();
        let tables: Vec<_> = tables.filter(|table| self.scope.has_table(table.number)).collect();
        for table in &tables {
            let name = table.table.display_name();
            let mut evaluation = Evaluation::new(self.subject, table, self.scope, &mut sides);
            let on_rows = |rows| on_progress(VerifyProgress::Reading { table: name.clone(), rows });
            self.source.read_rows(&mut evaluation, None, &on_rows).await?;
            let counts = evaluation.counts;
            on_rows(counts.rows);
            report.tables.push(VerifiedTable {
                name,
                rows: counts.rows,
                unsynced: counts.unsynced,
            });
        }
        self.source.end().await?;

        // From here on, each checkpoint has everything that the snapshot sees.
        on_progress(VerifyProgress::Waiting);
        View::after_now(self.storage, self.options.timeout).await?;
        let reader = BucketReader::new(self.storage, self.scope, since, &mut sides);
        reader.read_all(self.subject, &|count| on_progress(VerifyProgress::Buckets(count))).await?;
        let buckets = reader.finish();
        for table in tables.iter().filter(|table| table.evaluator.has_lookups()) {
            let number = table.number;
            read_former_lookups(self.storage, self.subject, number, self.scope, &mut sides).await?;
        }

        report.buckets = buckets.count;
        self.note_damage(&buckets, &mut report);
        let suspects = self.compare_all(sides, &buckets, since, &mut report).await?;
        Ok((report, suspects))
    }

    /// Compares all places, one partition after another.
    async fn compare_all(
        &self,
        sides: SpilledSides,
        buckets: &ReadBuckets,
        since: OpId,
        report: &mut VerifyReport,
    ) -> Result<Vec<Suspect>, VerifyError> {
        let mut suspects = Vec::new();
        for partition in sides.into_partitions() {
            let mut partition = partition?;
            let lookups = &partition.lookups;
            let places = &mut partition.places;
            let answers = self.read_answers(lookups, since, false, places).await?;
            let complete_from = CompleteFrom { buckets, answers };

            for (encoded, sides) in partition.places {
                let Some(place) = Place::decode(&encoded) else { continue };
                match place.kind {
                    PlaceKind::Row => report.rows += 1,
                    PlaceKind::Answer => report.answers += 1,
                }
                match complete_from.compare(&encoded, &place, &sides, since) {
                    None | Some(Verdict::Equal) => {}
                    Some(Verdict::Different | Verdict::Changing)
                        if suspects.len() >= SUSPECTS_MAX =>
                    {
                        report.unlisted += 1;
                    }
                    Some(Verdict::Different | Verdict::Changing) => {
                        suspects.push(self.suspect(&place, &encoded, sides));
                    }
                }
            }
        }
        Ok(suspects)
    }

    /// Compares some places again. Adds the confirmed differences to the report, and returns the places
    /// of which this round says nothing.
    pub(super) async fn again(
        &self,
        suspects: Vec<Suspect>,
        report: &mut VerifyReport,
    ) -> Result<Vec<Suspect>, VerifyError> {
        self.must_be_unchanged().await?;
        let since = View::newest(self.storage).await?.visible.at.op;
        let patience = TRANSACTION_PATIENCE.min(self.options.timeout);
        let snapshot = self.source.begin(patience).await?;
        let mut sides =
            WatchedSides::new(suspects.into_iter().map(|one| (one.place, one.row_name)));
        self.read_watched(&mut sides).await?;
        self.source.end().await?;

        View::after_now(self.storage, self.options.timeout).await?;
        let names = |kind| -> BTreeSet<String> {
            let places = sides.places.keys().filter_map(|encoded| Place::decode(encoded));
            places.filter(|place| place.kind == kind).map(|one| one.container.to_owned()).collect()
        };
        let lookups: Vec<_> = names(PlaceKind::Answer).into_iter().collect();
        let names = names(PlaceKind::Row);
        let names = names.iter().map(|name| BucketKey::from_stored(name)).collect();
        let reader = BucketReader::new(self.storage, self.scope, since, &mut sides);
        reader.read_buckets(names, &|_| {}).await?;
        let buckets = reader.finish();
        let answers = self.read_answers(&lookups, since, true, &mut sides.places).await?;
        self.note_damage(&buckets, report);

        let complete_from = CompleteFrom { buckets: &buckets, answers };
        let mut undecided = Vec::new();
        for (encoded, sides) in sides.places {
            let Some(place) = Place::decode(&encoded) else { continue };
            match complete_from.compare(&encoded, &place, &sides, since) {
                None | Some(Verdict::Equal) => {}
                Some(Verdict::Different) if snapshot.is_settled => {
                    report.differences.push(self.suspect(&place, &encoded, sides).difference);
                }
                Some(Verdict::Different | Verdict::Changing) => {
                    undecided.push(self.suspect(&place, &encoded, sides));
                }
            }
        }
        Ok(undecided)
    }

    /// Reads the source rows of watched places.
    async fn read_watched(&self, sides: &mut WatchedSides) -> Result<(), VerifyError> {
        let places = sides.places.iter().filter_map(|(encoded, sides)| {
            Some((Place::decode(encoded)?, sides.row_name.as_deref()))
        });
        for (number, keys) in keys_by_table(self.subject, places) {
            let Some(table) = self.subject.table(number) else { continue };
            let mut evaluation = Evaluation::new(self.subject, table, self.scope, sides);
            self.source.read_rows(&mut evaluation, keys.as_deref(), &|_| {}).await?;
        }
        Ok(())
    }

    async fn read_answers(
        &self,
        lookups: &[String],
        since: OpId,
        only_known: bool,
        places: &mut Places,
    ) -> Result<HashMap<Box<[u8]>, OpId>, VerifyError> {
        let Self { storage, subject, scope, .. } = self;
        read_answers(*storage, subject, scope, lookups, since, only_known, places).await
    }

    /// Fails if the generation or its tables are others than those that are compared.
    pub(super) async fn must_be_unchanged(&self) -> Result<(), VerifyError> {
        let view = View::newest(self.storage).await?;
        if self.subject.is_still(self.storage, &view).await? {
            return Ok(());
        }
        let changed = "it has another sync config or other tables than at the start";
        Err(VerifyError::Changing(changed.to_owned()))
    }

    fn note_damage(&self, buckets: &ReadBuckets, report: &mut VerifyReport) {
        for (bucket, problem) in &buckets.damaged {
            let bucket = self.subject.shown_name(bucket);
            if report.damaged.iter().all(|known| known.bucket != bucket) {
                report.damaged.push(DamagedBucket { bucket, problem: problem.clone() });
            }
        }
    }

    fn suspect(&self, place: &Place<'_>, encoded: &[u8], sides: BothSides) -> Suspect {
        let BothSides { source_data, stored_data, row_name, .. } = sides;
        let row_name = row_name.or_else(|| place.row_name().map(str::to_owned));
        let table = place.table().and_then(|number| self.subject.table(number));
        let key = table.filter(|table| !table.is_keyless()).zip(row_name.as_deref());

        let shown_place = match place.kind {
            PlaceKind::Row => DifferencePlace::Row {
                bucket: self.subject.shown_name(place.container),
                object_type: place.object_type.to_owned(),
                object_id: place.object_id.to_owned(),
            },
            PlaceKind::Answer => DifferencePlace::Answer { lookup: place.container.to_owned() },
        };

        let difference = Difference {
            place: shown_place,
            table: table.map(|table| table.table.display_name()),
            key: key.and_then(|(table, name)| table.key_of(name)).map(|key| key.join(", ")),
            store: stored_data,
            source: source_data,
        };
        Suspect { place: encoded.into(), row_name, difference }
    }
}
