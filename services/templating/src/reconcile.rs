//! What templating does while it holds the lease: installs the standard catalogue, imports images, keeps revisions.

use std::{convert::Infallible, time::Duration};

use kube::Client;
use steading_runtime::{CancellationToken, clock::Clock};

pub mod catalogue;
pub mod images;
pub mod templates;

/// Pause before something that failed is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(2);
/// Pause after which everything is looked at again, whatever the watches said.
pub(crate) const RESYNC: Duration = Duration::from_secs(300);

/// Runs until cancelled.
///
/// # Errors
/// Never: what fails is tried again.
pub async fn run(kube: Client, clock: Clock, cancel: CancellationToken) -> Result<(), Infallible> {
    let work = async {
        catalogue::install(&kube).await;
        tokio::join!(
            Box::pin(images::run(kube.clone(), clock.clone())),
            Box::pin(templates::run(kube.clone(), clock.clone())),
            Box::pin(catalogue::run(&kube, &clock))
        );
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
    Ok(())
}
