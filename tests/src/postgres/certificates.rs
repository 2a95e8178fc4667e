//! Certificates of a cluster, made for one test.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Installation, PostgresOptions, run};

/// The host names of the certificate.
const EXTENSIONS: &str = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";

impl Installation {
    /// Makes an authority and a certificate for `localhost`, and returns options with TLS.
    pub(super) fn enable_tls(
        &self,
        options: PostgresOptions,
        folder: &Path,
    ) -> Result<PostgresOptions> {
        fs::write(folder.join("extensions"), EXTENSIONS)?;
        for arguments in [
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha256 \
             -extfile extensions -out server.pem",
        ] {
            let mut openssl = Command::new("openssl");
            openssl.current_dir(folder).args(arguments.split_whitespace());
            run(&mut openssl).context("the test needs the program openssl")?;
        }

        // PostgreSQL refuses a key that others may read.
        for name in ["server.key", "server.pem"] {
            let file = folder.join("data").join(name);
            fs::copy(folder.join(name), &file)?;
            fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            if let Some((uid, gid)) = self.user {
                chown(&file, Some(uid), Some(gid))?;
            }
        }
        Ok(options
            .set("ssl", "on")
            .set("ssl_cert_file", "server.pem")
            .set("ssl_key_file", "server.key"))
    }
}
