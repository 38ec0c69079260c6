//! The one home of spawning.
//!
//! A [`TaskGroup`] owns named tasks. A task that ends before the group is cancelled, fails or panics cancels the
//! whole group and is the error that [`TaskGroup::join`] reports: no part of a process dies unseen. Dropping the
//! group aborts what still runs.

use std::{any::Any, error::Error, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::metrics::Metrics;

/// Pause before a task that panicked is started again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest such pause: what panics for ever costs next to nothing.
const LAST_PAUSE: Duration = Duration::from_secs(300);

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a group ended other than by being cancelled.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task ended although the group was not cancelled.
    #[error("task {name} ended early")]
    EndedEarly {
        /// The task.
        name: String,
    },
    /// A task returned an error.
    #[error("task {name} failed")]
    Failed {
        /// The task.
        name: String,
        /// What it returned.
        #[source]
        source: BoxError,
    },
    /// A task panicked.
    #[error("task {name} panicked: {message}")]
    Panicked {
        /// The task.
        name: String,
        /// What the panic said.
        message: String,
    },
    /// Tasks did not end within the deadline after cancellation; they were aborted.
    #[error("{count} tasks did not end within {deadline:?}")]
    Stuck {
        /// How many.
        count: usize,
        /// How long they had.
        deadline: Duration,
    },
}

/// What a task may return: nothing, or a result.
pub trait Outcome {
    /// The error, if it is one.
    fn into_error(self) -> Option<BoxError>;
}

impl Outcome for () {
    fn into_error(self) -> Option<BoxError> {
        None
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {
    fn into_error(self) -> Option<BoxError> {
        self.err().map(Into::into)
    }
}

/// Whether a task may end while the group goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    WholeLife,
    Finite,
}

/// Owner of named tasks; see the module.
#[derive(Debug)]
pub struct TaskGroup {
    spawner: Spawner,
}

/// Starts tasks in a group without owning it.
#[derive(Debug, Clone)]
pub struct Spawner {
    name: Arc<str>,
    cancel: CancellationToken,
    tracker: TaskTracker,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    first_error: Option<TaskError>,
    handles: Vec<AbortHandle>,
}

impl TaskGroup {
    /// A group that ends when `cancel` is cancelled, and cancels it when a task dies.
    pub fn new(name: &str, cancel: CancellationToken) -> Self {
        let spawner = Spawner {
            name: name.into(),
            cancel,
            tracker: TaskTracker::new(),
            state: Arc::default(),
        };
        Self { spawner }
    }

    /// The token that tasks of the group should watch.
    pub fn token(&self) -> CancellationToken {
        self.spawner.cancel.clone()
    }

