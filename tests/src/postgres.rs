//! A PostgreSQL cluster for one test, on a free port and in a temporary folder.

mod certificates;
mod data_directory;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::{Client, NoTls};

use crate::history::rows_of;
use crate::process::{Lodging, Process, Scratch, Signal};
use crate::settings::Settings;
use crate::wait::eventually;

/// Timeout of a start or stop: long enough for crash recovery on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The superuser's password. Only [`Auth::Scram`] asks for it.
const PASSWORD: &str = "correct-horse";

/// Attempts to start on another port when a port is already in use.
const PORT_ATTEMPTS_MAX: usize = 5;

/// The authentication method of `pg_hba.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `trust`: no password is needed.
    Trust,
    /// `scram-sha-256`: a password is needed.
    Scram,
}

/// Options of [`Postgres::with`].
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The authentication method; `trust` by default.
    pub auth: Auth,
    /// Settings that override those of the fixture. The last one of a name is effective.
    pub settings: Vec<(String, String)>,
    /// True if the server offers TLS, with a certificate for `localhost`.
    pub tls: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { auth: Auth::Trust, settings: Vec::new(), tls: false }
    }
}

impl PostgresOptions {
    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running cluster, which is stopped and removed when this is dropped.
pub struct Postgres {
    // Fields are dropped in this order, so the server stops before its files are removed.
    process: Process,
    options: PostgresOptions,
    installation: Installation,
    port: u16,
    scratch: Scratch,
}

impl Postgres {
    /// Starts a cluster with `wal_level=logical`.
    ///
    /// # Errors
    /// Fails when PostgreSQL is not installed or does not start.
    pub async fn start() -> Result<Self> {
        Self::with(PostgresOptions::default()).await
    }

