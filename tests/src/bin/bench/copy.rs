//! The first copy: start of `tidewater dev` on an empty directory to readiness.

use anyhow::Result;
use tokio::time::Instant;

use crate::options::Options;
use crate::site::{self, Site};
use crate::source::{Layout, Source};
use crate::table::{Line, rate};
use crate::{floors, usage};

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let rows = options.rows;
    let source = Source::with_rows(rows).await?;
    for layout in Layout::ALL {
        let floor = floors::drain_copy(&source).await?.as_secs_f64();
        let mut site = Site::new(layout, true)?;
        let start = Instant::now();
        let (mut process, url) = site.dev(&source).await?;
        site::ready(&mut process, &url).await?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu = usage::cpu_seconds(process.id())?;
        site::end(&mut process).await?;
        Line {
            what: format!("first copy of {rows} rows, {}", layout.name()),
            figure: format!("{} rows/CPU s; {seconds:.2} s", rate(rows, cpu)),
            floor: format!("{floor:.2} s"),
            ratio: format!("{:.1}", seconds / floor),
            bar: ">= 80000 rows/CPU s",
            cpu: format!("{cpu:.2}"),
        }
        .print()?;
    }
    Ok(())
}
