//! The index between tasks: watches write, everybody else reads and waits for the next change.

use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::{Index, Since};

/// Handle to the index. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedIndex {
    index: Arc<RwLock<Index>>,
    number: Arc<watch::Sender<u64>>,
    epoch: Arc<str>,
}

impl Default for SharedIndex {
    fn default() -> Self {
        Self {
            index: Arc::default(),
            number: Arc::new(watch::Sender::new(0)),
            epoch: uuid::Uuid::new_v4().simple().to_string().into(),
        }
    }
}

impl SharedIndex {
    /// Looks at the index. Never hold it across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    /// Changes the index and wakes those who wait if that made a difference.
    pub fn update(&self, change: impl FnOnce(&mut Index)) {
        let number = {
            let mut index = self.index.write();
            change(&mut index);
            index.number()
        };
        self.number
            .send_if_modified(|seen| std::mem::replace(seen, number) != number);
    }

    /// What changed after `number`.
    pub fn since(&self, number: u64) -> Since {
        self.read().since(number)
    }

    /// Whether everything was listed once.
    pub fn is_complete(&self) -> bool {
        self.read().is_complete()
    }

    /// Follows the number of the newest change.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// Names this index among those of other processes: numbers mean nothing elsewhere.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }
}
