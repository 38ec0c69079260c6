//! Leadership as a value.
//!
//! What a leader remembers about acting (when a drain began, what was asked of others) is only true while it leads: another one may
//! have acted since. So such memory lives in a [`Term`] and is dropped with it; what must survive stands on the objects.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// One uninterrupted time of leading, with what is remembered during it. Cheap to clone; every clone ends with the term.
#[derive(Debug)]
pub struct Term<M = ()> {
    memory: Arc<M>,
    lost: CancellationToken,
}

impl<M> Clone for Term<M> {
    fn clone(&self) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
            lost: self.lost.clone(),
        }
    }
}

impl<M: Default> Term<M> {
    /// A term that lasts until `lost` is cancelled, with nothing remembered.
    pub fn begin(lost: CancellationToken) -> Self {
        Self {
            memory: Arc::new(M::default()),
            lost,
        }
    }
}

impl<M> Term<M> {
    /// What is remembered in this term.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Whether it is over: nothing may be written any longer.
    pub fn is_over(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits for the end.
    pub async fn over(&self) {
        self.lost.cancelled().await;
    }

    /// The token that is cancelled at the end.
    pub fn token(&self) -> CancellationToken {
        self.lost.clone()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn memory_does_not_outlive_its_term() {
        let first: Term<Mutex<Vec<u8>>> = Term::begin(CancellationToken::new());
        first.clone().memory().lock().push(1);
        first.token().cancel();
        assert!(first.is_over());
        let second: Term<Mutex<Vec<u8>>> = Term::begin(CancellationToken::new());
        assert!(second.memory().lock().is_empty());
    }
}
