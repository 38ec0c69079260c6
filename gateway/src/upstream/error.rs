//! Why an upstream cannot be used.

use http::Uri;
use http::uri::Authority;

use crate::tls::TlsError;

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Not an absolute `http` or `https` URI.
    #[error("{0}: an upstream must be http://host:port or https://host:port, without a path")]
    Uri(Uri),
    /// Its TLS cannot be set up.
    #[error("TLS of upstreams cannot be set up")]
    Tls(#[from] TlsError),
    /// It does not take connections.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: Authority,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It could not be reached a moment ago; it is not asked again so soon.
    #[error("{authority} could not be reached a moment ago")]
    Resting {
        /// Host and port.
        authority: Authority,
    },
    /// It does not speak HTTP/2, or the call broke.
    #[error("call to {authority} failed")]
    Call {
        /// Host and port.
        authority: Authority,
        /// Why.
        #[source]
        source: hyper::Error,
    },
}
