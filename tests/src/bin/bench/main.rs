//! The benchmark behind `./bench`, which prints the figures of `BENCHMARKS.md` with release binaries.
//!
//! Most measurements are printed beside their floor: the time that the machine needs for the same
//! data without Tidewater, measured in the same run. A slow result is printed and is not a failure.
//!
//! Each measurement is a module with a function `measure`. `deployment` runs Tidewater's processes,
//! `source` the source database, and `table` prints the results.

mod backlog;
mod bootstrap;
mod copy;
mod deployment;
mod evaluate;
mod fanout;
mod floors;
mod held_clients;
mod latency;
mod lines;
mod memory;
mod options;
mod scale;
mod source;
mod stream_reader;
mod table;
mod usage;

use anyhow::Result;

use options::BenchOptions;

#[tokio::main]
async fn main() -> Result<()> {
    let options = BenchOptions::parse(std::env::args().skip(1))?;
    table::print_head()?;

    if options.selects("evaluate") {
        evaluate::measure(&options)?;
    }
    if options.selects("copy") {
        copy::measure(&options).await?;
    }
    if options.selects("backlog") {
        backlog::measure(&options).await?;
    }
    if options.selects("latency") {
        latency::measure(&options).await?;
    }
    if options.selects("lines") {
        lines::measure(&options).await?;
    }
    if options.selects("bootstrap") {
        bootstrap::measure(&options).await?;
    }
    if options.selects("memory") {
        memory::measure(&options).await?;
    }
    if options.selects("scale") {
        scale::measure(&options).await?;
    }
    if options.selects("fanout") {
        fanout::measure(&options).await?;
    }
    Ok(())
}
