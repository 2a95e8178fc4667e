//! The initial copy: the time from the start of `tidewater dev` on an empty directory to readiness.

use anyhow::Result;
use tokio::time::Instant;

use crate::deployment::{self, Deployment, TIMEOUT};
use crate::options::BenchOptions;
use crate::source::{BucketLayout, SourceDatabase};
use crate::table::{ResultLine, rate};
use crate::{floors, usage};

pub(crate) async fn measure(options: &BenchOptions) -> Result<()> {
    let rows = options.rows;
    let source = SourceDatabase::with_rows(rows).await?;
    for layout in BucketLayout::ALL {
        let floor = floors::drain_copy(&source).await?.as_secs_f64();

        let mut deployment = Deployment::new(layout, true)?;
        let start = Instant::now();
        let (mut process, url) = deployment.dev(&source).await?;
        process.ready(&url, TIMEOUT).await?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu = usage::cpu_seconds(process.id())?;
        deployment::shut_down(&mut process).await?;

        ResultLine {
            measurement: format!("initial copy of {rows} rows, {}", layout.name()),
            result: format!("{} rows/CPU s; {seconds:.2} s", rate(rows, cpu)),
            floor: format!("{floor:.2} s"),
            ratio: format!("{:.1}", seconds / floor),
            target: ">= 80000 rows/CPU s",
            cpu: format!("{cpu:.2}"),
        }
        .print()?;
    }
    Ok(())
}
