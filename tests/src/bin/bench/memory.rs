//! The peak memory of `tidewater ingest`: of the initial copy, and of one large transaction.

use anyhow::Result;

use crate::deployment::{self, Deployment, TIMEOUT};
use crate::options::BenchOptions;
use crate::source::{BucketLayout, OWNER, SourceDatabase, insert};
use crate::stream_reader::StreamReader;
use crate::table::{ResultLine, megabytes};
use crate::usage;

const MARKER: &str = "transaction-has-arrived";

pub(crate) async fn measure(options: &BenchOptions) -> Result<()> {
    for layout in BucketLayout::ALL {
        let source = SourceDatabase::with_rows(options.rows).await?;
        let mut deployment = Deployment::new(layout, false)?;
        let mut ingest = deployment.ingest(&source)?;
        let (mut serve, url) = deployment.serve().await?;
        serve.ready(&url, TIMEOUT).await?;
        let copied = ingest.peak_rss_bytes()?;

        let mut reader = StreamReader::open(&url, &deployment.token(OWNER)?).await?;
        reader.completed().await?;
        source.postgres.execute(&insert(100_000)).await?;
        source.set_marker(MARKER).await?;
        reader.completed_with(MARKER).await?;
        let streamed = ingest.peak_rss_bytes()?;
        let cpu = usage::cpu_seconds(ingest.id())?;
        deployment::shut_down(&mut ingest).await?;

        ResultLine {
            measurement: format!("peak RSS of ingest, {}", layout.name()),
            result: format!(
                "{} after a copy of {} rows, {} after a transaction of 100000 more",
                megabytes(copied),
                options.rows,
                megabytes(streamed)
            ),
            target: "<= 64 MB",
            cpu: format!("{cpu:.2}"),
            ..ResultLine::default()
        }
        .print()?;
    }
    Ok(())
}
