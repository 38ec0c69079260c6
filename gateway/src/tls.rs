//! TLS towards upstreams: trust, own identity, and HTTP/2 as the one protocol.

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What `https` upstreams are checked against and shown. PEM, each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that upstreams' certificates must come from; the system's if there are none.
    pub authorities: Option<Bytes>,
    /// The gateway's own certificate chain and its key, for upstreams that ask for one (mTLS).
    pub identity: Option<(Bytes, Bytes)>,
}

impl std::fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificates that are not PEM, or none at all.
    #[error("{what} cannot be read as PEM")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why; nothing if the text has no such section.
        #[source]
        source: Option<rustls::pki_types::pem::Error>,
    },
    /// The system has no certificates to trust.
    #[error("the system has no certificate authorities: name some")]
    NoSystemAuthorities,
    /// Certificates and key do not fit, or are of no known kind.
    #[error("certificates cannot be used")]
    Certificates(#[from] rustls::Error),
}

impl Tls {
    /// What connections are made with.
    ///
    /// # Errors
    /// Something is not PEM, or certificate and key do not belong together.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
                    what: "the gateway's key",
                    source: Some(source),
                })?;
                builder.with_client_auth_cert(certificates(chain, "the gateway's certificate")?, key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(authorities) = &self.authorities {
            for certificate in certificates(authorities, "the authorities of upstreams")? {
                roots.add(certificate)?;
            }
            return Ok(roots);
        }
        // Some of a system's certificates may be of a kind that is not supported; the others do.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoSystemAuthorities);
        }
        Ok(roots)
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::Pem { what, source: None }),
        Ok(certificates) => Ok(certificates),
        Err(source) => Err(TlsError::Pem {
            what,
            source: Some(source),
        }),
    }
}
