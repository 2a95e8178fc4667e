//! Properties of any order in which a unit is assembled, stored and committed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidewater_storage::ReadResult;

use super::*;

/// The values of records, by row.
type Values = BTreeMap<u8, Option<String>>;

/// A step of a run with its log.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Gives a row's record a value.
    Set(u8),
    /// Deletes a row's record.
    Delete(u8),
    /// Stores the unit so far without a commit.
    Flush,
    StartCommit,
    Finish,
    /// Drops what need not be in memory.
    Trim,
    /// Ends the run between two storage calls. The next run takes over.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0_u8..4).prop_map(Step::Set),
        1 => (0_u8..4).prop_map(Step::Delete),
        2 => Just(Step::Flush),
        2 => Just(Step::StartCommit),
        2 => Just(Step::Finish),
        1 => Just(Step::Trim),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..40)
}

fn name(at: u8) -> RecordKey {
    row(&at.to_string())
}

/// Returns what a reader at the control record's position finds.
async fn committed_values(storage: &Embedded) -> Values {
    let control = storage.control().await.unwrap().unwrap();
    let committed_ops = control.committed_ops(&storage.archived_epochs().await.unwrap());
    let mut values = Values::new();
    for at in 0..4 {
        let record = storage.records(&[name(at)]).await.unwrap().remove(0);

        let value = record.as_ref().and_then(|record| {
            match record.read_at(control.committed.op, &committed_ops) {
                ReadResult::Found(_, value) => Some(String::from_utf8(value.to_vec()).unwrap()),
                ReadResult::NotFound => None,
                ReadResult::TooOld => panic!("the committed position is always readable"),
            }
        });
        values.insert(at, value);
    }
    values
}

/// A run, and what its commits should contain.
struct Run {
    storage: Embedded,
    writer: LogWriter<Embedded>,
    position: u64,
    /// All values, as the run itself sees them.
    own: Values,
    /// The values of the last commit that has landed.
    landed: Values,
    /// The values of the commit in flight.
    requested: Option<Values>,
}

impl Run {
    async fn begin() -> Self {
        let storage = Embedded::temporary().unwrap();
        let writer = begun(&storage).await;
        let empty: Values = (0..4).map(|at| (at, None)).collect();
        Self { storage, writer, position: 1, own: empty.clone(), landed: empty, requested: None }
    }

    async fn perform(&mut self, step: Step, number: usize) {
        match step {
            Step::Set(at) => self.set(at, Some(format!("value {number}"))).await,
            Step::Delete(at) => self.set(at, None).await,

            Step::Flush => {
                self.writer.flush().await.unwrap();
                self.note_landed();
            }
            Step::StartCommit => {
                self.position += 1;
                let options = hidden_below(u64::MAX);
                self.writer.start_commit(Lsn(self.position), Ticket(0), options).await.unwrap();
                self.note_landed();
                self.requested = Some(self.own.clone());
            }

            Step::Finish => {
                self.writer.finish().await.unwrap();
                self.note_landed();
            }
            Step::Trim => self.writer.trim(0),
            Step::Crash => self.crash().await,
        }
    }

    async fn set(&mut self, at: u8, value: Option<String>) {
        let record = self.writer.load([name(at)]).await.unwrap()[0];
        let found = self.writer.get(record).map(|(_, value)| value.to_vec());
        let expected = self.own[&at].clone().map(String::into_bytes);
        assert_eq!(found, expected, "a run sees what it has written, committed or not");

        self.writer.set(record, value.clone().map(Into::into));
        self.own.insert(at, value);
    }

    /// Notes that no write is in flight any more.
    fn note_landed(&mut self) {
        if let Some(landed) = self.requested.take() {
            self.landed = landed;
        }
    }

    /// Ends the run once the write in flight has landed. Whatever it has not committed is void.
    async fn crash(&mut self) {
        self.writer.finish().await.unwrap();
        self.note_landed();

        let former = self.storage.control().await.unwrap().unwrap();
        let (next, archived) = after_takeover(&former);
        let storage = self.storage.clone();
        let next = LogWriter::take_over(storage, Some(former), next, archived, None).await;
        self.writer = next.unwrap();
        self.own = self.landed.clone();
    }

    async fn check(&self) {
        let found = committed_values(&self.storage).await;
        let is_landed = found == self.landed;
        let is_in_flight = self.requested.as_ref() == Some(&found);
        assert!(is_landed || is_in_flight, "{found:?} is no commit: {:?}", self.landed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Readers find exactly what the last commit contains and never a part of a unit, however it is
    /// cut into batches and wherever a run ends.
    #[test]
    fn readers_find_whole_units_of_committed_values(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::begin().await;
            for (number, &step) in steps.iter().enumerate() {
                run.perform(step, number).await;
                run.check().await;
            }
        });
    }
}
