//! The real snapshot builder, with small bases and a clock that counts turns, or jumps.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewater_snapshot_builder::{Options, run_pass};

use crate::store::Store;
use crate::world::Shared;

/// The builders' clock at the first turn, in seconds. It is later than a jump back.
const CLOCK_START: u64 = 100_000;

/// The largest jump of a clock, in seconds: more than all times of the options.
const CLOCK_JUMP_MAX: i64 = 7_200;

/// Runs passes of the builder until it is killed.
///
/// Injected faults make passes fail. Failures are logged; the test checks only that some bases are
/// published.
pub(crate) async fn run(
    store: Store,
    world: Shared,
    number: usize,
    options: Options,
) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(number as u64);
    let mut offset = 0;
    loop {
        let now = {
            let mut world = world.lock().unwrap();
            if world.clocks_jump && rng.random_range(0..3) == 0 {
                offset = rng.random_range(-CLOCK_JUMP_MAX..=CLOCK_JUMP_MAX);
                world.counters.clock_jumps += 1;
                world.log(&format!("builder {number}: the clock jumps to {offset} s"));
            }
            (CLOCK_START + world.turns).saturating_add_signed(offset)
        };
        let result = run_pass(&store, &options, now, None).await;

        let mut world = world.lock().unwrap();
        match result {
            // Most passes find nothing to do.
            Ok(report) if report.examined == 0 => {}
            Ok(report) => {
                world.counters.bases += report.published;
                world.log(&format!(
                    "builder {number}: a pass has examined {} buckets, published {} bases and \
                     failed for {} buckets",
                    report.examined, report.published, report.failed
                ));
            }
            Err(error) => world.log(&format!("builder {number}: a pass failed: {error}")),
        }
    }
}

/// Returns random options: bases of a few rows, lines of one to three rows, and times that pass
/// within a run, so that replaced objects are deleted.
pub(crate) fn options(seed: u64, deletes_early: bool) -> Options {
    let mut rng = StdRng::seed_from_u64(seed);
    let grace = if deletes_early { rng.random_range(0..50) } else { rng.random_range(600..1_200) };

    Options {
        threshold: rng.random_range(1..6),
        horizon: Duration::from_secs(rng.random_range(0..1_500)),
        grace: Duration::from_secs(grace),
        line_rows: rng.random_range(1..4),
        temp_dir: None,
    }
}
