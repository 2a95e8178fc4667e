//! The download of all rows as data lines of `/sync/stream`, from `tidewater serve`.

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::deployment::Deployment;
use crate::options::BenchOptions;
use crate::source::{BucketLayout, OWNER, SourceDatabase};
use crate::stream_reader::{StreamReader, occurrences};
use crate::table::{ResultLine, megabytes, rate};
use crate::{floors, usage};

pub(crate) async fn measure(options: &BenchOptions) -> Result<()> {
    let source = SourceDatabase::with_rows(options.rows).await?;
    let mut deployment = Deployment::new(BucketLayout::Global, true)?;
    let (serve, url) = deployment.copy_and_serve(&source).await?;
    download(&deployment, serve.id(), &url, options.rows, "raw history").await?;

    // The former process may have cached that the bucket has no base.
    deployment.compact().await?;
    drop(serve);
    let (serve, url) = deployment.serve().await?;
    download(&deployment, serve.id(), &url, options.rows, "from a base").await
}

async fn download(
    deployment: &Deployment,
    pid: u32,
    url: &str,
    rows: u64,
    from: &str,
) -> Result<()> {
    let token = deployment.token(OWNER)?;
    let before = usage::cpu_seconds(pid)?;
    let start = Instant::now();
    let bytes = StreamReader::open(url, &token).await?.first_checkpoint().await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = usage::cpu_seconds(pid)? - before;

    // The marker is one more row.
    let puts = u64::try_from(occurrences(&bytes, r#""op":"PUT""#))?;
    ensure!(puts == rows + 1, "{puts} rows arrived, not {}", rows + 1);

    let size = megabytes(u64::try_from(bytes.len())?);
    let floor = floors::copy_over_loopback(bytes).await?.as_secs_f64();
    ResultLine {
        measurement: format!("/sync/stream of {rows} rows, {from}"),
        result: format!("{} rows/CPU s; {seconds:.2} s, {size}", rate(rows, cpu)),
        floor: format!("{floor:.2} s"),
        ratio: format!("{:.1}", seconds / floor),
        target: ">= 200000 rows/CPU s",
        cpu: format!("{cpu:.2}"),
    }
    .print()
}
