//! Staging and publishing, compared with a model that keeps everything in maps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::connector::LocalOp;
use crate::core::Rejection;
use crate::db::queue;

const BUCKETS: [&str; 3] = ["x", "y", "mine"];
pub(super) const SCHEMA: &str = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER, b TEXT);";
pub(super) const LATER_SCHEMA: &str = "CREATE TABLE t (id TEXT PRIMARY KEY, a INTEGER, b TEXT);
    CREATE TABLE u (id TEXT PRIMARY KEY, b TEXT, a INTEGER) WITHOUT ROWID;";

/// The identity of a row on the server: type, id, subkey.
type Key = (&'static str, &'static str, &'static str);
/// The columns `a` and `b`.
type Content = (Option<i64>, Option<String>);
/// The rows of one table by their ids.
type Table = BTreeMap<String, Content>;

/// The op id, the row and its new content; none for a removal.
type Change = (i64, Key, Option<Content>);

/// The server: every operation that ever was.
#[derive(Default)]
struct Server {
    last_op: i64,
    logs: BTreeMap<&'static str, Vec<Change>>,
}

fn body(key: Key, content: Option<&Content>) -> Body<'static> {
    let row = RowKey::new(key.0, key.1, key.2);
    match content {
        Some((a, b)) => {
            let data = serde_json::json!({"id": key.1, "a": a, "b": b, "unknown": 1.5});
            Body::Put { row, data: data.to_string().into() }
        }
        None => Body::Remove { row },
    }
}

pub(super) fn operation(id: i64, key: Key, content: Option<&Content>) -> Operation<'static> {
    let body = body(key, content);
    Operation { op_id: op(id), checksum: body.checksum().unwrap(), body }
}

impl Server {
    fn change(&mut self, bucket: &'static str, key: Key, content: Option<Content>) {
        self.last_op += 1;
        self.logs.entry(bucket).or_default().push((self.last_op, key, content));
    }

    fn sum(&self, bucket: &str) -> Checksum {
        self.sum_at(bucket, i64::MAX)
    }

    fn sum_at(&self, bucket: &str, to: i64) -> Checksum {
        let log = self.logs.get(bucket).into_iter().flatten().filter(|(id, ..)| *id <= to);
        log.map(|(id, key, content)| operation(*id, *key, content.as_ref()).checksum).sum()
    }

    fn live(&self, bucket: &str) -> BTreeMap<Key, (i64, Content)> {
        self.live_at(bucket, i64::MAX)
    }

    fn live_at(&self, bucket: &str, to: i64) -> BTreeMap<Key, (i64, Content)> {
        let mut live = BTreeMap::new();
        let log = self.logs.get(bucket).into_iter().flatten();
        for (id, key, content) in log.filter(|(id, ..)| *id <= to) {
            match content {
                Some(content) => live.insert(*key, (*id, content.clone())),
                None => live.remove(key),
            };
        }
        live
    }

