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

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file named by `sslrootcert` cannot be used.
    #[error("the certificates of sslrootcert={0} cannot be read")]
    RootCert(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The library refuses.
    #[error("TLS cannot be set up")]
    SetUp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The one crypto provider of the whole process; the replication driver uses the process default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Refused when it is installed already, which is as good.
    let _ = CryptoProvider::install_default((*provider).clone());
    provider
}

/// The connector for tokio-postgres; `None` where TLS is off.
pub(crate) fn connector(dsn: &Dsn) -> Result<Option<MakeRustlsConnect>, TlsError> {
    let set_up = |error: Box<dyn std::error::Error + Send + Sync>| TlsError::SetUp(error);
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| set_up(error.into()))?;
    if dsn.ssl_mode == SslMode::Disable {
        return Ok(None);
    }
    let roots = Arc::new(roots(dsn.ssl_root_cert.as_deref())?);
    let config = if dsn.ssl_mode != SslMode::VerifyFull {
        let chain = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| set_up(error.into()))?;
        let any_issuer = dsn.ssl_mode == SslMode::Require;
        let verifier = Arc::new(RelaxedVerifier { chain, any_issuer });
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// The same for the replication driver.
pub(crate) fn replication(dsn: &Dsn) -> pgwire_replication::TlsConfig {
    provider();
    match dsn.ssl_mode {
        SslMode::Disable => pgwire_replication::TlsConfig::disabled(),
        SslMode::Require => pgwire_replication::TlsConfig::require(),
        SslMode::VerifyCa => pgwire_replication::TlsConfig::verify_ca(dsn.ssl_root_cert.clone()),
        SslMode::VerifyFull => {
            pgwire_replication::TlsConfig::verify_full(dsn.ssl_root_cert.clone())
        }
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let Some(file) = file else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let fail = |error: Box<dyn std::error::Error + Send + Sync>| {
        TlsError::RootCert(file.display().to_string(), error)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| fail(error.into()))? {
        let certificate = certificate.map_err(|error| fail(error.into()))?;
        roots.add(certificate).map_err(|error| fail(error.into()))?;
    }
    if roots.is_empty() {
        return Err(fail("the file holds no certificate".into()));
    }
    Ok(roots)
}

/// Verifies less than everything, as libpq's `require` and `verify-ca` do.
#[derive(Debug)]
struct RelaxedVerifier {
    chain: Arc<WebPkiServerVerifier>,
    any_issuer: bool,
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
        if self.any_issuer {
            return Ok(ServerCertVerified::assertion());
        }
        match self.chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
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
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
