//! The source database: its address, and the passwords of its sessions.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

/// The result of making a password.
pub type PasswordResult = Result<String, Box<dyn Error + Send + Sync>>;

/// Makes a password for a session that begins now.
type MakePassword = dyn Fn(Login) -> BoxFuture<'static, PasswordResult> + Send + Sync;

/// The source database.
#[derive(Clone)]
pub struct Database {
    url: String,
    passwords: Option<Passwords>,
}

/// The login that a password is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The host of the server, as the connection string names it.
    pub host: String,
    /// The port of the server.
    pub port: u16,
    /// The role.
    pub user: String,
}

/// Passwords that are made for each session, because they expire: the tokens of a cloud provider.
#[derive(Clone)]
pub struct Passwords {
    make: Arc<MakePassword>,
    advice: &'static str,
}

impl Database {
    /// Names a database by its connection string: `postgresql://...` or `key=value ...`, read as libpq
    /// reads it.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), passwords: None }
    }

    /// Takes the password of each session from `passwords`, and none from the connection string.
    #[must_use]
    pub fn with_passwords(self, passwords: Passwords) -> Self {
        Self { passwords: Some(passwords), ..self }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn passwords(&self) -> Option<&Passwords> {
        self.passwords.as_ref()
    }
}

impl Passwords {
    /// Makes passwords with a function. `advice` says what to check when the server refuses one of them.
    #[must_use]
    pub fn new(
        advice: &'static str,
        make: impl Fn(Login) -> BoxFuture<'static, PasswordResult> + Send + Sync + 'static,
    ) -> Self {
        Self { make: Arc::new(make), advice }
    }

    pub(crate) fn advice(&self) -> &'static str {
        self.advice
    }

    pub(crate) async fn make(&self, login: Login) -> PasswordResult {
        (self.make)(login).await
    }
}

/// A connection string may contain a password, so it is not printed.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("passwords", &self.passwords).finish_non_exhaustive()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}
