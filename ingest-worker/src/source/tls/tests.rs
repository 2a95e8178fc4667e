use std::time::Duration;

use rustls::pki_types::pem::PemObject;

use super::*;

// Certificates made for these tests; their private keys are gone. The server's is for `db.example`
// and issued by `ca.pem`. All are valid from November 2026, for a hundred years.
const CA: &[u8] = include_bytes!("testdata/ca.pem");
const OTHER_CA: &[u8] = include_bytes!("testdata/other-ca.pem");
const SERVER: &[u8] = include_bytes!("testdata/server.pem");

/// A time within the validity of the certificates: 2030.
const NOW: Duration = Duration::from_secs(1_900_000_000);
/// A time before it: 2001.
const TOO_EARLY: Duration = Duration::from_secs(1_000_000_000);

fn dsn(mode: &str, root_cert: Option<&Path>) -> Dsn {
    let root_cert =
        root_cert.map(|path| format!(" sslrootcert={}", path.display())).unwrap_or_default();
    Dsn::parse(&format!("host=h user=u sslmode={mode}{root_cert}")).unwrap()
}

/// Verifies the server's certificate with the roots of a file, for a host name, at a time.
fn verify(roots: &[u8], accepts_any_issuer: bool, name: &str, now: Duration) -> Result<(), Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), roots).unwrap();
    let roots = Arc::new(root_certificates(Some(file.path())).unwrap());
    let issuer_verifier =
        WebPkiServerVerifier::builder_with_provider(roots, crypto_provider()).build().unwrap();
    let verifier = RelaxedVerifier { issuer_verifier, accepts_any_issuer };

    let certificate = CertificateDer::from_pem_slice(SERVER).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(now);
    verifier.verify_server_cert(&certificate, &[], &name, &[], now).map(|_| ())
}

#[test]
fn verify_ca_accepts_the_issuer_under_any_host_name() {
    assert_eq!(verify(CA, false, "db.example", NOW), Ok(()));
    assert_eq!(verify(CA, false, "10.0.0.7", NOW), Ok(()));
    assert_eq!(verify(CA, false, "another.example", NOW), Ok(()));
}

#[test]
fn verify_ca_rejects_another_issuer_even_under_the_right_host_name() {
    let error = verify(OTHER_CA, false, "db.example", NOW).unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer)));
    assert!(verify(OTHER_CA, false, "another.example", NOW).is_err());
}

#[test]
fn verify_ca_rejects_a_certificate_that_is_not_valid_at_the_time() {
    assert!(verify(CA, false, "db.example", TOO_EARLY).is_err());
    assert!(verify(CA, false, "another.example", TOO_EARLY).is_err());
}

#[test]
fn require_accepts_any_certificate() {
    assert_eq!(verify(OTHER_CA, true, "another.example", TOO_EARLY), Ok(()));
}

#[test]
fn only_disable_connects_without_tls() {
    assert!(connector(&dsn("disable", None)).unwrap().is_none());
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(connector(&dsn(mode, None)).unwrap().is_some(), "{mode}");
    }
}

#[test]
fn a_root_certificate_file_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate here").unwrap();
    let damaged = dir.path().join("damaged.pem");
    let text = String::from_utf8(CA.to_vec()).unwrap();
    std::fs::write(&damaged, text.replace("MII", "%%%")).unwrap();

    for path in [empty, damaged, dir.path().join("absent.pem")] {
        for mode in ["require", "verify-ca", "verify-full"] {
            let Err(error) = connector(&dsn(mode, Some(&path))) else {
                panic!("{} was used", path.display())
            };
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()), "{text}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}

#[test]
fn a_root_certificate_file_may_contain_several() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [OTHER_CA, CA].concat()).unwrap();
    assert_eq!(root_certificates(Some(file.path())).unwrap().len(), 2);
}

#[test]
fn without_a_file_the_public_authorities_are_trusted() {
    assert!(root_certificates(None).unwrap().len() > 50);
}

#[test]
fn both_drivers_verify_the_same() {
    use pgwire_replication::SslMode as Driver;

    let modes = [
        ("disable", Driver::Disable),
        ("require", Driver::Require),
        ("verify-ca", Driver::VerifyCa),
        ("verify-full", Driver::VerifyFull),
    ];
    for (mode, expected) in modes {
        assert_eq!(replication_config(&dsn(mode, None)).mode, expected, "{mode}");
    }
    let config = replication_config(&dsn("verify-ca", Some(Path::new("/ca.pem"))));
    assert_eq!(config.ca_pem_path.as_deref(), Some(Path::new("/ca.pem")));
}
