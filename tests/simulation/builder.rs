//! The real snapshot builder, with small bases and a clock that counts turns.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;
use tidewater_snapshot_builder::{Options, run_pass};
use tidewater_storage::{Embedded, Faulty};

use crate::Shared;

/// Builds until it is killed. A pass that fails, as storage makes it, is followed by the next.
pub(crate) async fn run(store: Faulty<Embedded>, world: Shared, options: Options) -> Result<()> {
    loop {
        let now = world.lock().unwrap().turns;
        if let Ok(report) = run_pass(&store, &options, now, None).await {
            world.lock().unwrap().bases += report.published;
        }
    }
}

/// Bases of a few rows, in lines of one to three; what they replace is deleted within the run.
pub(crate) fn options(seed: u64, is_harsh: bool) -> Options {
    let mut rng = StdRng::seed_from_u64(seed);
    let grace = if is_harsh { rng.random_range(0..50) } else { rng.random_range(600..1_200) };
    Options {
        threshold: rng.random_range(1..6),
        horizon: Duration::from_secs(rng.random_range(0..1_500)),
        grace: Duration::from_secs(grace),
        line_rows: rng.random_range(1..4),
        temp_dir: None,
    }
}
