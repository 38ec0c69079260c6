//! What descriptor sets compile into. It is replaced whole while requests are served: each keeps the one that it began with.

use std::collections::HashMap;

use base64::Engine as _;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use steading_transcode::{Catalog, openapi};

use crate::config::Config;
use crate::error::Error;
use crate::etag::LearnedForm;
use crate::reflection::Reflection;
use crate::upstream::Upstreams;

/// One state of the descriptors.
pub(crate) struct Generation {
    pub(crate) catalog: Catalog,
    pub(crate) reflection: Reflection,
    pub(crate) openapi: Document,
    /// What etags look like, by service.
    etags: HashMap<Box<str>, LearnedForm>,
}

/// The OpenAPI document and its strong etag, unquoted.
pub(crate) struct Document {
    pub(crate) text: Bytes,
    pub(crate) etag: String,
}

impl Generation {
    /// Compiles descriptor sets for the services that have an upstream.
    ///
    /// # Errors
    /// The sets cannot be served.
    pub(crate) fn compile(config: &Config, sets: &[Bytes], upstreams: &Upstreams) -> Result<Self, Error> {
        let sets: Vec<&[u8]> = sets.iter().map(Bytes::as_ref).collect();
        // Error details must be readable whether or not the services' descriptors mention them, and some who write descriptors leave out
        // what everybody has.
        let library = [
            tonic_types::pb::FILE_DESCRIPTOR_SET,
            steading_api::IMPORTS_DESCRIPTOR_SET,
        ];
        let catalog = Catalog::new(&sets, &library, |service| upstreams.of(service).is_some())?;
        let reflection = Reflection::new(catalog.pool())?;
        let openapi = Document::of(&catalog, &config.title);
        let etags = catalog
            .bindings()
            .iter()
            .map(|binding| (catalog.method(binding.method).service.clone(), LearnedForm::default()))
            .collect();
        Ok(Self {
            catalog,
            reflection,
            openapi,
            etags,
        })
    }

    /// What the etags of a service look like.
    pub(crate) fn etags(&self, service: &str) -> Option<&LearnedForm> {
        self.etags.get(service)
    }
}

impl Document {
    fn of(catalog: &Catalog, title: &str) -> Self {
        let options = openapi::Options {
            title: title.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..openapi::Options::default()
        };
        let text = openapi::document_of(catalog, &options).to_string();
        let digest = Sha256::digest(&text);
        // Half of it is still far from any chance of a collision.
        let etag = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or_default());
        Self {
            text: Bytes::from(text),
            etag,
        }
    }
}
