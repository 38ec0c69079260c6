//! Why a gateway cannot be made.

use steading_transcode::CatalogError;

use crate::tls::TlsError;
use crate::upstream::UpstreamError;

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptor sets cannot be served.
    #[error("descriptors cannot be served")]
    Catalog(#[from] CatalogError),
    /// An upstream cannot be used.
    #[error("upstream cannot be used")]
    Upstream(#[from] UpstreamError),
    /// The gateway's own port cannot speak TLS.
    #[error("TLS of the gateway's port cannot be set up")]
    Identity(#[from] TlsError),
    /// Reflection cannot serve the descriptors.
    #[error("descriptors cannot be reflected")]
    Reflection(#[from] tonic_reflection::server::Error),
}
