//! Bootstrap tokens.

use sha2::{Digest, Sha256};

/// A bootstrap token as Kubernetes knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Public half, six characters; follows from the machine, so that it can be found again.
    pub id: String,
    /// Secret half, sixteen characters.
    pub secret: String,
}

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Public half of the token of a machine.
pub fn token_id(namespace: &str, machine: &str) -> String {
    short_hash(&[namespace, machine], 6)
}

/// A text of `length` characters `[0-9a-z]` that follows from the parts.
pub fn short_hash(parts: &[&str], length: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    letters(hash.finalize().as_slice(), length)
}

/// Letters of a token from random bytes.
pub fn letters(bytes: &[u8], length: usize) -> String {
    bytes
        .iter()
        .take(length)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

impl Token {
    /// Name of the Secret in `kube-system`.
    pub fn secret_name(id: &str) -> String {
        format!("bootstrap-token-{id}")
    }

    /// The whole token.
    pub fn text(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}
