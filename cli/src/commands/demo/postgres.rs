//! A temporary PostgreSQL server: programs of this machine, run in a directory of its own.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Directories in which distributions install the server's programs, in addition to `PATH`.
const INSTALL_DIRS: [&str; 3] = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
/// Time that the server has to start, in seconds. A slow disk takes a few; the rest is for a busy
/// machine.
const START_SECONDS_MAX: u64 = 60;
/// Interval between two attempts to connect while the server starts.
const START_POLL: Duration = Duration::from_millis(50);
/// Program that starts another one with a parent-death signal. util-linux has it.
const SETPRIV: &str = "/usr/bin/setpriv";
/// Name of the demo's database.
const DATABASE: &str = "demo";

/// A running server. Dropping it stops the server and removes its files.
pub(crate) struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    owner: Option<Owner>,
    server: Child,
    port: u16,
    password: String,
}

/// The user that runs the server if we are root, since PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Creates a database cluster and starts it on a free port of the loopback interface.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let bin = find_programs()?;
        let dir = tempfile::Builder::new().prefix("tidewater-demo-").tempdir()?;
        let owner = owner_of_server(dir.path())?;
        if let Some(owner) = owner {
            std::os::unix::fs::chown(dir.path(), Some(owner.uid), Some(owner.gid))?;
        }
        let password = random_password()?;
        make_cluster(&bin, dir.path(), owner, &password)?;

        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let server = start_server(&bin, dir.path(), owner, port)?;
        let mut postgres = Self { bin, dir, owner, server, port, password };
        let client = postgres.wait_until_ready().await?;
        client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        Ok(postgres)
    }

    /// Returns the connection string for `--database-url`.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{DATABASE}?sslmode=disable",
            self.password, self.port
        )
    }

    /// Opens a session on the demo's database.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        self.session(DATABASE).await.context("cannot connect to the demo's PostgreSQL")
    }

    async fn session(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .password(&self.password)
            .dbname(database)
            .connect(NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Returns the command of a PostgreSQL client program that connects to this server.
    pub(crate) fn client_program(&self, name: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.bin.join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", &self.password)
            .env("PGDATABASE", DATABASE)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<Client> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            let error = match self.session("postgres").await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let ended = self.server.try_wait()?;
            if ended.is_some() || tokio::time::Instant::now() > deadline {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                return Err(anyhow!(error).context(format!("PostgreSQL did not start:\n{log}")));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = Command::new(self.bin.join("pg_ctl"));
        stop.args(["stop", "-m", "immediate", "-D"]).arg(self.dir.path().join("data"));
        run_as(&mut stop, self.owner);
        // The data is removed with the directory. A server that has already stopped is no failure.
        let _ = stop.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Returns the directory with `initdb`, `postgres`, `pg_ctl` and `pgbench`, the newest version first.
fn find_programs() -> anyhow::Result<PathBuf> {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = Vec::new();
    for place in INSTALL_DIRS {
        let versions = std::fs::read_dir(place).into_iter().flatten().flatten();
        candidates.extend(versions.map(|version| version.path().join("bin")));
    }
    candidates.sort_by_key(|path| std::cmp::Reverse(version_of(path)));
    candidates.extend(std::env::split_paths(&in_path));

    candidates.into_iter().find(|dir| has_programs(dir)).ok_or_else(|| {
        anyhow!(
            "PostgreSQL's server programs (initdb, postgres, pg_ctl, pgbench) are not installed: \
             run `apt-get install postgresql` on Debian and Ubuntu, `brew install postgresql` on \
             macOS; or add their directory to PATH"
        )
    })
}

fn has_programs(dir: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl", "pgbench"].iter().all(|name| dir.join(name).is_file())
}

/// Returns the greatest number in a path such as `/usr/lib/postgresql/15/bin`.
fn version_of(path: &Path) -> u32 {
    let text = path.to_string_lossy();
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .max()
        .unwrap_or(0)
}

fn owner_of_server(dir: &Path) -> anyhow::Result<Option<Owner>> {
    let we_are_root = std::fs::metadata(dir)?.uid() == 0;
    if !we_are_root {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    find_user(&users, "postgres").map(Some).context(
        "PostgreSQL does not run as root, and there is no user 'postgres': run the demo as another \
         user",
    )
}

fn find_user(passwd: &str, name: &str) -> Option<Owner> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let mut numbers = fields.skip(1).map(str::parse);
        Some(Owner { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? })
    })
}

fn run_as(command: &mut Command, owner: Option<Owner>) {
    if let Some(Owner { uid, gid }) = owner {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
}

fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("cannot get random numbers: {error}"))?;
    Ok(hex::encode(bytes))
}

fn make_cluster(
    bin: &Path,
    dir: &Path,
    owner: Option<Owner>,
    password: &str,
) -> anyhow::Result<()> {
    let password_file = dir.join("password");
    std::fs::write(&password_file, password)?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(&password_file, Some(owner.uid), Some(owner.gid))?;
    }

    let mut initdb = Command::new(bin.join("initdb"));
    initdb
        .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
        .arg("--no-instructions")
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(dir.join("data"));
    run_as(&mut initdb, owner);

    let output = initdb.stdin(Stdio::null()).output().context("cannot run initdb")?;
    if !output.status.success() {
        bail!("initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Returns a command whose process gets a signal when ours is killed, if the system supports it.
///
/// Linux sends the signal when the parent *thread* ends. So spawn the command on a thread that lives
/// as long as the process.
pub(crate) fn command_ending_with_us(program: &Path, signal: &str) -> Command {
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", signal]).arg(program);
    command
}

fn start_server(bin: &Path, dir: &Path, owner: Option<Owner>, port: u16) -> anyhow::Result<Child> {
    let log = std::fs::File::create(dir.join("log"))?;
    let mut command = command_ending_with_us(&bin.join("postgres"), "INT");
    let socket_dir = format!("unix_socket_directories={}", dir.display());
    command.arg("-D").arg(dir.join("data")).args(["-p", &port.to_string()]);
    for setting in
        ["listen_addresses=127.0.0.1", &socket_dir, "wal_level=logical", "max_wal_size=4GB"]
    {
        command.args(["-c", setting]);
    }
    run_as(&mut command, owner);
    // A process group of its own keeps Ctrl-C from the server: we stop it ourselves.
    command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot run postgres")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(
            version_of(Path::new("/usr/lib/postgresql/15/bin"))
                > version_of(Path::new("/usr/lib/postgresql/9/bin"))
        );
        assert_eq!(version_of(Path::new("/usr/bin")), 0);
    }

    #[test]
    fn users_are_matched_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104::/:\n";
        assert_eq!(find_user(passwd, "postgres"), Some(Owner { uid: 101, gid: 104 }));
        assert_eq!(find_user(passwd, "nobody"), None);
    }

    #[tokio::test]
    async fn dropping_the_server_stops_it_and_removes_its_files() {
        let postgres = Postgres::start().await.unwrap();
        let client = postgres.connect().await.unwrap();
        let level: String = client.query_one("SHOW wal_level", &[]).await.unwrap().get(0);
        assert_eq!(level, "logical");
        let dir = postgres.dir.path().to_owned();
        let port = postgres.port;
        drop(postgres);
        assert!(!dir.exists());
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    }
}
