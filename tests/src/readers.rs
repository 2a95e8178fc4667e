//! Readers that come and go, and what they saw.

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

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);

/// A client of one user.
pub struct Reader {
    user: User,
    key: SigningKey,
    url: watch::Receiver<String>,
    client: SyncReader,
    rng: StdRng,
    observations: Observations,
}

/// What a reader needs to know.
#[derive(Clone)]
pub struct ReaderOptions {
    /// Who it is.
    pub user: User,
    /// Signs its tokens.
    pub key: SigningKey,
    /// Where the API listens at present.
    pub url: watch::Receiver<String>,
    /// Of its own random numbers.
    pub seed: u64,
    /// Where it reports what it sees.
    pub observations: Observations,
}

impl Reader {
    /// A client that holds nothing.
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

    /// Who it is.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    fn token(&self) -> Result<String> {
        let role = if self.user.admin { "admin" } else { "member" };
        self.key.token(&self.user.id).claim("role", role).sign()
    }

    /// Connects, reads a little, cuts the connection, and so on until told to stop.
    ///
    /// # Errors
    /// When the server breaks the protocol. That it is not there, or goes away, is no error.
    pub async fn come_and_go(&mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow_and_update() {
            let lines = self.rng.random_range(0..40);
            let patience = Duration::from_millis(self.rng.random_range(1..600));
            let deadline = Instant::now() + patience;
            if let Err(error) = self.read_some(lines, deadline).await {
                if is_violation(&error) {
                    return Err(error.context(format!("user {}", self.user.id)));
                }
                sleep(RETRY).await;
            }
            // Now and then a device is new, or has lost everything.
            if self.rng.random_ratio(1, 25) {
                self.client.forget();
            }
        }
        Ok(())
    }

    async fn read_some(&mut self, lines: usize, deadline: Instant) -> Result<()> {
        let (url, token) = (self.url.borrow().clone(), self.token()?);
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

    /// Reads until it sees exactly these rows.
    ///
    /// # Errors
    /// When it does not within that time, with the difference; or the server breaks the protocol.
    pub async fn settle(&mut self, target: &Rows, within: Duration) -> Result<()> {
        let mut last: Option<Arc<Rows>> = None;
        let mut trouble = None;
        let settled = timeout(within, async {
            loop {
                match self.read_to(target, &mut last).await {
                    Ok(()) => return Ok(()),
                    Err(error) if is_violation(&error) => return Err(error),
                    Err(error) => trouble = Some(error),
                }
                sleep(RETRY).await;
            }
        })
        .await;
        let user = &self.user.id;
        if let Ok(outcome) = settled {
            return outcome.with_context(|| format!("user {user}"));
        }
        let trouble = trouble.map(|error| format!("; last error: {error:#}")).unwrap_or_default();
        match last {
            Some(rows) => {
                let difference = difference(target, &rows);
                bail!(
                    "after {within:?} user {user} does not see what it should{trouble}:\n{difference}"
                )
            }
            None => bail!("after {within:?} user {user} has seen no checkpoint{trouble}"),
        }
    }

    async fn read_to(&mut self, target: &Rows, last: &mut Option<Arc<Rows>>) -> Result<()> {
        let (url, token) = (self.url.borrow().clone(), self.token()?);
        let mut connection = self.client.connect(&url, &token).await?;
        loop {
            let completed = connection.completed().await?;
            self.observations.add(&self.user, completed.clone());
            let equal = *completed.rows == *target;
            *last = Some(completed.rows);
            if equal {
                return Ok(());
            }
        }
    }
}

/// Every complete checkpoint that any reader saw.
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
        let (at, rows) = (completed.last_op_id, completed.rows);
        let observation = Observation { at, user: user.clone(), rows };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(observation);
    }

    /// Checks that each checkpoint shows the source at exactly one commit, the same one for all
    /// users, and that these do not go back as checkpoints go on. Returns the last of these
    /// commits, from which the next call is to begin, and how many observations there were, which
    /// are then forgotten.
    ///
    /// # Errors
    /// With the checkpoint, the user and what differs from the nearest commit.
    pub fn check(&self, history: &History, from: usize) -> Result<(usize, usize)> {
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
        Ok((commit, all.len()))
    }
}

/// A reader does not see what the model says.
#[derive(Clone, Debug)]
pub struct Differs {
    text: String,
    /// Object types and object ids.
    pub rows: Vec<(String, String)>,
}

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Differs {}

/// What each user should see after each commit, computed when first asked for.
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
                let difference = difference(view, &seen.rows);
                return anyhow::anyhow!(
                    "checkpoint {at} of user {} is no commit from {from} on; compared with commit \
                     {nearest}:\n{difference}",
                    seen.user.id
                );
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

/// Where two sets of rows differ, in some lines. The rows are the tests' own.
pub(crate) fn difference(expected: &Rows, seen: &Rows) -> String {
    let show = |row: Option<&Map<String, Value>>| match row {
        None => "nothing".to_owned(),
        Some(row) => {
            let text = Value::Object(row.clone()).to_string();
            text.chars().take(300).collect()
        }
    };
    let keys = differing(expected, seen);
    let lines = keys.iter().take(8).map(|key| {
        let (expected, seen) = (show(expected.get(*key)), show(seen.get(*key)));
        format!("{} {}:\n  expected {expected}\n  seen     {seen}\n", key.0, key.1)
    });
    let shown: String = lines.collect();
    format!("{} rows differ\n{shown}", keys.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Effect;
    use crate::schema::Table;

    /// Two users, and three commits of one document and one note of each.
    fn history() -> History {
        let mut history = History::default();
        for number in 1..=3 {
            let row = |values: &[&str]| values.iter().map(|v| Some((*v).to_owned())).collect();
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

    /// What the check says of these views: checkpoint, user, the commit of its lists and that of
    /// its notes.
    fn check(seen: &[(i64, &str, usize, usize)]) -> Option<usize> {
        let history = history();
        let observations = Observations::default();
        for &(at, user, lists, notes) in seen {
            let user = User::new(user);
            let mut rows = expected_rows(&history, lists, &user);
            rows.retain(|(table, _), _| table == "lists");
            let other = expected_rows(&history, notes, &user).into_iter();
            rows.extend(other.filter(|((table, _), _)| table == "notes"));
            let last_op_id = OpId::from_i64(at).unwrap();
            let completed = Completed { last_op_id, write_checkpoint: None, rows: Arc::new(rows) };
            observations.add(&user, completed);
        }
        observations.check(&history, 0).ok().map(|(commit, _)| commit)
    }

    #[test]
    fn views_of_commits_in_order_are_right_in_whatever_order_they_were_seen() {
        assert_eq!(check(&[]), Some(0));
        assert_eq!(check(&[(9, "u1", 3, 3), (5, "u2", 1, 1), (9, "u2", 3, 3)]), Some(3));
        assert_eq!(check(&[(5, "u1", 2, 2), (6, "u1", 2, 2)]), Some(2));
    }

    #[test]
    fn a_torn_commit_is_found() {
        assert_eq!(check(&[(5, "u1", 1, 2)]), None);
    }

    #[test]
    fn going_back_is_found_also_between_users() {
        assert_eq!(check(&[(5, "u1", 2, 2), (6, "u1", 1, 1)]), None);
        assert_eq!(check(&[(5, "u1", 2, 2), (6, "u2", 1, 1)]), None);
    }

    #[test]
    fn one_checkpoint_that_is_two_commits_is_found() {
        assert_eq!(check(&[(5, "u1", 1, 1), (5, "u2", 2, 2)]), None);
    }
}
