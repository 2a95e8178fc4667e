//! The source database: its flags, and how sessions log in.

use clap::{Args, ValueEnum};
use tidewater_ingest_worker::Database;

/// The flags that name the source database.
#[derive(Args, Clone, Debug)]
pub(crate) struct DatabaseArgs {
    /// Connection string of the source database: postgres://user:password@host/database, as in
    /// libpq, but with sslmode=verify-full by default, and disable for a host on this machine
    #[arg(long, env = "TIDEWATER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: String,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// The flag that says where passwords come from.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LoginArgs {
    /// Source of the database password: the connection string, or a token of Amazon RDS and Aurora
    /// that is made for each session with the credentials of the AWS environment
    #[arg(long, env = "TIDEWATER_DATABASE_AUTH", value_enum, default_value_t)]
    pub(crate) database_auth: DatabaseAuth,
}

/// The place that passwords come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatabaseAuth {
    /// The connection string has it, or the server needs none.
    #[default]
    Password,
    /// It is an IAM authentication token.
    #[cfg(feature = "aws")]
    RdsIam,
}

impl DatabaseArgs {
    /// Returns the database with its passwords.
    pub(crate) async fn database(&self) -> Database {
        self.login.database(&self.database_url).await
    }
}

impl LoginArgs {
    /// Returns the database of a connection string with its passwords.
    pub(crate) async fn database(self, url: &str) -> Database {
        let database = Database::new(url);
        match self.database_auth {
            DatabaseAuth::Password => database,
            #[cfg(feature = "aws")]
            DatabaseAuth::RdsIam => database.with_passwords(super::rds_token::passwords().await),
        }
    }
}
