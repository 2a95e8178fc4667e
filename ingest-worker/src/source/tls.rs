//! TLS to the source database.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::source::dsn::{Dsn, SslMode};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Error of the TLS setup on our side.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file named by `sslrootcert` cannot be used.
    #[error("the certificates of sslrootcert={path} cannot be read")]
    RootCert {
        /// The file.
        path: String,
        /// The reason.
        source: BoxError,
    },
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] BoxError),
}

/// Returns the crypto provider of the process, and installs it as the process default, which the
/// replication driver uses.
pub(crate) fn crypto_provider() -> Arc<CryptoProvider> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // It is refused if one is installed already. That one is ours, too.
    let _ = CryptoProvider::install_default((*provider).clone());
    provider
}

/// Returns the connector for tokio-postgres; `None` if TLS is disabled.
pub(crate) fn connector(dsn: &Dsn) -> Result<Option<MakeRustlsConnect>, TlsError> {
    let provider = crypto_provider();
    if dsn.ssl_mode == SslMode::Disable {
        return Ok(None);
    }

    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.into()))?;
    let roots = Arc::new(root_certificates(dsn.ssl_root_cert.as_deref())?);
    let config = if dsn.ssl_mode == SslMode::VerifyFull {
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let issuer_verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| TlsError::Setup(error.into()))?;
        let accepts_any_issuer = dsn.ssl_mode == SslMode::Require;
        let verifier = Arc::new(RelaxedVerifier { issuer_verifier, accepts_any_issuer });
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// Returns the TLS settings for the replication driver, with the same meaning as [`connector`].
pub(crate) fn replication_config(dsn: &Dsn) -> pgwire_replication::TlsConfig {
    crypto_provider();
    match dsn.ssl_mode {
        SslMode::Disable => pgwire_replication::TlsConfig::disabled(),
        SslMode::Require => pgwire_replication::TlsConfig::require(),
        SslMode::VerifyCa => pgwire_replication::TlsConfig::verify_ca(dsn.ssl_root_cert.clone()),
        SslMode::VerifyFull => {
            pgwire_replication::TlsConfig::verify_full(dsn.ssl_root_cert.clone())
        }
    }
}

/// Reads the certificates of `file`; without one, returns those of the public authorities.
fn root_certificates(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let Some(file) = file else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    read_certificates(file)
        .map_err(|source| TlsError::RootCert { path: file.display().to_string(), source })
}

fn read_certificates(file: &Path) -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("the file contains no certificate".into());
    }
    Ok(roots)
}

/// A verifier that checks less than host name and issuer, as libpq's `require` and `verify-ca` do.
#[derive(Debug)]
struct RelaxedVerifier {
    issuer_verifier: Arc<WebPkiServerVerifier>,
    accepts_any_issuer: bool,
}

impl ServerCertVerifier for RelaxedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.accepts_any_issuer {
            return Ok(ServerCertVerified::assertion());
        }

        // The issuer is checked before the name, so a wrong name means that the issuer is right.
        match self.issuer_verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issuer_verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issuer_verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issuer_verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
