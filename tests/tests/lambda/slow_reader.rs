//! A network on which answers arrive slowly.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::emulator::SOCKET_BYTES;

/// A proxy that passes answers on at a limited rate. It ends when it is dropped.
pub(super) struct SlowReader {
    url: String,
    task: JoinHandle<()>,
}

impl SlowReader {
    pub(super) async fn start(url: &str, bytes_per_second: u32) -> Result<Self> {
        let target = url.strip_prefix("http://").context("no address")?.parse()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connected = async {
                    let socket = TcpSocket::new_v4()?;
                    socket.set_recv_buffer_size(SOCKET_BYTES)?;
                    socket.connect(target).await
                };
                let Ok(server) = connected.await else { return };
                tokio::spawn(forward(client, server, bytes_per_second));
            }
        });
        Ok(Self { url, task })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for SlowReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(client: TcpStream, server: TcpStream, bytes_per_second: u32) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut buffer = vec![0; 8 << 10];
        let mut due = None;
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            to_client.write_all(&buffer[..length]).await?;
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            let due = due.get_or_insert_with(Instant::now);
            *due += Duration::from_secs(1) * length / bytes_per_second;
            tokio::time::sleep_until(*due).await;
        }
    };
    tokio::select! {
        _ = up => {}
        _ = down => {}
    }
}
