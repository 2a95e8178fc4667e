//! The floors of the measurements: the same data through the machine's own programs, without
//! Tidewater.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::source::SourceDatabase;

/// The replication slot from which `pg_recvlogical` reads the backlog.
const SLOT: &str = "floor";

/// Measures `COPY todos TO STDOUT` over a TCP connection.
pub(crate) async fn drain_copy(source: &SourceDatabase) -> Result<Duration> {
    let client = source.postgres.connect().await?;
    let start = Instant::now();
    let rows = client.copy_out("COPY todos TO STDOUT").await?;
    let bytes = rows.try_fold(0, |sum, chunk| async move { Ok(sum + chunk.len()) }).await?;
    ensure!(bytes > 0, "the table is empty");
    Ok(start.elapsed())
}

/// Creates the slot. Later commits are its backlog.
pub(crate) async fn create_slot(source: &SourceDatabase) -> Result<()> {
    let sql = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')::text");
    source.postgres.value(&sql).await.map(drop)
}

/// Measures `pg_recvlogical` of the slot's backlog up to the LSN `end`, to `/dev/null`.
pub(crate) async fn receive_backlog(source: &SourceDatabase, end: &str) -> Result<Duration> {
    let mut command = Command::new("pg_recvlogical");
    command.args(["-d", &source.url(), "--slot", SLOT, "--start", "--no-loop"]);
    command.args(["-o", "proto_version=1", "-o", "publication_names=powersync"]);
    command.args(["-f", "/dev/null", "--endpos", end]).stdin(Stdio::null());

    let start = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pg_recvlogical failed: {errors}");
    Ok(start.elapsed())
}

/// Measures the transfer of bytes over loopback.
pub(crate) async fn copy_over_loopback(bytes: Bytes) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let length = bytes.len();
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    });

    let mut stream = TcpStream::connect(address).await?;
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => received += count,
        }
    }

    sending.await??;
    ensure!(received == length, "{received} of {length} bytes arrived");
    Ok(start.elapsed())
}
