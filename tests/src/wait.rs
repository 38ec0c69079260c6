//! Waiting on a predicate, with a deadline.

use std::time::Duration;

use anyhow::bail;

/// How long anything may take in a test: far above what it takes, so that a busy machine fails nothing.
pub const DEADLINE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` gives something.
///
/// # Errors
/// What `look` says, or that the deadline passed.
pub async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("not within {}s: {what}", DEADLINE.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
