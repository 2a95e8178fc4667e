//! Row by row: is a client's table what PostgreSQL holds?

use anyhow::{Context, bail};
use futures::TryStreamExt;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A row as texts; the first column identifies it.
pub(crate) type Row = Vec<Option<String>>;

/// What one comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) rows: u64,
    /// The first rows that differ, in words.
    pub(crate) differences: Vec<String>,
}

/// Differences that are described.
const DIFFERENCES_MAX: usize = 5;

/// Compares a query's rows with a client's, both in the order of the first column's bytes.
pub(crate) async fn compare(
    client: &Client,
    query: &str,
    ours: impl Iterator<Item = anyhow::Result<Row>>,
) -> anyhow::Result<Comparison> {
    let messages = client.simple_query_raw(query).await.context("cannot read from PostgreSQL")?;
    let mut messages = std::pin::pin!(messages);
    let mut merge = Merge::new(ours)?;
    while let Some(message) = messages.try_next().await.context("cannot read from PostgreSQL")? {
        if let SimpleQueryMessage::Row(row) = message {
            let theirs = (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect();
            merge.theirs(&theirs)?;
        }
    }
    merge.finish()
}

/// Two ordered sequences of rows, side by side.
struct Merge<I> {
    ours: I,
    next: Option<Row>,
    comparison: Comparison,
}

impl<I: Iterator<Item = anyhow::Result<Row>>> Merge<I> {
    fn new(mut ours: I) -> anyhow::Result<Self> {
        let next = ours.next().transpose()?;
        Ok(Self { ours, next, comparison: Comparison { rows: 0, differences: Vec::new() } })
    }

    fn theirs(&mut self, theirs: &Row) -> anyhow::Result<()> {
        if theirs.is_empty() {
            bail!("a row has no columns");
        }
        self.comparison.rows += 1;
        while let Some(ours) = self.next.take_if(|ours| ours[0] < theirs[0]) {
            self.differ(&format!("the client has {ours:?}, PostgreSQL has no such row"));
            self.next = self.ours.next().transpose()?;
        }
        match self.next.take_if(|ours| ours[0] == theirs[0]) {
            None => self.differ(&format!("PostgreSQL has {theirs:?}, the client has no such row")),
            Some(ours) => {
                if ours != *theirs {
                    self.differ(&format!("the client has {ours:?}, PostgreSQL has {theirs:?}"));
                }
                self.next = self.ours.next().transpose()?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Comparison> {
        while let Some(ours) = self.next.take() {
            self.differ(&format!("the client has {ours:?}, PostgreSQL has no such row"));
            self.next = self.ours.next().transpose()?;
        }
        Ok(self.comparison)
    }

    fn differ(&mut self, how: &str) {
        if self.comparison.differences.len() < DIFFERENCES_MAX {
            self.comparison.differences.push(how.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, value: Option<&str>) -> Row {
        vec![Some(id.to_owned()), value.map(str::to_owned)]
    }

    fn check(ours: &[Row], theirs: &[Row]) -> Comparison {
        let mut merge = Merge::new(ours.iter().cloned().map(Ok)).unwrap();
        theirs.iter().for_each(|row| merge.theirs(row).unwrap());
        merge.finish().unwrap()
    }

    #[test]
    fn equal_rows_are_equal() {
        let rows = [row("1", Some("a")), row("2", None)];
        assert_eq!(check(&rows, &rows), Comparison { rows: 2, differences: vec![] });
        assert_eq!(check(&[], &[]), Comparison { rows: 0, differences: vec![] });
    }

    #[test]
    fn each_kind_of_difference_is_seen() {
        let (a, b, c) = (row("1", Some("a")), row("2", Some("b")), row("3", Some("c")));
        let differs = |ours: Vec<&Row>, theirs: Vec<&Row>, words: &str| {
            let owned = |rows: Vec<&Row>| rows.into_iter().cloned().collect::<Vec<_>>();
            let found = check(&owned(ours), &owned(theirs)).differences;
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(words), "{found:?}");
        };
        differs(vec![&a, &b, &c], vec![&a, &c], "PostgreSQL has no such row");
        differs(vec![&a, &b], vec![&a], "PostgreSQL has no such row");
        differs(vec![&b], vec![&a, &b], "the client has no such row");
        differs(vec![&a], vec![&a, &b], "the client has no such row");
        differs(vec![&a, &row("2", None)], vec![&a, &b], "the client has [Some(\"2\"), None]");
    }
}
