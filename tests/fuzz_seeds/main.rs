//! Runs the seeds of the fuzz targets as plain tests, so that each stays what its name says.

#[expect(unreachable_pub, reason = "public in the package of the fuzz targets")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Maximum number of damaged positions of a seed, at equal distances: it bounds the time of large seeds.
const DAMAGES_MAX: usize = 400;

/// Calls `each` with the name and content of every seed of a target.
fn for_each_seed(target: &str, mut each: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<usize> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        each(&name, &std::fs::read(&path)?)?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn valid_seeds_are_accepted_and_invalid_ones_refused() -> Result<()> {
    for (target, run) in targets::TARGETS {
        let mut valid = 0;
        for_each_seed(target, |name, seed| {
            let is_valid = name.starts_with("valid");
            ensure!(
                is_valid || name.starts_with("invalid"),
                "{target}/{name} is neither named `valid...` nor `invalid...`"
            );
            ensure!(run(seed) == is_valid, "{target}/{name} has the wrong result for its name");
            valid += usize::from(is_valid);
            Ok(())
        })?;
        ensure!(valid > 0, "{target} has no valid seed");
    }
    Ok(())
}

#[test]
fn damaged_seeds_do_not_panic() -> Result<()> {
    for (target, run) in targets::TARGETS {
        for_each_seed(target, |_, seed| {
            let step = (seed.len() / DAMAGES_MAX).max(1);
            for at in (0..seed.len()).step_by(step) {
                run(&seed[..at]);

                let mut damaged = seed.to_vec();
                damaged[at] ^= 0xFF;
                run(&damaged);
            }
            Ok(())
        })?;
    }
    Ok(())
}
