//! The sync API as a plain server: who may ask, where it listens, how it ends.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::serve::ListenerExt;
use clap::Args;
use tidewater_functions::{Authenticator, Settings};
use tidewater_storage::Storage;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::dev_key::{self, DEV_AUDIENCE};
use crate::failure::Failure;

/// How long connections that do not end by themselves are waited for.
const DRAIN: Duration = Duration::from_secs(10);

/// Whose tokens are taken.
#[derive(Args, Debug)]
pub(crate) struct AuthArgs {
    /// JWK Set with the keys that tokens are signed with: a file, or the https URL at which your
    /// identity provider publishes it; may be repeated
    #[arg(long, env = "TIDEWATER_JWKS", value_name = "FILE|URL", value_delimiter = ',',
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) jwks: Vec<String>,
    /// A value that a token's `aud` must contain; may be repeated, any of them will do
    #[arg(long, env = "TIDEWATER_AUDIENCE", value_name = "AUD", value_delimiter = ',',
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) audience: Vec<String>,
    /// What a token's `iss` must be; without it `iss` is not looked at
    #[arg(long, env = "TIDEWATER_ISSUER", value_name = "ISS",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) issuer: Option<String>,
}

impl AuthArgs {
    /// Refuses keys without an audience, and an issuer without its keys.
    pub(crate) fn check_usage(&self) -> Result<(), Failure> {
        if !self.jwks.is_empty() && self.audience.is_empty() {
            return Err(Failure::Wrong(anyhow!(
                "--jwks needs --audience: name the value that your tokens carry in `aud`, so that \
                 tokens made for other services are refused"
            )));
        }
        if self.jwks.is_empty() && self.issuer.is_some() {
            return Err(Failure::Wrong(anyhow!(
                "--issuer needs --jwks: name the keys with which this issuer signs (the \
                 development key signs for no issuer)"
            )));
        }
        Ok(())
    }

    /// Checks tokens with the keys of the files and URLs. Those of URLs are fetched, but a server
    /// that does not answer is no obstacle: it may answer when the first request comes.
    pub(crate) async fn authenticator(&self) -> Result<Authenticator, Failure> {
        self.check_usage()?;
        if self.jwks.is_empty() {
            return Err(Failure::Wrong(anyhow!(
                "--jwks is missing: name a JWK Set, a file or a URL, with the keys that tokens are signed with \
                 (`tidewater dev` makes a development key, `tidewater serve` does not)"
            )));
        }
        let (urls, files): (Vec<_>, Vec<_>) = self.jwks.iter().partition(|one| is_url(one));
        let mut sets = Vec::new();
        for file in files {
            let set = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the JWK Set '{file}' of --jwks"));
            sets.push(set.map_err(Failure::Wrong)?);
        }
        let auth = Authenticator::with_urls(&sets, &urls, self.audience.clone())
            .context("the keys of --jwks cannot be used")
            .map_err(Failure::Wrong)?;
        let auth = match &self.issuer {
            Some(issuer) => auth.with_issuer(issuer),
            None => auth,
        };
        auth.prefetch().await;
        Ok(auth)
    }

    /// Checks tokens with the keys of the files or, where none is given, with the development key
    /// of the data directory, which is made if need be.
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
            "{}; a token for it: {}",
            if is_new { "made a development key" } else { "using the development key" },
            token_command(data_dir, &audiences[0]),
        );
        Authenticator::new(&[set], audiences)
            .with_context(|| format!("the development key '{}' cannot be used", file.display()))
            .map_err(Failure::Wrong)
    }
}

/// Anything with a scheme: one that cannot be used is then named as the URL it is.
fn is_url(jwks: &str) -> bool {
    jwks.contains("://")
}

/// What to type to get a token.
fn token_command(data_dir: &Path, audience: &str) -> String {
    let mut command = "tidewater token --user-id USER".to_owned();
    if data_dir != Path::new(crate::data_dir::DEFAULT) {
        command.push_str(&format!(" --data-dir '{}'", data_dir.display()));
    }
    if audience != DEV_AUDIENCE {
        command.push_str(&format!(" --audience '{audience}'"));
    }
    command
}

/// Where it listens.
#[derive(Args, Debug)]
pub(crate) struct ListenArgs {
    /// Address of the sync API; port 0 takes a free one
    #[arg(
        long,
        env = "TIDEWATER_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: String,
}

/// A server that listens, and answers once it is served.
pub(crate) struct Api {
    listener: TcpListener,
    address: SocketAddr,
}

impl Api {
    /// Starts to listen; port 0 is a free port.
    pub(crate) async fn bind(listen: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on '{listen}': choose another address with --listen")
        })?;
        let address = listener.local_addr().context("the listener has no address")?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Prints the one line that programs wait for.
    pub(crate) fn announce(&self) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "listening on http://{}", self.address)
            .context("cannot write to stdout")
    }

    /// Serves until `shutdown`, then until the connections have ended or their time is up.
    pub(crate) async fn serve<S: Storage>(
        self,
        storage: S,
        auth: Authenticator,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let settings = Settings { shutdown: shutdown.clone(), ..Settings::new(auth) };
        let router = tidewater_functions::router(storage, settings);
        // Small lines must not wait for an acknowledgement of the one before.
        let listener = self.listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        });
        let serving = axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.clone().cancelled_owned())
            .into_future();
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            result = serving => result.context("the sync API has stopped"),
            () = too_late => {
                tracing::warn!("connections that did not end in time are cut");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_command_names_what_is_not_the_default() {
        let check = |dir: &str, audience| token_command(Path::new(dir), audience);
        assert_eq!(check(".tidewater", DEV_AUDIENCE), "tidewater token --user-id USER");
        assert_eq!(
            check("/a b", "mine"),
            "tidewater token --user-id USER --data-dir '/a b' --audience 'mine'"
        );
    }
}
