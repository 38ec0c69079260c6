//! The files that the gateway is made from, and what happens when they change: descriptors and certificates are replaced while it runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use steading_gateway::{Control, Identity, Tls};
use steading_runtime::CancellationToken;
use steading_runtime::metrics::Metrics;
use steading_runtime::shutdown::Hangups;
use tokio::time::MissedTickBehavior;

/// How often files are compared with what was read: a mounted secret takes longer than this to arrive.
const PERIOD: Duration = Duration::from_secs(5);

/// Where descriptors and certificates are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Files {
    /// Encoded FileDescriptorSet with imports, such as `buf build -o` or `protoc -o --include_imports` writes it;
    /// Steading's own contracts if none is given. May be given more than once. Read again when it changes, and at SIGHUP.
    #[arg(long = "descriptor-set", value_name = "FILE")]
    descriptor_sets: Vec<PathBuf>,

    /// The certificate chain (PEM) that clients are shown; the port is in plaintext without it. Read again when it changes, as are all of
    /// the following.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The key (PEM) of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Certificates (PEM) of the authorities that https upstreams are checked against; the system's if not given.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,

    /// The gateway's own certificate chain (PEM), shown to https upstreams that ask for one.
    #[arg(long, value_name = "FILE", requires = "upstream_key")]
    upstream_cert: Option<PathBuf>,

    /// The key (PEM) of the gateway's certificate.
    #[arg(long, value_name = "FILE", requires = "upstream_cert")]
    upstream_key: Option<PathBuf>,
}

/// What is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) descriptor_sets: Vec<Bytes>,
    pub(crate) identity: Option<Identity>,
    pub(crate) tls: Tls,
}

impl Files {
    /// # Errors
    /// One cannot be read; its name is said.
    pub(crate) fn read(&self) -> anyhow::Result<Content> {
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).map(Bytes::from);
            bytes.with_context(|| format!("cannot read {}", path.display()))
        };
        let mut descriptor_sets = self
            .descriptor_sets
            .iter()
            .map(read)
            .collect::<anyhow::Result<Vec<_>>>()?;
        if descriptor_sets.is_empty() {
            descriptor_sets.push(Bytes::from_static(steading_api::FILE_DESCRIPTOR_SET));
        }
        let identity = |chain: &Option<PathBuf>, key: &Option<PathBuf>| -> anyhow::Result<Option<Identity>> {
            let (Some(chain), Some(key)) = (chain, key) else {
                return Ok(None);
            };
            Ok(Some(Identity {
                chain: read(chain)?,
                key: read(key)?,
            }))
        };
        Ok(Content {
            descriptor_sets,
            identity: identity(&self.tls_cert, &self.tls_key)?,
            tls: Tls {
                authorities: self.upstream_ca.as_ref().map(read).transpose()?,
                identity: identity(&self.upstream_cert, &self.upstream_key)?,
            },
        })
    }

    /// There is nothing that may change.
    fn is_empty(&self) -> bool {
        self.descriptor_sets.is_empty()
            && self.tls_cert.is_none()
            && self.upstream_ca.is_none()
            && self.upstream_cert.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    what: &'static str,
    outcome: &'static str,
}

/// Watches the files of a gateway.
pub(crate) struct Watch {
    files: Files,
    control: Control,
    hangups: Hangups,
    /// What the gateway runs with, or was offered and refused.
    seen: Content,
    reloads: Family<Labels, Counter>,
}

/// Begins to watch; nothing that changes from here on is missed.
///
/// # Errors
/// A file cannot be read, or SIGHUP not be listened to.
pub(crate) fn watch(files: Files, control: Control, metrics: &Metrics) -> anyhow::Result<Watch> {
    let reloads: Family<Labels, Counter> = Family::default();
    metrics.register(
        "gateway_reloads",
        "Changes of descriptors and certificates, by what became of them",
        reloads.clone(),
    );
    Ok(Watch {
        seen: files.read()?,
        hangups: Hangups::listen().context("cannot listen to SIGHUP")?,
        files,
        control,
        reloads,
    })
}

impl Watch {
    /// Reads the files again from time to time, and at each SIGHUP, until `cancel` is cancelled.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.hangups.next() => tracing::info!("SIGHUP: reading descriptors and certificates again"),
                _ = ticks.tick(), if !self.files.is_empty() => {}
            }
            let files = self.files.clone();
            // Reading may block on a slow disk.
            match tokio::task::spawn_blocking(move || files.read()).await {
                Ok(Ok(content)) => self.offer(content),
                Ok(Err(error)) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the gateway's files cannot be read; what was read before stays"
                ),
                Err(error) => tracing::warn!(%error, "the gateway's files were not read"),
            }
        }
    }

    /// Hands on what is new. What is refused is not offered again before it changes.
    fn offer(&mut self, content: Content) {
        if content.descriptor_sets != self.seen.descriptor_sets {
            let replaced = self.control.replace_descriptors(&content.descriptor_sets);
            self.tell("descriptors", replaced);
        }
        if let Some(identity) = content
            .identity
            .as_ref()
            .filter(|_| content.identity != self.seen.identity)
        {
            let replaced = self.control.replace_identity(identity);
            self.tell("certificate for clients", replaced);
        }
        if content.tls != self.seen.tls {
            let replaced = self.control.replace_tls(&content.tls);
            self.tell("certificates for upstreams", replaced);
        }
        self.seen = content;
    }

    fn tell(&self, what: &'static str, replaced: Result<(), steading_gateway::Error>) {
        let outcome = if replaced.is_ok() { "replaced" } else { "refused" };
        self.reloads.get_or_create(&Labels { what, outcome }).inc();
        match replaced {
            Ok(()) => tracing::info!(what, "replaced"),
            Err(error) => {
                let error = steading_runtime::tasks::Chain(&error);
                tracing::error!(what, %error, "refused; the present ones stay in use");
            }
        }
    }
}
