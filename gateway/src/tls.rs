//! TLS towards upstreams and clients: whom to trust, what to show.

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate chain and its key. PEM, each.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, then those that lead to its authority.
    pub chain: Bytes,
    /// The certificate's key.
    pub key: Bytes,
}

impl std::fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// What `https` upstreams are checked against and shown. PEM, each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that upstreams' certificates must come from; the system's if there are none.
    pub authorities: Option<Bytes>,
    /// What the gateway shows upstreams that ask for a certificate (mTLS).
    pub identity: Option<Identity>,
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
    #[error("no system certificate authorities found; pass --upstream-ca")]
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
            Some(identity) => builder.with_client_auth_cert(identity.certificates()?, identity.private_key()?)?,
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

impl Identity {
    /// What the gateway's own port is served with: HTTP/2 or HTTP/1.1, as the client likes.
    ///
    /// # Errors
    /// Something is not PEM, or certificate and key do not belong together.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.certificates()?, self.private_key()?)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(&self.chain, "the gateway's certificate")
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| TlsError::Pem {
            what: "the gateway's key",
            source: Some(source),
        })
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
