//! Memory that all bodies together may take: what is held whole, of requests and of replies, is taken from one budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are left. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    left: Arc<AtomicUsize>,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(bytes)),
        }
    }

    /// Nothing taken yet.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation {
            room: self.clone(),
            bytes: 0,
        }
    }
}

/// What one call holds; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    room: Room,
    bytes: usize,
}

/// The bodies of all calls take all that they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Reservation {
    /// Takes that many bytes more.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let less = |left: usize| left.checked_sub(bytes);
        let taken = self.room.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map_err(|_| NoRoom)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives everything back before the end.
    pub(crate) fn clear(&mut self) {
        self.room.left.fetch_add(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let room = Room::new(10);
        let mut first = room.reserve();
        assert_eq!((first.take(6), first.take(4)), (Ok(()), Ok(())));
        let mut second = room.reserve();
        assert_eq!((second.take(0), second.take(1)), (Ok(()), Err(NoRoom)));
        drop(first);
        assert_eq!((second.take(10), second.take(1)), (Ok(()), Err(NoRoom)));
        second.clear();
        assert_eq!(room.reserve().take(10), Ok(()));
    }
}
