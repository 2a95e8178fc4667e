//! `/sync/stream` of all rows as data lines, from the API alone.

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::options::Options;
use crate::reader::{Reader, occurrences};
use crate::site::Site;
use crate::source::{Layout, OWNER, Source};
use crate::table::{Line, megabytes, rate};
use crate::{floors, usage};

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let source = Source::with_rows(options.rows).await?;
    let mut site = Site::new(Layout::Global, true)?;
    let (serve, url) = site.filled(&source).await?;
    download(&site, serve.id(), &url, options.rows, "raw history").await?;
    site.compact().await?;
    // One that has not looked at the bucket yet.
    drop(serve);
    let (serve, url) = site.serve().await?;
    download(&site, serve.id(), &url, options.rows, "from a base").await
}

async fn download(site: &Site, pid: u32, url: &str, rows: u64, from: &str) -> Result<()> {
    let token = site.token(OWNER)?;
    let before = usage::cpu_seconds(pid)?;
    let start = Instant::now();
    let bytes = Reader::open(url, &token).await?.first_checkpoint().await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = usage::cpu_seconds(pid)? - before;
    let puts = u64::try_from(occurrences(&bytes, r#""op":"PUT""#))?;
    // The marker is the one row more.
    ensure!(puts == rows + 1, "{puts} rows arrived, not {}", rows + 1);
    let size = megabytes(u64::try_from(bytes.len())?);
    let floor = floors::copy_over_loopback(bytes).await?.as_secs_f64();
    Line {
        what: format!("/sync/stream of {rows} rows, {from}"),
        figure: format!("{} rows/CPU s; {seconds:.2} s, {size}", rate(rows, cpu)),
        floor: format!("{floor:.2} s"),
        ratio: format!("{:.1}", seconds / floor),
        bar: ">= 200000 rows/CPU s",
        cpu: format!("{cpu:.2}"),
    }
    .print()
}
