//! Clients that connect and disconnect at random, and the checkpoints that they observed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};
use tidewater_protocol::OpId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::history::History;
use crate::local_buckets::{Completed, LineEffect, Rows};
use crate::model::{User, expected_rows};
use crate::sync_reader::{SyncReader, is_violation};
use crate::token::SigningKey;

/// Delay before the next attempt to connect.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// A client of one user that connects and disconnects at random.
pub struct Reader {
    user: User,
    key: SigningKey,
    url: watch::Receiver<String>,
    client: SyncReader,
    rng: StdRng,
    observations: Observations,
}

/// Options of [`Reader::new`].
#[derive(Clone)]
pub struct ReaderOptions {
    /// The user of the client.
    pub user: User,
    /// The key that signs its tokens.
    pub key: SigningKey,
    /// The current address of the sync API.
    pub url: watch::Receiver<String>,
    /// Seed of its random numbers.
    pub seed: u64,
    /// Collects the checkpoints that the client has completed.
    pub observations: Observations,
}

impl Reader {
    /// Creates a client without data.
    #[must_use]
    pub fn new(options: ReaderOptions) -> Self {
        let mut client = SyncReader::new();
        if let Some(list) = &options.user.comments_of {
            let parameters = Map::from_iter([("list".to_owned(), Value::from(list.clone()))]);
            client = client.subscribed("comments", parameters);
        }
        Self {
            client,
            rng: StdRng::seed_from_u64(options.seed),
            user: options.user,
            key: options.key,
            url: options.url,
            observations: options.observations,
        }
    }

