//! The admin API: its flags and its routes, in the paths and shapes of PowerSync's service.

mod context;
mod deployment;
mod diagnostics;
mod picture;
mod request;
mod source_tables;
mod sync_rules;
mod why;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use axum::Router;
use axum::routing::{get, post};
use clap::Args;
use tidewater_functions::Admin;
use tidewater_storage::Storage;

use super::console;
use crate::terminal::failure::Failure;
use crate::tokens::admin_token;

pub(crate) use context::{AdminContext, AdminWorker};

/// The flags of the admin API.
#[derive(Args, Debug)]
pub(crate) struct AdminArgs {
    /// Token of the admin API, which is off without one. Other users of this machine may see flags, so
    /// prefer the environment or a file
    #[arg(long, env = "TIDEWATER_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// File with tokens of the admin API, one a line
    #[arg(long, env = "TIDEWATER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// Returns whether the admin API is on.
    pub(crate) fn is_on(&self) -> bool {
        self.admin_token.is_some() || self.admin_token_file.is_some()
    }

    /// Returns the admin API if a token is given.
    pub(crate) fn admin<S: Storage>(
        &self,
        context: impl FnOnce() -> AdminContext<S>,
    ) -> Result<Option<Admin>, Failure> {
        let tokens = self.tokens()?;
        if tokens.is_empty() { Ok(None) } else { open(&tokens, context()).map(Some) }
    }

    /// Returns the admin API of a development server. Without a token of the user's, it has one of its own
    /// in the data directory.
    pub(crate) fn admin_of_dev<S: Storage>(
        &self,
        data_dir: &Path,
        context: AdminContext<S>,
    ) -> Result<Admin, Failure> {
        let mut tokens = self.tokens()?;
        if tokens.is_empty() {
            tokens.push(admin_token::ensure(data_dir)?);
        }
        open(&tokens, context)
    }

    fn tokens(&self) -> Result<Vec<String>, Failure> {
        let mut tokens: Vec<String> = self.admin_token.iter().cloned().collect();
        if let Some(file) = &self.admin_token_file {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read --admin-token-file '{}'", file.display()))
                .map_err(Failure::Usage)?;
            tokens.extend(
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned),
            );
            if tokens.is_empty() {
                let error = anyhow!("--admin-token-file '{}' has no token", file.display());
                return Err(Failure::Usage(error));
            }
        }

        Ok(tokens)
    }
}

/// Returns the admin API and the console that these tokens open.
fn open<S: Storage>(tokens: &[String], context: AdminContext<S>) -> Result<Admin, Failure> {
    let admin = Admin::new(tokens, routes(context));
    let admin = admin.context("the admin API cannot be used").map_err(Failure::Usage)?;
    Ok(admin.with_pages(console::pages()))
}

fn routes<S: Storage>(context: AdminContext<S>) -> Router {
    Router::new()
        .route("/api/admin/v1/diagnostics", post(diagnostics::answer::<S>))
        .route("/api/admin/v1/why", post(why::answer::<S>))
        .route("/api/admin/v1/schema", post(source_tables::schema::<S>))
        .route("/api/admin/v1/validate", post(source_tables::validate::<S>))
        .route("/api/admin/v1/picture", post(picture::picture::<S>))
        .route("/api/admin/v1/reprocess", post(deployment::reprocess::<S>))
        .route("/api/sync-rules/v1/current", get(sync_rules::current::<S>))
        .route("/api/sync-rules/v1/validate", post(sync_rules::validate))
        .route("/api/sync-rules/v1/deploy", post(deployment::deploy::<S>))
        .route("/api/sync-rules/v1/reprocess", post(deployment::reprocess_rules::<S>))
        .with_state(Arc::new(context))
}
