//! The one home of signals.

use tokio_util::sync::CancellationToken;

/// Waits for SIGTERM or Ctrl-C.
///
/// # Errors
/// If the signals cannot be listened to.
pub async fn signal() -> std::io::Result<&'static str> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok("SIGTERM"),
            result = tokio::signal::ctrl_c() => result.map(|()| "SIGINT"),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c().await.map(|()| "Ctrl-C")
    }
}

/// Cancels `cancel` at the first signal, and ends the process at the second: whoever presses Ctrl-C twice does not
/// want to wait for the drain.
pub async fn on_signal(cancel: CancellationToken) -> std::io::Result<()> {
    let name = signal().await?;
    tracing::info!(signal = name, "draining; once more to end at once");
    cancel.cancel();
    signal().await?;
    tracing::warn!("ended by a second signal");
    std::process::exit(130);
}

/// SIGHUP, by which operators ask a process to read its files again.
#[derive(Debug)]
pub struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Begins to listen; from here on SIGHUP no longer ends the process. Where there is no SIGHUP, none will come.
    ///
    /// # Errors
    /// If the signal cannot be listened to.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
