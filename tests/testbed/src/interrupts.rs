//! Ctrl-C while a test bed starts.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by Ctrl-C while `up` waits.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the person has had enough.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ctrl-C ends the wait in an orderly way: what was started is ended before `up` returns.
pub(crate) fn catch_interrupts() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
                INTERRUPTED.store(true, Ordering::Relaxed);
            });
        })?;
    Ok(())
}
