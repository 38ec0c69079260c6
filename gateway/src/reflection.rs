//! Reflection from the gateway's descriptors.

use http::{Request, Response};
use prost_reflect::DescriptorPool;
use tonic::body::Body as TonicBody;
use tower::util::BoxCloneSyncService;

/// One version of the service.
type ReflectionService = BoxCloneSyncService<Request<TonicBody>, Response<TonicBody>, std::convert::Infallible>;

/// Reflection of one generation of descriptors, in both versions.
pub(crate) struct Reflection {
    pub(crate) v1: ReflectionService,
    pub(crate) v1alpha: ReflectionService,
}

impl Reflection {
    pub(crate) fn new(pool: &DescriptorPool) -> Result<Self, tonic_reflection::server::Error> {
        let set = pool.encode_to_vec();
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(&set)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let v1 = BoxCloneSyncService::new(builder().build_v1()?);
        let v1alpha = BoxCloneSyncService::new(builder().build_v1alpha()?);
        Ok(Self { v1, v1alpha })
    }
}
