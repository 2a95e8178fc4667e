//! The figures of `BENCHMARKS.md`: what `./bench` runs, on release binaries.
//!
//! Each line stands beside its floor, measured in the same run: what the machine does with the same
//! data and nothing of ours in between. Nothing here fails because something was slow.

mod backlog;
mod bootstrap;
mod copy;
mod evaluate;
mod floors;
mod latency;
mod lines;
mod memory;
mod options;
mod reader;
mod site;
mod source;
mod table;
mod usage;

use anyhow::Result;

use options::Options;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    table::head()?;
    if options.wants("evaluate") {
        evaluate::measure(&options)?;
    }
    if options.wants("copy") {
        copy::measure(&options).await?;
    }
    if options.wants("backlog") {
        backlog::measure(&options).await?;
    }
    if options.wants("latency") {
        latency::measure(&options).await?;
    }
    if options.wants("lines") {
        lines::measure(&options).await?;
    }
    if options.wants("bootstrap") {
        bootstrap::measure(&options).await?;
    }
    if options.wants("memory") {
        memory::measure(&options).await?;
    }
    Ok(())
}
