//! The admin token that `tidewater dev` makes for its console.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::dev_key::write_private;

/// Name of the token's file in the data directory.
const FILE_NAME: &str = "admin-token";
/// Bytes of a token: nobody can try all.
const TOKEN_BYTES: usize = 16;

/// Returns the path of a data directory's admin token.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Returns the admin token of a data directory. It is created if it does not exist.
pub(crate) fn ensure(data_dir: &Path) -> anyhow::Result<String> {
    let path = path(data_dir);
    if path.exists() {
        let token = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the admin token '{}'", path.display()))?;
        return Ok(token.trim().to_owned());
    }

    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("cannot get random numbers: {error}"))?;
    let token = hex::encode(bytes);
    write_private(&path, format!("{token}\n").as_bytes())
        .with_context(|| format!("cannot write the admin token '{}'", path.display()))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let token = ensure(dir.path()).unwrap();
        assert_eq!(token.len(), 32);
        assert_eq!(ensure(dir.path()).unwrap(), token);
        let mode = fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
