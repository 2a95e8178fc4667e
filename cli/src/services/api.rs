//! The sync API as an HTTP server: its flags, its start and its shutdown.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use tidewater_functions::{Authenticator, Settings};
use tidewater_storage::Storage;
use tokio::net::TcpListener;

use super::limits::LimitArgs;
use super::server::{self, ConnectionLimits};
use crate::terminal::duration;
use crate::terminal::failure::Failure;
use crate::tokens::dev_key::{self, DEV_AUDIENCE};

/// The flags that decide which tokens are accepted.
#[derive(Args, Debug)]
pub(crate) struct AuthArgs {
    /// JWK Set with the keys that sign tokens: a file, or the https URL at which your identity
    /// provider publishes it. Repeatable
    #[arg(long, env = "TIDEWATER_JWKS", value_name = "FILE|URL", value_delimiter = ',',
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) jwks: Vec<String>,
    /// Value that a token's `aud` must contain. Repeatable; one of the values is enough
    #[arg(long, env = "TIDEWATER_AUDIENCE", value_name = "AUD", value_delimiter = ',',
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) audience: Vec<String>,
    /// Value that a token's `iss` must have. Without it, `iss` is not checked
    #[arg(long, env = "TIDEWATER_ISSUER", value_name = "ISS",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) issuer: Option<String>,
}

impl AuthArgs {
    /// Fails for keys without an audience, and for an issuer without keys.
    pub(crate) fn check_usage(&self) -> Result<(), Failure> {
        if !self.jwks.is_empty() && self.audience.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "--jwks needs --audience: name the value of `aud` in your tokens, so that tokens for \
                 other services are refused"
            )));
        }
        if self.jwks.is_empty() && self.issuer.is_some() {
            return Err(Failure::Usage(anyhow!(
                "--issuer needs --jwks: name the keys of this issuer (the development key has no \
                 issuer)"
            )));
        }
        Ok(())
    }

    /// Returns an authenticator with the keys of `--jwks`.
    ///
    /// Keys of URLs are fetched now. A server that does not answer does not stop the start, since the
    /// keys are fetched again for the first request.
    pub(crate) async fn authenticator(&self) -> Result<Authenticator, Failure> {
        self.check_usage()?;
        if self.jwks.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "--jwks is missing: name a file or a URL of a JWK Set with the keys that sign tokens \
                 (only `tidewater dev` creates a development key)"
            )));
        }

        let (urls, files): (Vec<_>, Vec<_>) = self.jwks.iter().partition(|one| is_url(one));
        let mut sets = Vec::new();
        for file in files {
            let set = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the JWK Set '{file}' of --jwks"));
            sets.push(set.map_err(Failure::Usage)?);
        }

        let auth = Authenticator::with_urls(&sets, &urls, self.audience.clone())
            .context("the keys of --jwks cannot be used")
            .map_err(Failure::Usage)?;
        let auth = match &self.issuer {
            Some(issuer) => auth.with_issuer(issuer),
            None => auth,
        };
        auth.prefetch().await;
        Ok(auth)
    }

    /// Returns an authenticator with the keys of `--jwks` or, without it, with the development key of
    /// the data directory. The key is created if it does not exist.
    pub(crate) async fn authenticator_or_dev(
        &self,
        data_dir: &Path,
    ) -> Result<Authenticator, Failure> {
        if !self.jwks.is_empty() {
            return self.authenticator().await;
        }

        let is_new = dev_key::ensure(data_dir)?;
        let file = dev_key::path(data_dir);
        let set = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read the development key '{}'", file.display()))?;
        let audiences = match self.audience.as_slice() {
            [] => vec![DEV_AUDIENCE.to_owned()],
            given => given.to_vec(),
        };
        tracing::info!(
            file = %file.display(),
            "{}; get a token with: {}",
            if is_new { "created a development key" } else { "using the development key" },
            token_command(data_dir, &audiences[0]),
        );
        Authenticator::new(&[set], audiences)
            .with_context(|| format!("the development key '{}' cannot be used", file.display()))
            .map_err(Failure::Usage)
    }
}

impl AuthArgs {
    /// Returns the command that prints a token, if the development key signs them.
    pub(crate) fn token_command(&self, data_dir: &Path) -> Option<String> {
        let audience = self.audience.first().map_or(DEV_AUDIENCE, String::as_str);
        self.jwks.is_empty().then(|| token_command(data_dir, audience))
    }
}

/// Returns whether a value of `--jwks` is a URL. One with an unsupported scheme is refused as a URL
/// and not as a missing file.
fn is_url(jwks: &str) -> bool {
    jwks.contains("://")
}

/// Returns the command that prints a token for the development key.
fn token_command(data_dir: &Path, audience: &str) -> String {
    let mut command = "tidewater token --user-id USER".to_owned();
    if data_dir != Path::new(crate::process::data_dir::DEFAULT) {
        command.push_str(&format!(" --data-dir '{}'", data_dir.display()));
    }
    if audience != DEV_AUDIENCE {
        command.push_str(&format!(" --audience '{audience}'"));
    }
    command
}

/// The flag for the address of the sync API.
#[derive(Args, Debug)]
pub(crate) struct ListenArgs {
    /// Address of the sync API. Port 0 selects a free port
    #[arg(
        long,
        env = "TIDEWATER_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: String,
}

/// The flag for the readiness probe.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ReadinessArgs {
    /// Time since the checkpoint was last known to be current, beyond which GET /probes/readiness
    /// answers 503
    #[arg(long, env = "TIDEWATER_MAX_STALENESS", value_name = "DURATION", default_value = "60s",
          value_parser = duration::parse_positive)]
    pub(crate) max_staleness: Duration,
}

/// A server that listens. It answers requests once [`Api::serve`] runs.
pub(crate) struct Api {
    listener: TcpListener,
    address: SocketAddr,
    connections: ConnectionLimits,
}

impl Api {
    /// Starts to listen. Port 0 selects a free port.
    pub(crate) async fn bind(listen: &str, limits: &LimitArgs) -> anyhow::Result<Self> {
        let listener = server::listen(listen).await?;
        let address = listener.local_addr().context("the listener has no address")?;
        let connections = ConnectionLimits::within_file_limit(limits.max_connections);
        Ok(Self { listener, address, connections })
    }

    /// Returns the address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Prints the line on stdout that scripts wait for.
    pub(crate) fn announce(&self) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "listening on http://{}", self.address)
            .context("cannot write to stdout")
    }

    /// Serves until `shutdown`, then waits until the connections have ended or the timeout expires.
    pub(crate) async fn serve<S: Storage>(self, storage: S, settings: Settings) {
        let shutdown = settings.shutdown.clone();
        let router = tidewater_functions::router(storage, settings);
        server::serve(self.listener, router, &self.connections, &shutdown).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_command_has_the_flags_that_differ_from_the_defaults() {
        assert_eq!(
            token_command(Path::new(".tidewater"), DEV_AUDIENCE),
            "tidewater token --user-id USER"
        );
        assert_eq!(
            token_command(Path::new("/a b"), "mine"),
            "tidewater token --user-id USER --data-dir '/a b' --audience 'mine'"
        );
    }
}