    /// Starts a cluster with options.
    ///
    /// # Errors
    /// Fails when PostgreSQL is not installed or does not start.
    pub async fn with(options: PostgresOptions) -> Result<Self> {
        let installation = Installation::find()?;
        let template = installation.template()?;
        let scratch = Scratch::new()?;
        run(Command::new("cp").arg("-a").arg(&template).arg(scratch.path().join("data")))?;

        let method = if options.auth == Auth::Trust { "trust" } else { "scram-sha-256" };
        let rules = format!(
            "host all all 127.0.0.1/32 {method}\nhost replication all 127.0.0.1/32 {method}\n"
        );
        fs::write(scratch.path().join("data/pg_hba.conf"), rules)?;
        let options = match options.tls {
            true => installation.enable_tls(options, scratch.path())?,
            false => options,
        };

        // Another process may bind the port after `free_port` has found it free.
        let mut attempts = 0;
        loop {
            let port = free_port()?;
            match Self::launch(&installation, &options, port, &scratch).await {
                Ok(process) => {
                    return Ok(Self { process, options, installation, port, scratch });
                }
                Err(error)
                    if attempts < PORT_ATTEMPTS_MAX && error.to_string().contains("in use") =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn launch(
        installation: &Installation,
        options: &PostgresOptions,
        port: u16,
        scratch: &Scratch,
    ) -> Result<Process> {
        let data = scratch.path().join("data");
        let mut command = installation.command("postgres");
        command.arg("-D").arg(&data).current_dir(scratch.path());

        let fixed = [
            ("port", port.to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", String::new()),
            ("wal_level", "logical".to_owned()),
            ("max_wal_senders", "20".to_owned()),
            ("max_replication_slots", "20".to_owned()),
            ("fsync", "off".to_owned()),
            ("synchronous_commit", "on".to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_line_prefix", "%m [%p] ".to_owned()),
        ];

        let fixed = fixed.iter().map(|(name, value)| (*name, value.as_str()));
        let others = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed.chain(others) {
            command.arg("-c").arg(format!("{name}={value}"));
        }

        let lodging = Lodging { name: "postgres", logs: scratch.path(), end: Signal::Quit };
        let mut process = Process::spawn(&mut command, lodging)?;
        eventually("PostgreSQL to accept connections", START_TIMEOUT, async || {
            if process.try_wait()?.is_some() {
                return Ok(Some(()));
            }
            let url = url(port, "postgres", "postgres");
            Ok(tokio_postgres::connect(&url, NoTls).await.is_ok().then_some(()))
        })
        .await?;
        process.must_run()?;
        Ok(process)
    }

    /// Returns the connection string of the superuser for a database, without TLS.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        url(self.port, "postgres", database)
    }

    /// Returns the connection string of another user for a database, without TLS.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let port = self.port;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the file with the certificate of the authority that has issued the server's.
    #[must_use]
    pub fn root_certificate(&self) -> PathBuf {
        self.scratch.path().join("ca.pem")
    }

    /// Connects the superuser to the database `postgres`.
    ///
    /// # Errors
    /// Fails when PostgreSQL refuses the connection.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url("postgres")).await
    }

    /// Runs statements on a new connection.
    ///
    /// # Errors
    /// Fails when a statement fails.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.connect().await?.batch_execute(sql).await.with_context(|| sql.to_owned())
    }

    /// Returns the first column of a query's first row, as text.
    ///
    /// # Errors
    /// Fails when the query fails, when it returns no row, and when the value is NULL.
    pub async fn value(&self, sql: &str) -> Result<String> {
        let messages = self.connect().await?.simple_query(sql).await?;
        let first = rows_of(&messages).into_iter().next().and_then(|row| row.into_iter().next());
        first.flatten().with_context(|| format!("the query returns no value: {sql}"))
    }

    /// Returns the major version, such as 15.
    ///
    /// # Errors
    /// Fails when the query fails.
    pub async fn major_version(&self) -> Result<u32> {
        Ok(self
            .value("SELECT current_setting('server_version_num')::int / 10000")
            .await?
            .parse()?)
    }

    /// Shuts down without a checkpoint, as in a power failure, and restarts on the same port.
    ///
    /// PostgreSQL recovers, and each slot goes back to the position that it last wrote to disk.
    ///
    /// # Errors
    /// Fails when PostgreSQL does not restart.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        self.process.signal(Signal::Quit)?;
        self.process.wait(START_TIMEOUT).await?;
        self.relaunch().await
    }

    /// Shuts down. [`Postgres::restart`] starts the cluster again.
    ///
    /// # Errors
    /// Fails when the server does not exit.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::Int)?;
        self.process.wait(START_TIMEOUT).await?;
        Ok(())
    }

