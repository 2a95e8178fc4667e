//! The most memory that one `tidewater ingest` ever has, over the copy and over one transaction.

use anyhow::Result;

use crate::options::Options;
use crate::reader::Reader;
use crate::site::{self, Site};
use crate::source::{Layout, OWNER, Source, insert};
use crate::table::{Line, megabytes};
use crate::usage;

const MARK: &str = "transaction-has-arrived";

pub(crate) async fn measure(options: &Options) -> Result<()> {
    for layout in Layout::ALL {
        let source = Source::with_rows(options.rows).await?;
        let mut site = Site::new(layout, false)?;
        let mut ingest = site.ingest(&source)?;
        let (mut serve, url) = site.serve().await?;
        site::ready(&mut serve, &url).await?;
        let copied = usage::peak_rss_bytes(ingest.id())?;
        let mut reader = Reader::open(&url, &site.token(OWNER)?).await?;
        reader.completed().await?;
        source.postgres.execute(&insert(100_000)).await?;
        source.mark(MARK).await?;
        reader.completed_with(MARK).await?;
        let streamed = usage::peak_rss_bytes(ingest.id())?;
        let cpu = usage::cpu_seconds(ingest.id())?;
        site::end(&mut ingest).await?;
        let (copied, streamed) = (megabytes(copied), megabytes(streamed));
        Line {
            what: format!("peak RSS of ingest, {}", layout.name()),
            figure: format!(
                "{copied} after a copy of {} rows, {streamed} after a transaction of 100000 more",
                options.rows
            ),
            bar: "<= 64 MB",
            cpu: format!("{cpu:.2}"),
            ..Line::default()
        }
        .print()?;
    }
    Ok(())
}
