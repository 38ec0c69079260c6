//! A bounded log of what changed in one index, for readers that each go on from their own place.
//!
//! A place is a [`Cursor`]: the log's epoch and a number. The epoch is new with every process, so a cursor of another replica or of an
//! earlier life is told to be expired instead of skipping what happened between.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc};

use crate::{object::ObjectRef, version::Version};

/// One change of one object.
#[derive(Debug)]
pub struct Change<T> {
    /// The object.
    pub object: ObjectRef,
    /// As it was; `None` if it was not there.
    pub before: Option<Arc<T>>,
    /// As it is; `None` if it is not there any longer.
    pub after: Option<Arc<T>>,
    /// The version that brought the change.
    pub version: Version,
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            before: self.before.clone(),
            after: self.after.clone(),
            version: self.version,
        }
    }
}

/// A place in a log: everything up to it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    epoch: u64,
    number: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.epoch, self.number)
    }
}

impl FromStr for Cursor {
    type Err = Expired;

    fn from_str(text: &str) -> Result<Self, Expired> {
        let (epoch, number) = text.split_once('.').ok_or(Expired)?;
        let hex = |part: &str| u64::from_str_radix(part, 16).map_err(|_| Expired);
        Ok(Self {
            epoch: hex(epoch)?,
            number: hex(number)?,
        })
    }
}

/// The log does not reach back to the cursor: read everything again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log of changes does not reach back so far")]
pub struct Expired;

/// The log; see the module.
#[derive(Debug)]
pub struct Changes<T> {
    epoch: u64,
    /// Number of the newest change.
    number: u64,
    capacity: usize,
    log: VecDeque<Change<T>>,
}

impl<T> Changes<T> {
    /// An empty log that keeps `capacity` changes.
    pub fn new(capacity: usize) -> Self {
        Self {
            epoch: rand::random(),
            number: 0,
            capacity,
            log: VecDeque::new(),
        }
    }

    /// Appends a change; the oldest one is dropped when there is no room.
    pub fn push(&mut self, change: Change<T>) {
        self.number += 1;
        self.log.push_back(change);
        if self.log.len() > self.capacity {
            self.log.pop_front();
        }
    }

    /// The place behind the newest change.
    pub fn end(&self) -> Cursor {
        Cursor {
            epoch: self.epoch,
            number: self.number,
        }
    }

    /// The changes behind a place in order, each with the place behind it.
    ///
    /// # Errors
    /// If the log does not reach back so far, or the place is in another log.
    pub fn since(&self, cursor: Cursor) -> Result<Vec<(Cursor, Change<T>)>, Expired> {
        if cursor.epoch != self.epoch {
            return Err(Expired);
        }
        let behind = self.number.checked_sub(cursor.number).ok_or(Expired)?;
        let behind = usize::try_from(behind).map_err(|_| Expired)?;
        let skipped = self.log.len().checked_sub(behind).ok_or(Expired)?;
        let numbers = cursor.number + 1..;
        let places = numbers.map(|number| Cursor {
            epoch: self.epoch,
            number,
        });
        Ok(places.zip(self.log.iter().skip(skipped).cloned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_change(name: &str) -> Change<u32> {
        Change {
            object: ObjectRef::new("", name),
            before: None,
            after: Some(Arc::new(1)),
            version: Version::from(1),
        }
    }

    #[test]
    fn readers_go_on_from_their_own_place() {
        let mut log = Changes::new(2);
        let start = log.end();
        log.push(mk_change("a"));
        let (middle, _) = log.since(start).expect("in reach")[0].clone();
        log.push(mk_change("b"));
        let names = |cursor| {
            let changes = log.since(cursor).expect("in reach");
            changes.iter().map(|(_, c)| c.object.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(start), ["a", "b"]);
        assert_eq!(names(middle), ["b"]);
        assert_eq!(names(log.end()), Vec::<String>::new());
    }

    #[test]
    fn what_the_log_does_not_hold_is_expired_and_never_skipped() {
        let mut log = Changes::new(2);
        let start = log.end();
        for name in ["a", "b", "c"] {
            log.push(mk_change(name));
        }
        assert_eq!(log.since(start).map(|_| ()), Err(Expired), "a is lost");
        let other = Changes::<u32>::new(2);
        assert_eq!(log.since(other.end()).map(|_| ()), Err(Expired), "another process");
    }

    #[test]
    fn cursors_survive_as_text() {
        let mut log = Changes::new(2);
        log.push(mk_change("a"));
        assert_eq!(log.end().to_string().parse(), Ok(log.end()));
        assert_eq!("nonsense".parse::<Cursor>(), Err(Expired));
    }
}