    /// Starts the cluster again after [`Postgres::stop`], with additional settings.
    ///
    /// # Errors
    /// Fails when the server does not start.
    pub async fn restart(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        for (name, value) in settings {
            self.options.settings.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.relaunch().await
    }

    async fn relaunch(&mut self) -> Result<()> {
        self.process =
            Self::launch(&self.installation, &self.options, self.port, &self.scratch).await?;
        Ok(())
    }
}

/// Connects, and polls the connection in a background task.
///
/// # Errors
/// Fails when PostgreSQL refuses the connection.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("cannot connect to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

fn url(port: u16, user: &str, database: &str) -> String {
    format!("postgres://{user}:{PASSWORD}@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// Returns a free port below the kernel's range for outgoing connections.
///
/// No outgoing connection can take the port while PostgreSQL restarts after a crash.
fn free_port() -> Result<u16> {
    (0..100)
        .map(|_| rand::random_range(20_000_u16..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port between 20000 and 32000")
}

/// The PostgreSQL server programs of this machine.
struct Installation {
    bin: PathBuf,
    /// User and group id of the server if this process is root: PostgreSQL refuses to run as root.
    user: Option<(u32, u32)>,
}

impl Installation {
    fn find() -> Result<Self> {
        let bin = Settings::from_env()?.postgres_bin.map_or_else(find_bin, Ok)?;
        ensure!(
            bin.join("initdb").exists() && bin.join("postgres").exists(),
            "{} has no initdb and postgres: TIDEWATER_TEST_PG_BIN must name a PostgreSQL bin folder",
            bin.display()
        );
        let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
            || id(&["-u"]).is_ok_and(|id| id == 0);
        let user = if root { Some(server_user()?) } else { None };
        Ok(Self { bin, user })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command.env_remove("PGDATA").env("LC_ALL", "C");
        command
    }

    /// Returns a new cluster that tests copy, and creates it if necessary.
    ///
    /// `initdb` takes a second or more; a copy takes a tenth of that.
    fn template(&self) -> Result<PathBuf> {
        let version =
            String::from_utf8(self.command("postgres").arg("--version").output()?.stdout)?;
        let version: String =
            version.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();

        let cache = target_folder()?.join("tidewater-tests");
        fs::create_dir_all(&cache)?;
        let owner = self.user.map_or(0, |(uid, _)| uid);
        let version = version.trim_matches('-');
        let template = cache.join(format!("cluster-{version}-{owner}-{PASSWORD}"));

        // Test processes run in parallel: the first one creates the template.
        let lock = File::create(cache.join("lock"))?;
        lock.lock()?;
        if template.exists() {
            return Ok(template);
        }

        let scratch = Scratch::new()?;
        let data = scratch.path().join("data");
        let password = scratch.path().join("password");
        fs::create_dir(&data)?;
        fs::write(&password, PASSWORD)?;
        if let Some((uid, gid)) = self.user {
            chown(&data, Some(uid), Some(gid))?;
            chown(&password, Some(uid), Some(gid))?;
        }

        let mut initdb = self.command("initdb");
        initdb.current_dir(scratch.path()).arg("-D").arg(&data).arg("--pwfile").arg(&password);
        initdb.args(["-U", "postgres", "--locale=C", "--encoding=UTF8", "--no-sync"]);
        run(initdb.arg("--auth=scram-sha-256"))?;

        let new = cache.join(format!("new-{}", std::process::id()));
        run(Command::new("cp").arg("-a").arg(&data).arg(&new))?;
        fs::rename(new, &template)?;
        Ok(template)
    }
}

/// Returns the folder with the newest server programs.
fn find_bin() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    versions.sort();
    if let Some((_, newest)) = versions.pop() {
        return Ok(newest);
    }

    let found = Command::new("sh").args(["-c", "command -v initdb"]).output()?;
    let path = String::from_utf8(found.stdout)?;
    match fs::canonicalize(path.trim()).ok().as_deref().and_then(Path::parent) {
        Some(bin) => Ok(bin.to_owned()),
        None => bail!(
            "these tests need PostgreSQL's server programs: install them (Debian: `apt-get install \
             postgresql`), or name their folder in TIDEWATER_TEST_PG_BIN"
        ),
    }
}

/// Returns the user and group id of the server if this process is root.
fn server_user() -> Result<(u32, u32)> {
    for name in ["postgres", "nobody"] {
        if let (Ok(uid), Ok(gid)) = (id(&["-u", name]), id(&["-g", name])) {
            return Ok((uid, gid));
        }
    }
    bail!(
        "PostgreSQL refuses to run as root, and this machine has no user `postgres` or `nobody`: \
         create one, or run the tests as another user"
    )
}

fn id(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(())
}

/// Returns cargo's target folder, which contains the folder of each profile.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let folder = profile_folder()?;
    let folder = folder.parent().context("the test's executable is not in a target folder")?;
    Ok(folder.to_owned())
}

/// Returns the folder with the binaries of this profile. A test's executable is in `deps` below it.
pub(crate) fn profile_folder() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().and_then(Path::parent);
    Ok(folder.context("the test's executable is not in a target folder")?.to_owned())
}
