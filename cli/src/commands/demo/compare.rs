//! Comparison of a client's table with PostgreSQL, row by row.

use anyhow::{Context, bail};
use futures::TryStreamExt;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A row as texts. The first column identifies it.
pub(crate) type Row = Vec<Option<String>>;

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Number of PostgreSQL's rows.
    pub(crate) rows: u64,
    /// Descriptions of the first rows that differ.
    pub(crate) differences: Vec<String>,
}

/// Maximum number of described differences. More would hide the rest of the demo's output.
const DIFFERENCES_MAX: usize = 5;

/// Compares a query's rows with a client's. Both are in the order of the first column's bytes.
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

/// A merge of two ordered sequences of rows.
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

    /// Compares the next row of PostgreSQL.
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

    fn compared(ours: &[Row], theirs: &[Row]) -> Comparison {
        let mut merge = Merge::new(ours.iter().cloned().map(Ok)).unwrap();
        theirs.iter().for_each(|row| merge.theirs(row).unwrap());
        merge.finish().unwrap()
    }

    #[test]
    fn equal_rows_are_equal() {
        let rows = [row("1", Some("a")), row("2", None)];
        assert_eq!(compared(&rows, &rows), Comparison { rows: 2, differences: vec![] });
        assert_eq!(compared(&[], &[]), Comparison { rows: 0, differences: vec![] });
    }

    fn differs(ours: &[&Row], theirs: &[&Row], words: &str) {
        let ours: Vec<Row> = ours.iter().copied().cloned().collect();
        let theirs: Vec<Row> = theirs.iter().copied().cloned().collect();
        let found = compared(&ours, &theirs).differences;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(words), "{found:?}");
    }

    #[test]
    fn each_kind_of_difference_is_reported() {
        let a = row("1", Some("a"));
        let b = row("2", Some("b"));
        let c = row("3", Some("c"));
        let null = row("2", None);
        differs(&[&a, &b, &c], &[&a, &c], "PostgreSQL has no such row");
        differs(&[&a, &b], &[&a], "PostgreSQL has no such row");
        differs(&[&b], &[&a, &b], "the client has no such row");
        differs(&[&a], &[&a, &b], "the client has no such row");
        differs(&[&a, &null], &[&a, &b], "the client has [Some(\"2\"), None]");
    }
}
