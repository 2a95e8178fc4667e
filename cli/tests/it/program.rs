//! One run of the program in a directory of its own.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A sync config with one stream and one family of buckets.
pub(crate) const VALID_CONFIG: &str = "\
config:
  edition: 3
streams:
  todos:
    query: SELECT * FROM todos WHERE owner_id = auth.user_id()
";

/// A directory in which the program runs, without any environment but the given one.
pub(crate) struct Program {
    dir: TempDir,
}

impl Program {
    /// Creates an empty directory.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Creates a directory with a file.
    pub(crate) fn with_file(name: &str, content: &str) -> Self {
        let program = Self::new();
        program.write(name, content);
        program
    }

    /// Returns the directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the directory.
    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.dir().join(name), content).unwrap();
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[])
    }

    /// Runs the program to its end with an environment. Metrics are off, so that runs in parallel do not
    /// compete for the default ports.
    pub(crate) fn run_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tidewater"))
            .current_dir(self.dir())
            .env_clear()
            .env("TIDEWATER_METRICS_LISTEN", "off")
            .envs(environment.iter().copied())
            .args(args)
            .output()
            .unwrap()
    }
}

/// Runs a command on a sync config in the file `c.yaml`.
pub(crate) fn run_on_config(command: &str, config: &str, args: &[&str]) -> Output {
    Program::with_file("c.yaml", config).run(&[&[command, "c.yaml"], args].concat())
}

/// Checks that a command on a sync config that does not exist exits with code 2 and prints nothing.
pub(crate) fn check_missing_config(command: &str, args: &[&str]) {
    let output = Program::new().run(&[&[command, "none.yaml"], args].concat());
    let stderr = stderr(&output, 2);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(stderr.contains("cannot read the sync config 'none.yaml'"), "{stderr}");
}

/// Returns the standard output of a run with this exit code, which wrote nothing to standard error.
pub(crate) fn stdout(output: &Output, code: i32) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns the standard error of a run with this exit code.
pub(crate) fn stderr(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}
