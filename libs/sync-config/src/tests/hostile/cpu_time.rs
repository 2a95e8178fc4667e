//! A limit on work that does not depend on how busy the machine is.

use std::fs;

/// Limit of the CPU time of one case, in the ticks of 10 ms that the kernel counts.
///
/// All fixed cases of this folder together take 15 s of CPU time in a debug build. Exponential growth
/// exceeds any limit.
const CPU_TICKS_MAX: u64 = 2_000;

/// Runs `act`, and fails if this thread spends too much CPU time on it.
///
/// CPU time is a measure of work: the time during which the thread waits for a core is not part of it.
/// Systems without `/proc` do not check the limit.
pub(super) fn within_work_limit<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let before = cpu_ticks();
    let result = act();

    if let (Some(before), Some(after)) = (before, cpu_ticks()) {
        let spent = after - before;
        let start: String = what.chars().take(200).collect();
        assert!(spent < CPU_TICKS_MAX, "{spent} ticks of CPU time for {start}");
    }
    result
}

/// Returns the CPU time of this thread in user and kernel mode, in ticks.
fn cpu_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The second field, the name in parentheses, may contain spaces. `utime` and `stime` are the
    // fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>());
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

#[test]
fn work_of_this_thread_is_counted() {
    let Some(before) = cpu_ticks() else { return };
    let mut sum = 0_u64;
    while cpu_ticks().is_some_and(|now| now < before + 2) {
        sum = (0..100_000_u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
    }
    assert_ne!(sum, 0);
}