    /// A handle that starts tasks.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Starts a task that lives as long as the group: it must not end before the group is cancelled.
    pub fn spawn<F>(&self, name: &str, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome + Send,
    {
        self.spawner.spawn(name, task);
    }

    /// Starts a task that may end in peace; an error or panic still ends the group.
    pub fn spawn_finite<F>(&self, name: &str, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome + Send,
    {
        self.spawner.spawn_finite(name, task);
    }

    /// Waits until the group is cancelled, by its token or by the death of a task, then until all tasks have ended.
    ///
    /// # Errors
    /// The first task that died, or [`TaskError::Stuck`] if tasks outlive `deadline` after the cancellation.
    pub async fn join(self, deadline: Duration) -> Result<(), TaskError> {
        let Spawner {
            cancel, tracker, state, ..
        } = &self.spawner;
        cancel.cancelled().await;
        tracker.close();
        let ended = tokio::time::timeout(deadline, tracker.wait()).await;
        if let Some(error) = state.lock().first_error.take() {
            return Err(error);
        }
        ended.map_err(|_| TaskError::Stuck {
            count: tracker.len(),
            deadline,
        })
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.spawner.cancel.cancel();
        for handle in self.spawner.state.lock().handles.drain(..) {
            handle.abort();
        }
    }
}

impl Spawner {
    /// Starts a task that lives as long as the group; see [`TaskGroup::spawn`].
    pub fn spawn<F>(&self, name: &str, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome + Send,
    {
        self.start(name, Span::WholeLife, task);
    }

    /// Starts a task that may end in peace; see [`TaskGroup::spawn_finite`].
    pub fn spawn_finite<F>(&self, name: &str, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome + Send,
    {
        self.start(name, Span::Finite, task);
    }

    /// Starts a task on behalf of one of many, such as a tenant: a panic ends only this run. It is counted, told, and the task is
    /// started again after a pause that grows with every panic in a row. `make` makes the task; it may end in peace.
    pub fn spawn_isolated<F>(&self, name: &'static str, metrics: &Metrics, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (metrics, cancel) = (metrics.clone(), self.cancel.clone());
        self.start(name, Span::Finite, async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let Err(panic) = AssertUnwindSafe(async { make().await }).catch_unwind().await else {
                    return;
                };
                metrics.task_panicked(name);
                tracing::error!(task = name, message = panic_message(&*panic), again_in = ?pause, "an isolated task panicked");
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        });
    }

    /// The group's token.
    pub fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    #[allow(clippy::disallowed_methods, reason = "the task group is the home of spawning")]
    fn start<F>(&self, name: &str, span: Span, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Outcome + Send,
    {
        let (group, name) = (self.clone(), name.to_owned());
        let handle = tokio::spawn(self.tracker.track_future(async move {
            let result = AssertUnwindSafe(task).catch_unwind().await;
            group.ended(name, span, result.map(Outcome::into_error));
        }))
        .abort_handle();
        let mut state = self.state.lock();
        state.handles.retain(|h| !h.is_finished());
        state.handles.push(handle);
    }

    fn ended(&self, name: String, span: Span, result: Result<Option<BoxError>, Box<dyn Any + Send>>) {
        let error = match result {
            Err(panic) => TaskError::Panicked {
                name,
                message: panic_message(&*panic),
            },
            Ok(Some(source)) => TaskError::Failed { name, source },
            Ok(None) if span == Span::Finite || self.cancel.is_cancelled() => return,
            Ok(None) => TaskError::EndedEarly { name },
        };
        tracing::error!(group = %self.name, error = %Chain(&error), "a task died; ending its group");
        self.state.lock().first_error.get_or_insert(error);
        self.cancel.cancel();
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// An error with its causes, for one line of log.
pub struct Chain<'a>(pub &'a dyn Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn mk_group() -> TaskGroup {
        TaskGroup::new("test", CancellationToken::new())
    }

    #[tokio::test]
    async fn cancelled_tasks_end_in_peace() {
        let group = mk_group();
        let token = group.token();
        group.spawn("waits", token.clone().cancelled_owned());
        group.spawn_finite("ends", async {});
        token.cancel();
        assert!(group.join(SOON).await.is_ok());
    }

    #[tokio::test]
    async fn a_task_that_ends_early_ends_the_group() {
        let group = mk_group();
        let token = group.token();
        group.spawn("waits", token.cancelled_owned());
        group.spawn("quits", async {});
        let error = group.join(SOON).await.expect_err("the group died");
        assert_eq!(error.to_string(), "task quits ended early");
    }

    #[tokio::test]
    async fn a_failed_task_is_reported_with_its_cause() {
        let group = mk_group();
        group.spawn_finite("fails", async { Err::<(), _>(std::io::Error::other("disk full")) });
        let error = group.join(SOON).await.expect_err("the group died");
        assert_eq!(Chain(&error).to_string(), "task fails failed: disk full");
    }

    #[tokio::test]
    async fn a_panic_is_reported() {
        let group = mk_group();
        group.spawn("panics", async {
            let fail: fn() = || panic!("boom {}", 1);
            fail();
        });
        let error = group.join(SOON).await.expect_err("the group died");
        assert_eq!(error.to_string(), "task panics panicked: boom 1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_an_isolated_task_ends_nothing_else_and_is_counted() {
        let group = mk_group();
        let (metrics, token) = (Metrics::new(), group.token());
        let (runs, mut ran) = tokio::sync::mpsc::unbounded_channel();
        group.spawner().spawn_isolated("tenant", &metrics, move || {
            let runs = runs.clone();
            async move {
                let _ = runs.send(());
                let fail: fn() = || panic!("boom");
                fail();
            }
        });
        for _ in 0..3 {
            assert_eq!(ran.recv().await, Some(()));
        }
        assert!(!token.is_cancelled());
        assert!(
            metrics
                .encode()
                .contains("steading_task_panics_total{task=\"tenant\"} 3"),
            "{}",
            metrics.encode()
        );
        token.cancel();
        assert!(group.join(SOON).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_do_not_end_are_aborted_and_told() {
        let group = mk_group();
        let (alive, mut dropped) = tokio::sync::oneshot::channel::<()>();
        group.spawn("stays", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        group.token().cancel();
        assert!(matches!(group.join(SOON).await, Err(TaskError::Stuck { count: 1, .. })));
        assert!(
            tokio::time::timeout(SOON, &mut dropped).await.is_ok(),
            "the task was aborted"
        );
    }
}
