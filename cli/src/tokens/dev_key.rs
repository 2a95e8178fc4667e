//! Symmetric keys in JWK Set files: the development key, and the keys of `tidewater token --key`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

/// Audience of development tokens without `--audience`.
pub(crate) const DEV_AUDIENCE: &str = "tidewater-dev";
/// Name of the development key's file in the data directory.
const FILE_NAME: &str = "dev-jwks.json";
/// Length of the development key in bytes, that of an HS256 hash.
const SECRET_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<String>,
}

/// A symmetric key that signs tokens.
pub(crate) struct SigningKey {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    pub(crate) secret: Vec<u8>,
}

/// Returns the path of a data directory's development key.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Creates the development key of a data directory if it has none. Returns whether it created one.
pub(crate) fn ensure(data_dir: &Path) -> anyhow::Result<bool> {
    let path = path(data_dir);
    if path.exists() {
        return Ok(false);
    }

    let mut secret = [0; SECRET_BYTES];
    let mut name = [0; 6];
    getrandom::fill(&mut secret).map_err(|error| anyhow!("cannot get random numbers: {error}"))?;
    getrandom::fill(&mut name).map_err(|error| anyhow!("cannot get random numbers: {error}"))?;
    let key = Jwk {
        kty: "oct".to_owned(),
        alg: Some("HS256".to_owned()),
        kid: Some(format!("dev-{}", URL_SAFE_NO_PAD.encode(name))),
        k: Some(URL_SAFE_NO_PAD.encode(secret)),
    };
    write_private(&path, &serde_json::to_vec_pretty(&JwkSet { keys: vec![key] })?)
        .with_context(|| format!("cannot write the development key '{}'", path.display()))?;
    Ok(true)
}

/// Writes a file atomically, readable only by its owner.
pub(super) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file =
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

impl SigningKey {
    /// Reads the first symmetric key of a file with a JWK Set or a single JWK.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read '{shown}'"))?;
        let keys = serde_json::from_str::<JwkSet>(&text)
            .map(|set| set.keys)
            .or_else(|_| serde_json::from_str::<Jwk>(&text).map(|key| vec![key]))
            .map_err(|_| anyhow!("'{shown}' is neither a JWK Set nor a JWK"))?;
        let key = keys.into_iter().find(|key| key.kty == "oct").ok_or_else(|| {
            anyhow!(
                "'{shown}' holds no symmetric key (\"kty\":\"oct\"): for other keys, the holder of \
                 the private key signs tokens"
            )
        })?;
        key.signing().with_context(|| format!("cannot sign with the key in '{shown}'"))
    }
}

impl Jwk {
    fn signing(self) -> anyhow::Result<SigningKey> {
        let algorithm = match self.alg.as_deref() {
            None | Some("HS256") => Algorithm::HS256,
            Some("HS384") => Algorithm::HS384,
            Some("HS512") => Algorithm::HS512,
            Some(other) => bail!("'{other}' is not an algorithm for symmetric keys"),
        };
        let k = self.k.context("the key lacks \"k\"")?;
        let secret = URL_SAFE_NO_PAD
            .decode(k.trim_end_matches('='))
            .map_err(|_| anyhow!("the key's \"k\" is not base64url"))?;
        Ok(SigningKey { algorithm, kid: self.kid, secret })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_development_key_is_created_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ensure(dir.path()).unwrap());
        let file = path(dir.path());
        let first = SigningKey::read(&file).unwrap();
        assert!(!ensure(dir.path()).unwrap());
        assert_eq!(SigningKey::read(&file).unwrap().secret, first.secret);
        assert_eq!(first.secret.len(), SECRET_BYTES);
        assert!(first.kid.unwrap().starts_with("dev-"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    fn check(content: &str) -> Result<(Algorithm, Option<String>, Vec<u8>), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        SigningKey::read(file.path())
            .map(|key| (key.algorithm, key.kid, key.secret))
            .map_err(|error| error.root_cause().to_string())
    }

    #[test]
    fn only_symmetric_keys_sign() {
        let single = check(r#"{"kty":"oct","k":"AQI","alg":"HS512"}"#);
        assert_eq!(single.unwrap(), (Algorithm::HS512, None, vec![1, 2]));

        let set =
            r#"{"keys":[{"kty":"RSA","n":"x","e":"AQAB"},{"kty":"oct","kid":"a","k":"AQI="}]}"#;
        assert_eq!(check(set).unwrap(), (Algorithm::HS256, Some("a".to_owned()), vec![1, 2]));

        for (content, wrong) in [
            (r#"{"keys":[{"kty":"RSA"}]}"#, "holds no symmetric key"),
            (r#"{"kty":"oct"}"#, "lacks \"k\""),
            (r#"{"kty":"oct","k":"+/"}"#, "not base64url"),
            (r#"{"kty":"oct","k":"AQI","alg":"RS256"}"#, "not an algorithm for symmetric keys"),
            ("[]", "neither a JWK Set nor a JWK"),
        ] {
            let error = check(content).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
