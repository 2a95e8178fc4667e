//! Snapshots of PostgreSQL, and the transactions that they see.

use std::fmt;

/// A `pg_snapshot`: `xmin:xmax:xip,xip,...` with 64-bit transaction ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgSnapshot {
    xmin: u64,
    xmax: u64,
    in_progress: Vec<u64>,
}

impl fmt::Display for PgSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<_> = self.in_progress.iter().map(u64::to_string).collect();
        write!(f, "{}:{}:{}", self.xmin, self.xmax, list.join(","))
    }
}

impl PgSnapshot {
    /// Reads PostgreSQL's text form. Returns `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let in_progress = list.map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
        Some(Self { xmin, xmax, in_progress })
    }

    /// Returns whether the snapshot sees a committed transaction.
    ///
    /// A transaction is decoded from the log an instant *before* new snapshots see it. With
    /// synchronous replication that instant can last minutes.
    #[must_use]
    pub fn sees(&self, xid: u32) -> bool {
        let xid = self.widen(xid);
        xid < self.xmin || (xid < self.xmax && !self.in_progress.contains(&xid))
    }

    /// Returns whether the snapshot sees all of these committed transactions.
    pub(crate) fn sees_all(&self, xids: &[u32]) -> bool {
        xids.iter().all(|&xid| self.sees(xid))
    }

    /// Returns the transactions that were in progress.
    pub(crate) fn in_progress(&self) -> impl Iterator<Item = u32> + '_ {
        self.in_progress.iter().map(|xid| (xid & 0xFFFF_FFFF) as u32)
    }

    /// Returns the 64-bit id nearest to the snapshot's own: the stream carries only the low half.
    fn widen(&self, xid: u32) -> u64 {
        let era = self.xmax & !0xFFFF_FFFF;
        let same = era | u64::from(xid);
        if same > self.xmax && same - self.xmax > 1 << 31 && era > 0 {
            same - (1 << 32)
        } else if same < self.xmax && self.xmax - same > 1 << 31 {
            same + (1 << 32)
        } else {
            same
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_what_ended_before_it() {
        let snapshot = PgSnapshot::parse("100:110:100,104").unwrap();
        let seen: Vec<_> = (98..112).filter(|&xid| snapshot.sees(xid)).collect();
        assert_eq!(seen, [98, 99, 101, 102, 103, 105, 106, 107, 108, 109]);
    }

    #[test]
    fn rows_are_read_only_from_a_snapshot_that_sees_every_applied_transaction() {
        let snapshot = PgSnapshot::parse("100:110:104").unwrap();
        assert!(snapshot.sees_all(&[]), "nothing was applied");
        assert!(snapshot.sees_all(&[99, 100, 109]));
        assert!(!snapshot.sees_all(&[99, 104]), "104 is in progress");
        assert!(!snapshot.sees_all(&[110]), "110 has not begun");
    }

    #[test]
    fn the_text_form_is_that_of_postgresql() {
        for text in ["100:110:100,104", "7:7:", "4294967297:4294967300:4294967298"] {
            assert_eq!(PgSnapshot::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn transactions_in_progress_are_listed_by_the_low_half_of_their_ids() {
        let snapshot = PgSnapshot::parse("4294967297:4294967300:4294967298").unwrap();
        assert_eq!(snapshot.in_progress().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn it_reads_an_empty_list() {
        let snapshot = PgSnapshot::parse("7:7:").unwrap();
        assert!(snapshot.sees(6) && !snapshot.sees(7));
        assert_eq!(PgSnapshot::parse("7:7"), None);
        assert_eq!(PgSnapshot::parse("7:x:"), None);
    }

    #[test]
    fn ids_wrap_around() {
        let era = 3_u64 << 32;
        let snapshot = PgSnapshot::parse(&format!("{}:{}:", era + 5, era + 5)).unwrap();
        assert!(snapshot.sees(u32::MAX), "the one just before the wrap is old");
        assert!(snapshot.sees(4));
        assert!(!snapshot.sees(6));
        let snapshot = PgSnapshot::parse(&format!("{}:{}:", era - 5, era - 5)).unwrap();
        assert!(!snapshot.sees(3), "the one just after the wrap is new");
    }
}
