//! What a guest knows of its tenant cluster.

use std::time::Duration;

use kube::Client;

use crate::behaviour::tenants::Kind;

/// What a guest that has joined keeps on its disk.
#[derive(Clone)]
pub(super) struct Joined {
    pub(super) client: Client,
    pub(super) kind: Kind,
    pub(super) node: String,
    /// Uid of the VMI that it was when its Node was last said to be ready.
    pub(super) up: Option<String>,
    /// When its last sign of life was given.
    pub(super) beat: Duration,
}