    /// Returns the user of the client.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    fn token(&self) -> Result<String> {
        let role = if self.user.admin { "admin" } else { "member" };
        self.key.token(&self.user.id).claim("role", role).sign()
    }

    /// Connects, reads some lines and cuts the connection, again and again until `stop` is true.
    ///
    /// # Errors
    /// Fails when the server violates the protocol. A lost connection is not an error.
    pub async fn read_at_random(&mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow_and_update() {
            let lines = self.rng.random_range(0..40);
            let duration = Duration::from_millis(self.rng.random_range(1..600));
            let deadline = Instant::now() + duration;
            if let Err(error) = self.read_lines(lines, deadline).await {
                if is_violation(&error) {
                    return Err(error.context(format!("user {}", self.user.id)));
                }
                sleep(RETRY_DELAY).await;
            }

            // Some devices are new, or have lost their data.
            if self.rng.random_ratio(1, 25) {
                self.client.clear();
            }
        }
        Ok(())
    }

    async fn read_lines(&mut self, lines: usize, deadline: Instant) -> Result<()> {
        let url = self.url.borrow().clone();
        let token = self.token()?;
        let Ok(connection) = timeout_at(deadline, self.client.connect(&url, &token)).await else {
            return Ok(());
        };
        let mut connection = connection?;

        for _ in 0..lines {
            let Ok(effect) = timeout_at(deadline, connection.next()).await else { break };
            match effect? {
                None => break,
                Some(LineEffect::Complete(completed)) => {
                    self.observations.add(&self.user, completed);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Reads until a checkpoint has exactly the rows `expected`.
    ///
    /// # Errors
    /// Fails with a [`RowsDiffer`] when the rows still differ after `within`, and when the server
    /// violates the protocol.
    pub async fn wait_until_equal(&mut self, expected: &Rows, within: Duration) -> Result<()> {
        let mut last_rows: Option<Arc<Rows>> = None;
        let mut last_error = None;
        let waited = timeout(within, async {
            loop {
                match self.read_until_equal(expected, &mut last_rows).await {
                    Ok(()) => return Ok(()),
                    Err(error) if is_violation(&error) => return Err(error),
                    Err(error) => last_error = Some(error),
                }
                sleep(RETRY_DELAY).await;
            }
        })
        .await;

        let user = &self.user.id;
        if let Ok(outcome) = waited {
            return outcome.with_context(|| format!("user {user}"));
        }
        let cause = last_error.map(|error| format!("; last error: {error:#}")).unwrap_or_default();
        match last_rows {
            Some(rows) => Err(RowsDiffer::between(expected, &rows).into_error(format!(
                "after {within:?} user {user} does not see the expected rows{cause}"
            ))),
            None => bail!("after {within:?} user {user} has seen no checkpoint{cause}"),
        }
    }

    async fn read_until_equal(
        &mut self,
        expected: &Rows,
        last_rows: &mut Option<Arc<Rows>>,
    ) -> Result<()> {
        let url = self.url.borrow().clone();
        let token = self.token()?;
        let mut connection = self.client.connect(&url, &token).await?;
        loop {
            let completed = connection.completed().await?;
            self.observations.add(&self.user, completed.clone());

            let is_equal = *completed.rows == *expected;
            *last_rows = Some(completed.rows);
            if is_equal {
                return Ok(());
            }
        }
    }
}

/// The complete checkpoints of all readers and apps.
#[derive(Clone, Debug, Default)]
pub struct Observations(Arc<Mutex<Vec<Observation>>>);

#[derive(Clone, Debug)]
struct Observation {
    at: OpId,
    user: User,
    rows: Arc<Rows>,
}

impl Observations {
    pub(crate) fn add(&self, user: &User, completed: Completed) {
        let observation =
            Observation { at: completed.last_op_id, user: user.clone(), rows: completed.rows };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(observation);
    }

    /// Verifies that each checkpoint is the source at one commit, and clears the observations.
    ///
    /// The commit is the same for all users, is `from` or later, and never goes back from one
    /// checkpoint to the next.
    ///
    /// # Errors
    /// Fails with a [`RowsDiffer`]: the checkpoint, the user, and the difference from the nearest
    /// commit.
    pub fn verify(&self, history: &History, from: usize) -> Result<VerifiedCheckpoints> {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.sort_by_key(|observation| observation.at);

        let mut views = Views { history, cache: BTreeMap::new() };
        let mut commit = from;
        for group in all.chunk_by(|a, b| a.at == b.at) {
            commit = (commit..history.len())
                .find(|commit| {
                    group.iter().all(|seen| views.get(*commit, &seen.user) == &*seen.rows)
                })
                .map_or_else(|| Err(views.explain(commit, group)), Ok)?;
        }
        Ok(VerifiedCheckpoints { last_commit: commit, count: all.len() })
    }
}

/// The result of [`Observations::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoints {
    /// The commit of the last checkpoint, from which the next verification begins.
    pub last_commit: usize,
    /// Number of verified observations.
    pub count: usize,
}

/// The difference between the rows of the model and those that a reader or an app has.
#[derive(Clone, Debug)]
pub struct RowsDiffer {
    text: String,
    /// Object types and object ids of the rows that differ.
    pub rows: Vec<(String, String)>,
}

impl RowsDiffer {
    /// Rows whose contents the text shows; the others are only counted.
    const SHOWN_ROWS_MAX: usize = 8;

    /// Compares two sets of rows. The rows are made up by the tests, so the text may show them.
    pub(crate) fn between(expected: &Rows, seen: &Rows) -> Self {
        let keys = differing(expected, seen);
        let mut text = format!("{} rows differ\n", keys.len());
        for key in keys.iter().take(Self::SHOWN_ROWS_MAX) {
            let expected = row_text(expected.get(*key));
            let seen = row_text(seen.get(*key));
            let (object_type, id) = key;
            text.push_str(&format!(
                "{object_type} {id}:\n  expected {expected}\n  seen     {seen}\n"
            ));
        }
        Self { text, rows: keys.into_iter().cloned().collect() }
    }

    /// Returns an error with a first line that says who has the rows.
    pub(crate) fn into_error(self, headline: String) -> anyhow::Error {
        let text = format!("{headline}:\n{}", self.text);
        Self { text, ..self }.into()
    }
}

fn row_text(row: Option<&Map<String, Value>>) -> String {
    match row {
        None => "nothing".to_owned(),
        Some(row) => Value::Object(row.clone()).to_string().chars().take(300).collect(),
    }
}

impl std::fmt::Display for RowsDiffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RowsDiffer {}

/// A cache of the rows that each user must see after each commit.
struct Views<'a> {
    history: &'a History,
    cache: BTreeMap<(usize, User), Rows>,
}

impl Views<'_> {
    fn get(&mut self, commit: usize, user: &User) -> &Rows {
        let history = self.history;
        let view = self.cache.entry((commit, user.clone()));
        view.or_insert_with(|| expected_rows(history, commit, user))
    }

    fn explain(&mut self, from: usize, group: &[Observation]) -> anyhow::Error {
        let at = group[0].at;
        for seen in group {
            let nearest = (from..self.history.len())
                .min_by_key(|commit| differing(self.get(*commit, &seen.user), &seen.rows).len())
                .unwrap_or(from);

            let view = self.get(nearest, &seen.user);
            if *view != *seen.rows {
                return RowsDiffer::between(view, &seen.rows).into_error(format!(
                    "checkpoint {at} of user {} is not the source at commit {from} or later; \
                     compared with commit {nearest}",
                    seen.user.id
                ));
            }
        }
        anyhow::anyhow!("checkpoint {at} shows different commits to different users")
    }
}

