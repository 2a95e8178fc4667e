//! The real snapshot builder, with small bases and a clock that counts turns.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidewater_snapshot_builder::{Options, run_pass};
use tidewater_storage::{Embedded, Faulty};

use crate::Shared;

/// Runs passes of the builder until it is killed.
///
/// Injected faults make passes fail. The next pass must succeed in spite of them.
pub(crate) async fn run(store: Faulty<Embedded>, world: Shared, options: Options) -> Result<()> {
    loop {
        let now = world.lock().unwrap().turns;
        if let Ok(report) = run_pass(&store, &options, now, None).await {
            world.lock().unwrap().bases += report.published;
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
