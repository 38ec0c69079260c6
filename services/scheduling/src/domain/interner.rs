//! Sharing of what many observed objects say alike: label keys and values, and the constraints of one pool's machines.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use super::constraints::Constraints;

/// Entries below which looking for unused ones is not worth it.
const SMALL: usize = 1024;

/// Texts and constraints, one of each. What nobody uses is dropped whenever the number has doubled, so that it stays
/// within twice of what is in use.
#[derive(Debug, Default)]
pub struct Interner {
    texts: Pool<str>,
    constraints: Pool<Constraints>,
}

impl Interner {
    /// The shared form of a text.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.find(text).unwrap_or_else(|| self.texts.add(Arc::from(text)))
    }

    /// The shared form of constraints.
    pub fn constraints(&mut self, constraints: Constraints) -> Arc<Constraints> {
        self.constraints
            .find(&constraints)
            .unwrap_or_else(|| self.constraints.add(Arc::new(constraints)))
    }
}

#[derive(Debug)]
struct Pool<T: ?Sized> {
    all: HashSet<Arc<T>>,
    prune_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self {
            all: HashSet::new(),
            prune_at: SMALL,
        }
    }
}

impl<T: Eq + Hash + ?Sized> Pool<T> {
    fn find(&self, value: &T) -> Option<Arc<T>> {
        self.all.get(value).cloned()
    }

    fn add(&mut self, value: Arc<T>) -> Arc<T> {
        if self.all.len() >= self.prune_at {
            self.all.retain(|shared| Arc::strong_count(shared) > 1);
            self.prune_at = (self.all.len() * 2).max(SMALL);
        }
        self.all.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_dropped() {
        let mut interner = Interner::default();
        let kept = interner.text("kept");
        for index in 0..10 * SMALL {
            interner.text(&index.to_string());
        }
        assert!(interner.texts.all.len() <= SMALL);
        assert!(Arc::ptr_eq(&kept, &interner.text("kept")));
    }
}
