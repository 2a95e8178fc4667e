//! What the machine does with the same data and nothing of ours in between.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::source::Source;

/// The slot of the floor of a backlog.
const SLOT: &str = "floor";

/// `COPY todos TO STDOUT` over a TCP connection, drained.
pub(crate) async fn drain_copy(source: &Source) -> Result<Duration> {
    let client = source.postgres.connect().await?;
    let start = Instant::now();
    let rows = client.copy_out("COPY todos TO STDOUT").await?;
    let bytes = rows.try_fold(0, |sum, chunk| async move { Ok(sum + chunk.len()) }).await?;
    ensure!(bytes > 0, "the table is empty");
    Ok(start.elapsed())
}

/// Makes the slot of the floor; what is committed from now on is its backlog.
pub(crate) async fn make_slot(source: &Source) -> Result<()> {
    let sql = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')::text");
    source.postgres.value(&sql).await.map(drop)
}

/// `pg_recvlogical` of the slot's backlog up to a position, to /dev/null.
pub(crate) async fn receive_backlog(source: &Source, end: &str) -> Result<Duration> {
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

/// Bytes sent and read over loopback.
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
