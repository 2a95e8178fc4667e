//! Copies and replacements of the data directory of a stopped cluster.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use anyhow::Result;

use super::{Postgres, run};

impl Postgres {
    /// Returns whether [`Postgres::save`] has made a copy.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        self.scratch.path().join("saved").exists()
    }

    /// Makes a cold copy of the data directory, in place of an earlier one. The server must be
    /// stopped.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self) -> Result<()> {
        let folder = self.scratch.path();
        if self.is_saved() {
            fs::remove_dir_all(folder.join("saved"))?;
        }
        run(Command::new("cp").arg("-a").arg(folder.join("data")).arg(folder.join("saved")))
    }

    /// Puts back the copy that [`Postgres::save`] made. The server must be stopped.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn put_back(&self) -> Result<()> {
        let folder = self.scratch.path();
        fs::remove_dir_all(folder.join("data"))?;
        run(Command::new("cp").arg("-a").arg(folder.join("saved")).arg(folder.join("data")))
    }

    /// Starts the copy that [`Postgres::save`] made as a standby, and promotes it: it was behind the
    /// stopped server, and has another timeline. Base backups have no slots; with `has_slots` it has those
    /// of the copy, as if they were synchronised (PostgreSQL 17 and later).
    ///
    /// # Errors
    /// Those of the file system, and when the server does not start.
    pub async fn fail_over(&mut self, has_slots: bool) -> Result<()> {
        self.put_back()?;
        let data = self.scratch.path().join("data");
        if !has_slots {
            for slot in fs::read_dir(data.join("pg_replslot"))? {
                fs::remove_dir_all(slot?.path())?;
            }
        }
        let signal = data.join("standby.signal");
        fs::write(&signal, "")?;
        if let Some((uid, gid)) = self.installation.user {
            chown(&signal, Some(uid), Some(gid))?;
        }
        self.restart(&[]).await?;
        self.value("SELECT pg_promote()").await?;
        Ok(())
    }

    /// Returns whether [`Postgres::upgrade`] is possible. The pinned servers of `./test` come without
    /// `pg_upgrade`.
    #[must_use]
    pub fn can_upgrade(&self) -> bool {
        self.installation.bin.join("pg_upgrade").exists()
    }

    /// Replaces the stopped cluster by what `pg_upgrade` makes of it: another cluster with the same
    /// databases, and without the slots of PostgreSQL 16 and older.
    ///
    /// # Errors
    /// When one of PostgreSQL's programs fails.
    pub fn upgrade(&self) -> Result<()> {
        let folder = self.scratch.path();
        let (data, former, work) =
            (folder.join("data"), folder.join("former"), folder.join("work"));
        fs::rename(&data, &former)?;
        fs::write(former.join("pg_hba.conf"), "local all all trust\n")?;
        for folder in [&data, &work] {
            fs::create_dir(folder)?;
            if let Some((uid, gid)) = self.installation.user {
                chown(folder, Some(uid), Some(gid))?;
            }
        }

        let mut initdb = self.installation.command("initdb");
        initdb.current_dir(&work).arg("-D").arg(&data).arg("--no-sync");
        run(initdb.args(["-U", "postgres", "--locale=C", "--encoding=UTF8", "--auth=trust"]))?;
        let mut upgrade = self.installation.command("pg_upgrade");
        upgrade.current_dir(&work).arg("-U").arg("postgres");
        upgrade.arg("-b").arg(&self.installation.bin).arg("-B").arg(&self.installation.bin);
        upgrade.arg("-d").arg(&former).arg("-D").arg(&data).arg("-s").arg(&work);
        run(&mut upgrade)?;
        fs::write(data.join("pg_hba.conf"), "host all all 127.0.0.1/32 trust\n")?;
        Ok(())
    }
}
