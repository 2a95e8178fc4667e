//! A wall clock that a test sets while a process runs.
//!
//! The clock of the machine stays as it is: a library that is loaded into the process adds an offset to
//! what the C library says. It works where `LD_PRELOAD` does, and needs a C compiler.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::Scratch;

/// The library. It adds the number in a file, which it maps into memory, to the seconds of the clock.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile int64_t *offset;
static int (*original)(clockid_t, struct timespec *);

__attribute__((constructor)) static void prepare(void) {
    original = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("WALL_CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) offset = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = original(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && offset) time->tv_sec += *offset;
    return result;
}
"#;

/// The wall clock of the processes that [`WallClock::configure`] has prepared.
pub struct WallClock {
    folder: Scratch,
}

impl WallClock {
    /// Compiles the library. The clock is right at first.
    ///
    /// # Errors
    /// Fails without a C compiler.
    pub fn new() -> Result<Self> {
        let clock = Self { folder: Scratch::new()? };
        let source = clock.folder.path().join("clock.c");
        fs::write(&source, LIBRARY)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.library()).arg(source);
        let output = compiler.arg("-ldl").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        clock.set(0)?;
        Ok(clock)
    }

    /// Makes a command use this clock.
    pub fn configure(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.library()).env("WALL_CLOCK_OFFSET", self.offset());
    }

    /// Sets the clock to so many seconds ahead of the real time, or behind it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Processes have mapped the file, so it must never be empty.
        let file = File::options().write(true).create(true).truncate(false).open(self.offset())?;
        Ok(file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("clock.so")
    }

    fn offset(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(command: &mut Command) -> i64 {
        let output = command.arg("+%s").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_process_has_the_time_that_is_set() {
        let clock = WallClock::new().unwrap();
        clock.set(-7_200).unwrap();
        let mut command = Command::new("date");
        clock.configure(&mut command);
        let ahead = seconds(&mut Command::new("date")) - seconds(&mut command);
        assert!((7_100..=7_200).contains(&ahead), "{ahead}");
    }
}
