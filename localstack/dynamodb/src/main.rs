//! DynamoDB on one machine, in memory: what the tests and LocalStack talk to in its place.
//!
//! `dynamodb serve --host 127.0.0.1 --port 8000` is how LocalStack starts it. Port 0 is a free one;
//! which, the first line of stdout says. With `--until-stdin-closes` it ends with whoever started
//! it, however that one ended. SIGTERM ends it too, as it ends any process: nothing is to be saved.

use std::io::Read;

use anyhow::{Context, bail};
use dynoxide::Database;
use tokio::net::TcpListener;

const USAGE: &str =
    "usage: dynamodb serve [--host HOST] [--port PORT] [--log quiet] [--until-stdin-closes]";

#[derive(Debug, PartialEq, Eq)]
struct Config {
    host: String,
    port: u16,
    until_stdin_closes: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::from_args(std::env::args().skip(1))?;
    let listener = TcpListener::bind((config.host.as_str(), config.port))
        .await
        .with_context(|| format!("cannot listen on {}:{}", config.host, config.port))?;
    println!("listening on {}", listener.local_addr()?);
    if config.until_stdin_closes {
        std::thread::spawn(end_with_stdin);
    }
    dynoxide::server::serve_on(listener, Database::memory()?).await;
    Ok(())
}

impl Config {
    fn from_args(args: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut args = args.into_iter();
        if args.next().as_deref() != Some("serve") {
            bail!(USAGE);
        }
        let mut config = Self { host: "127.0.0.1".into(), port: 0, until_stdin_closes: false };
        while let Some(flag) = args.next() {
            let mut value = || args.next().with_context(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--host" => config.host = value()?,
                "--port" => config.port = value()?.parse().context("--port is not a port")?,
                // It logs nothing anyway.
                "--log" => drop(value()?),
                "--until-stdin-closes" => config.until_stdin_closes = true,
                _ => bail!("unknown argument '{flag}'\n{USAGE}"),
            }
        }
        Ok(config)
    }
}

fn end_with_stdin() {
    let mut read = [0; 1024];
    while std::io::stdin().read(&mut read).is_ok_and(|count| count > 0) {}
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use super::Config;

    fn config(args: &str) -> anyhow::Result<Config> {
        Config::from_args(args.split(' ').map(str::to_owned))
    }

    #[test]
    fn it_is_started_as_localstack_does() {
        let started = config("serve --host 127.0.0.1 --port 4510 --log quiet").unwrap();
        let host = "127.0.0.1".to_owned();
        assert_eq!(started, Config { host, port: 4510, until_stdin_closes: false });
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for args in ["", "run", "serve --port", "serve --port x", "serve --db-path x"] {
            assert!(config(args).is_err(), "{args}");
        }
    }
}