    /// Returns the rows of a table that a client with these buckets must show.
    fn visible(&self, buckets: &[&'static str], table: &str) -> Table {
        let mut rows = BTreeMap::<String, (i64, Content)>::new();
        let live = buckets.iter().flat_map(|bucket| self.live(bucket));
        for (key, (id, content)) in live.filter(|(key, _)| key.0 == table) {
            let row = rows.entry(key.1.to_owned()).or_default();
            if id > row.0 {
                *row = (id, content);
            }
        }
        rows.into_iter().map(|(id, (_, content))| (id, content)).collect()
    }

    /// Returns the lines from a position to now, of two operations each.
    fn lines(&self, bucket: &'static str, after: i64, style: Style) -> Vec<DataLine<'static>> {
        let Some(log) = self.logs.get(bucket) else { return Vec::new() };

        // A base may come at any time. A marker within one is followed by the whole base again.
        let is_base = style == Style::Base || after >= 1 << 62;
        let operations = if is_base {
            self.base(bucket)
        } else {
            let news = log.iter().enumerate().filter(|(_, (id, ..))| *id > after);
            news.map(|(at, (id, key, content))| {
                let is_superseded = log[at + 1..].iter().any(|later| later.1 == *key);
                let mut operation = operation(*id, *key, content.as_ref());
                if style == Style::Moves && is_superseded {
                    operation.body = Body::Move;
                }
                operation
            })
            .collect()
        };

        operations
            .chunks(2)
            .map(|chunk| DataLine { bucket: bucket.to_owned(), operations: chunk.to_vec() })
            .collect()
    }

    /// Returns a snapshot of a bucket, `back` changes of it ago, if it has that many.
    fn snapshot(&self, bucket: &'static str, back: usize) -> Option<(LocalBucket, Vec<TestRow>)> {
        let log = self.logs.get(bucket)?;
        let to = log.get(log.len().checked_sub(1 + back)?)?.0;
        let rows = self.live_at(bucket, to).into_iter().map(|(key, (id, content))| {
            let operation = operation(id, key, Some(&content));
            let Body::Put { data, .. } = &operation.body else { panic!("a live row is put") };
            let key = [key.0, key.1, key.2].map(str::to_owned);
            TestRow { key, op_id: operation.op_id, data: data.to_string() }
        });
        let position = op(to);
        let sum = self.sum_at(bucket, to);
        Some((LocalBucket { position, sum, ..LocalBucket::default() }, rows.collect()))
    }

    /// Returns a base: a CLEAR with the rest of the checksum, then the current rows, greatest key
    /// first.
    fn base(&self, bucket: &'static str) -> Vec<Operation<'static>> {
        let live = self.live(bucket);
        let rows = live.iter().rev();
        let rows: Vec<_> =
            rows.map(|(key, (id, content))| operation(*id, *key, Some(content))).collect();
        let rest = self.sum(bucket) - rows.iter().map(|row| row.checksum).sum();
        let clear = Operation { op_id: op(1), checksum: rest, body: Body::Clear };

        // Each line of two ends with a marker.
        let marked =
            std::iter::once(clear).chain(rows).enumerate().flat_map(|(sent, operation)| {
                let op_id = op((1 << 62) + i64::try_from(sent).unwrap());
                [operation, Operation { op_id, checksum: Checksum::ZERO, body: Body::Move }]
            });
        marked.collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Raw,
    Moves,
    Base,
    /// Files of the state some changes ago, then the operations since.
    Snapshot {
        back: usize,
        is_verified: bool,
    },
}

/// The device and what it must show.
struct ModelDevice<'d> {
    path: &'d Path,
    device: Device,
    /// The rows that must be visible in `t`.
    expected: Table,
    published: Vec<&'static str>,
    write_checkpoint: i64,
    /// Local writes are not in the visible checkpoint yet.
    awaits: Option<i64>,
}

impl<'d> ModelDevice<'d> {
    fn new(path: &'d Path) -> Self {
        Self {
            path,
            device: Device::open_at(path, SCHEMA),
            expected: Table::new(),
            published: Vec::new(),
            write_checkpoint: 0,
            awaits: None,
        }
    }

    fn reopen(&mut self, schema: &str) {
        self.device = Device::open_at(self.path, schema);
    }

    fn table(&self, name: &str) -> Table {
        let sql = format!("SELECT id, a, b FROM {name}");
        let table = self.device.database.read(|db| {
            let mut select = db.prepare(&sql)?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
            rows.collect()
        });
        table.unwrap()
    }

    /// Receives a checkpoint. Returns whether it arrived as a whole.
    fn receive(&mut self, server: &Server, round: &Round) -> bool {
        let named: Vec<&'static str> = BUCKETS
            .into_iter()
            .enumerate()
            .filter(|(at, _)| round.buckets[*at])
            .map(|b| b.1)
            .collect();
        let local = staging::load(&self.device.writers().sync).unwrap();
        for name in local.keys().filter(|name| !named.contains(&name.as_str())) {
            staging::reset_named(&self.device.writers().sync, name).unwrap();
        }

        let mut lines_left = round.lines_max;
        for &bucket in &named {
            let mut state = self.device.bucket(bucket);
            if let Style::Snapshot { back, is_verified } = round.style
                && let Some((taken, rows)) = server.snapshot(bucket, back)
            {
                state = taken;
                self.device.stage_snapshot(bucket, &rows, state, is_verified);
            }
            for line in server.lines(bucket, state.position.get(), round.style) {
                if lines_left == 0 {
                    return false;
                }
                lines_left -= 1;
                add_line(&mut state, &line);
                self.device.stage(&line, state).unwrap();
            }
            // Equal checksums prove that nothing is missing.
            assert_eq!(state.sum, server.sum(bucket), "sum of {bucket}");
        }

        let number = if round.is_acknowledged { self.write_checkpoint } else { 0 };
        let buckets = named.iter().map(|name| describe(name, server.sum(name))).collect();
        let checkpoint = Checkpoint {
            write_checkpoint: OpId::from_i64(number),
            ..checkpoint_at(op(server.last_op), buckets)
        };
        let published = self.device.publish(&checkpoint).unwrap();
        let must_defer = self.awaits.is_some_and(|number_awaited| number < number_awaited);
        let is_deferred = published == Publication::Deferred;
        assert_eq!(is_deferred, must_defer, "awaits {:?}, has {number}", self.awaits);
        if !must_defer {
            self.awaits = None;
            self.expected = server.visible(&named, "t");
            let kept = staging::load(&self.device.writers().sync).unwrap();
            assert_eq!(
                kept.into_keys().collect::<Vec<_>>(),
                sorted(&named),
                "no other bucket is left"
            );
            self.published = named;
        }
        true
    }

    fn write(&mut self, write: &LocalWrite) {
        let LocalWrite { id, content, kind } = write;
        let (a, b) = content;
        let sql = match kind {
            0 => {
                "INSERT INTO t (id, a, b) VALUES (?1, ?2, ?3) \
                  ON CONFLICT (id) DO UPDATE SET a = excluded.a"
            }
            1 => "INSERT OR REPLACE INTO t (id, a, b) VALUES (?1, ?2, ?3)",
            2 => "UPDATE t SET b = ?3 WHERE id = ?1 AND ?2 IS ?2",
            _ => "DELETE FROM t WHERE id = ?1 AND ?2 IS ?2 AND ?3 IS ?3",
        };
        self.device.writers().write(|tx| tx.execute(sql, params![id, a, b])).unwrap();

        let row = self.expected.get_mut(*id);
        match (kind, row) {
            (0, Some(row)) => row.0 = *a,
            (0 | 1, _) => drop(self.expected.insert((*id).to_owned(), content.clone())),
            (2, Some(row)) => row.1.clone_from(b),
            (2, None) => {}
            _ => drop(self.expected.remove(*id)),
        }
        if queue::lengths(&self.device.writers().sync).unwrap().queued > 0 {
            self.awaits = Some(i64::MAX);
        }
    }

    /// Sends the queue. The server applies all of it or rejects all of it.
    fn upload(&mut self, server: &mut Server, is_refused: bool) {
        let mut writers = self.device.writers();
        while let Some(unit) = queue::head(&mut writers.sync).unwrap() {
            let rejection = Rejection { reason: "no".into(), body: None };
            if !is_refused {
                for change in &unit.operations {
                    let id = IDS.into_iter().find(|id| *id == change.id).unwrap();
                    let key = ("t", id, "own");
                    let before = server.live("mine").remove(&key).map(|(_, content)| content);
                    let mut content = before.unwrap_or_default();
                    if let Some(a) = change.data.get("a") {
                        content.0 = a.as_i64();
                    }
                    if let Some(b) = change.data.get("b") {
                        content.1 = b.as_str().map(str::to_owned);
                    }
                    let content = (change.op != LocalOp::Delete).then_some(content);
                    server.change("mine", key, content);
                }
            }
            let rejected = is_refused.then_some(&rejection);
            queue::verdict::finish(&mut writers.sync, unit.transaction_id, rejected).unwrap();
        }

        if self.awaits.is_some() {
            self.write_checkpoint += 1;
            let (_, version) = queue::pending_uploads(&writers.sync).unwrap();
            let number = op(self.write_checkpoint);
            assert!(queue::store_write_checkpoint(&writers.sync, version, number).unwrap());
            self.awaits = Some(self.write_checkpoint);
        }
    }

    /// Checks that no more is stored beside the visible rows than necessary.
    fn check_storage(&self) {
        let alone = "SELECT count(*) FROM _tw_rows AS row WHERE payload IS NOT NULL \
                     AND type = (SELECT id FROM _tw_types WHERE name = 't') AND op_id = \
                     (SELECT max(op_id) FROM _tw_rows WHERE type = row.type AND id = row.id)";
        assert_eq!(self.device.query::<i64>(alone), 0, "the winner's value is the visible row");
        assert_eq!(self.device.query::<i64>("SELECT applying FROM _tw_state"), 0);

        if self.awaits.is_none() {
            assert_eq!(self.device.query::<i64>("SELECT gate FROM _tw_state"), 0);
        }
    }
}

fn sorted<'b>(names: &'b [&'static str]) -> Vec<&'b str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

#[derive(Clone, Debug)]
struct LocalWrite {
    id: &'static str,
    content: Content,
    kind: u8,
}

/// A round of events, in this order.
#[derive(Clone, Debug)]
struct Round {
    changes: Vec<(usize, Key, Option<Content>)>,
    writes: Vec<LocalWrite>,
    is_uploaded: bool,
    is_refused: bool,
    is_reopened: bool,
    /// The buckets that the user has.
    buckets: [bool; 3],
    style: Style,
    /// The number of lines after which the connection is cut.
    lines_max: usize,
    is_acknowledged: bool,
    /// A bucket whose checksum is wrong, and which is downloaded again.
    reset: Option<usize>,
}

const IDS: [&str; 3] = ["r1", "r2", "r3"];

fn content() -> impl Strategy<Value = Content> {
    (proptest::option::of(0..2_i64), proptest::option::of("[pq]"))
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let key = (
        prop_oneof![4 => Just("t"), 1 => Just("u")],
        proptest::sample::select(&IDS[..]),
        proptest::sample::select(&["", "own"][..]),
    );

    let change = (0..3_usize, key, proptest::option::weighted(0.7, content()));
    let write = (proptest::sample::select(&IDS[..]), content(), 0..4_u8);
    let write = write.prop_map(|(id, content, kind)| LocalWrite { id, content, kind });
    let round = (
        proptest::collection::vec(change, 0..6),
        prop_oneof![2 => Just(vec![]), 1 => proptest::collection::vec(write, 1..3)],
        (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.2)),
        (proptest::bool::weighted(0.8), proptest::bool::weighted(0.8)),
        prop_oneof![
            Just(Style::Raw),
            Just(Style::Moves),
            Just(Style::Base),
            (0..3_usize, any::<bool>())
                .prop_map(|(back, is_verified)| Style::Snapshot { back, is_verified }),
        ],
        prop_oneof![3 => Just(usize::MAX), 1 => 0..5_usize],
        (proptest::bool::weighted(0.7), proptest::option::weighted(0.2, 0..3_usize)),
    );

    let round = round.prop_map(|(changes, writes, flags, buckets, style, lines_max, last)| Round {
        changes,
        writes,
        is_uploaded: flags.0,
        is_refused: flags.1,
        is_reopened: flags.2,
        buckets: [buckets.0, buckets.1, true],
        style,
        lines_max,
        is_acknowledged: last.0,
        reset: last.1,
    });

    proptest::collection::vec(round, 1..12)
}

fn run(rounds: &[Round]) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("app.db");
    let mut server = Server::default();
    let mut device = ModelDevice::new(&path);
    for round in rounds {
        for (bucket, key, content) in &round.changes {
            server.change(BUCKETS[*bucket], *key, content.clone());
        }
        round.writes.iter().for_each(|write| device.write(write));
        assert_eq!(device.table("t"), device.expected, "after local writes");
        if round.is_uploaded {
            device.upload(&mut server, round.is_refused);
        }
        if round.is_reopened {
            device.reopen(SCHEMA);
        }
        if let Some(bucket) = round.reset {
            staging::reset_named(&device.device.writers().sync, BUCKETS[bucket]).unwrap();
        }
        device.receive(&server, round);
        assert_eq!(device.table("t"), device.expected, "after a checkpoint");
        device.check_storage();
    }

    // In the end everything is sent and acknowledged, and the device equals the server.
    device.upload(&mut server, false);
    let last = Round {
        changes: vec![],
        writes: vec![],
        is_uploaded: true,
        is_refused: false,
        is_reopened: false,
        buckets: [true; 3],
        style: Style::Raw,
        lines_max: usize::MAX,
        is_acknowledged: true,
        reset: None,
    };
    assert!(device.receive(&server, &last));
    assert_eq!(device.table("t"), server.visible(&BUCKETS, "t"));

    // Rows of a table that the schema lacked were kept.
    device.reopen(LATER_SCHEMA);
    assert_eq!(device.table("u"), server.visible(&BUCKETS, "u"));
    server.change("x", ("u", "r1", ""), Some((Some(9), None)));
    device.receive(&server, &last);
    assert_eq!(device.table("u"), server.visible(&BUCKETS, "u"));
    assert_eq!(device.table("t"), server.visible(&BUCKETS, "t"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_visible_rows_are_one_checkpoint_and_the_local_writes(rounds in rounds()) {
        run(&rounds);
    }
}