fn differing<'a>(expected: &'a Rows, seen: &'a Rows) -> Vec<&'a (String, String)> {
    let changed = expected.iter().filter(|(key, row)| seen.get(*key) != Some(*row));
    let extra = seen.keys().filter(|key| !expected.contains_key(*key));
    changed.map(|(key, _)| key).chain(extra).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Effect;
    use crate::schema::Table;

    /// Returns a history of three commits, each of one list and one note of two users.
    fn history() -> History {
        let mut history = History::default();
        for number in 1..=3 {
            let body = number.to_string();
            let mut effects = Vec::new();
            for user in ["u1", "u2"] {
                effects.push(Effect::Put(Table::Lists, row(&[user, user, &body, "f"])));
                effects.push(Effect::Put(Table::Notes, row(&[user, user, &body])));
            }
            history.commit(number, effects);
        }
        history
    }

    fn row(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|value| Some((*value).to_owned())).collect()
    }

    /// A checkpoint with the lists of one commit and the notes of another.
    struct Seen {
        at: i64,
        user: &'static str,
        lists: usize,
        notes: usize,
    }

    /// Returns a checkpoint that is the source at one commit.
    fn seen(at: i64, user: &'static str, commit: usize) -> Seen {
        Seen { at, user, lists: commit, notes: commit }
    }

    fn verify(all_seen: &[Seen]) -> Result<VerifiedCheckpoints> {
        let history = history();
        let observations = Observations::default();
        for seen in all_seen {
            let user = User::new(seen.user);
            let mut rows = expected_rows(&history, seen.lists, &user);
            rows.retain(|(table, _), _| table == "lists");
            let other = expected_rows(&history, seen.notes, &user).into_iter();
            rows.extend(other.filter(|((table, _), _)| table == "notes"));

            let last_op_id = OpId::from_i64(seen.at).unwrap();
            let completed = Completed { last_op_id, write_checkpoint: None, rows: Arc::new(rows) };
            observations.add(&user, completed);
        }
        observations.verify(&history, 0)
    }

    /// Verifies the observations. `None` means that they contradict the history.
    fn check(all_seen: &[Seen], expected: Option<usize>) {
        let last_commit = verify(all_seen).ok().map(|verified| verified.last_commit);
        assert_eq!(last_commit, expected);
    }

    #[test]
    fn checkpoints_in_commit_order_are_accepted_in_any_order_of_observation() {
        check(&[], Some(0));
        check(&[seen(9, "u1", 3), seen(5, "u2", 1), seen(9, "u2", 3)], Some(3));
        check(&[seen(5, "u1", 2), seen(6, "u1", 2)], Some(2));
    }

    #[test]
    fn a_checkpoint_with_parts_of_two_commits_is_rejected() {
        check(&[Seen { at: 5, user: "u1", lists: 1, notes: 2 }], None);
    }

    #[test]
    fn a_later_checkpoint_with_an_earlier_commit_is_rejected_for_any_user() {
        check(&[seen(5, "u1", 2), seen(6, "u1", 1)], None);
        check(&[seen(5, "u1", 2), seen(6, "u2", 1)], None);
    }

    #[test]
    fn a_checkpoint_with_different_commits_for_two_users_is_rejected() {
        check(&[seen(5, "u1", 1), seen(5, "u2", 2)], None);
    }

    #[test]
    fn the_error_lists_the_rows_that_differ() {
        let error = verify(&[Seen { at: 5, user: "u1", lists: 1, notes: 2 }]).unwrap_err();
        let error = error.context("round 1");
        let differ = error.downcast_ref::<RowsDiffer>().unwrap();
        assert_eq!(differ.rows, [("notes".to_owned(), "u1".to_owned())]);
    }
}
