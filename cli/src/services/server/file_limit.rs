//! The limit on open files, which bounds the connections of a process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process has open besides connections: the database of the embedded store, connections
/// to PostgreSQL and AWS, logs. A tenth of the limit is left free as well.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit to the hard one. Returns the limit that holds then.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit on open files");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns the number of connections that fit below a limit on open files, besides the reserved ones.
/// It is at least 1.
pub(super) fn connections(files: u64, reserved: usize) -> usize {
    let others = OTHER_FILES.saturating_add(files / 10).saturating_add(reserved as u64);
    usize::try_from(files.saturating_sub(others).max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(connections(1_024, 32), 826);
        assert_eq!(connections(100_000, 32), 89_904);
        assert_eq!(connections(50, 32), 1);
        assert!(connections(u64::MAX, 32) > 1_000_000);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(raised, limit.maximum.unwrap_or(u64::MAX));
    }
}
