//! Where heavy solving happens: off the threads that serve calls, a few at a time.

use std::sync::Arc;

use steading_api::error::RpcError;
use tokio::sync::Semaphore;

use crate::error::Error;

/// Solves at once: each keeps one processor busy for some tens of milliseconds.
const AT_ONCE: usize = 2;
/// Calls that may wait for their turn: with fewer than these in front of it a call is answered within a second or two.
const WAITING: usize = 32;

/// The bounded pool of solves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Solver {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl Default for Solver {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            admitted: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
        }
    }
}

impl Solver {
    /// Runs `solve` on a thread for blocking work.
    ///
    /// # Errors
    /// If too many wait already, or the solve panics.
    pub async fn run<A: Send + 'static>(&self, solve: impl FnOnce() -> A + Send + 'static) -> Result<A, RpcError> {
        let Ok(_admitted) = self.admitted.try_acquire() else {
            return Err(Error::Busy.into());
        };
        let running = self
            .running
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::SolverFailed)?;
        let solved = tokio::task::spawn_blocking(move || {
            // Held by the thread: a caller that goes away does not make room for another while it still runs.
            let _running = running;
            solve()
        });
        solved.await.map_err(|_| Error::SolverFailed.into())
    }
}
