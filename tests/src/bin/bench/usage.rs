//! CPU time and memory of processes, from `/proc`.

use anyhow::{Context, Result};

/// Ticks per second of `/proc`: `USER_HZ`, which is 100 on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns user and system time of a process and of its children that have exited, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    // The fields utime, stime, cutime and cstime.
    seconds(&format!("/proc/{pid}/stat"), 0..4)
}

/// Returns the bytes of a process's memory that are resident.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.context("no VmRSS in the status file")?.trim().trim_end_matches(" kB");
    Ok(kilobytes.parse::<u64>()? * 1_024)
}

/// Returns user and system time of this process, in seconds.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    seconds("/proc/self/stat", 0..2)
}

/// Returns user and system time of this process's children that have exited, in seconds.
pub(crate) fn children_cpu_seconds() -> Result<f64> {
    seconds("/proc/self/stat", 2..4)
}

fn seconds(path: &str, fields: std::ops::Range<usize>) -> Result<f64> {
    /// Index of `utime` after the program's name, which may contain spaces.
    const UTIME: usize = 11;

    let stat = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in the stat file")?;
    let times = after_name.split_whitespace().skip(UTIME).take(4);
    let times: Vec<f64> = times.map(str::parse).collect::<Result<_, _>>()?;
    let ticks: f64 = times.get(fields).context("too few fields in the stat file")?.iter().sum();
    Ok(ticks / TICKS_PER_SECOND)
}
