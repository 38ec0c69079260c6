//! Ids that are made from names that are longer, or freer, than ids may be.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::ids::{Id, MAX_ID};

/// Bytes of the digest in a derived id: two names meet once in sixteen million.
const DIGEST_BYTES: usize = 3;

/// `<prefix>-<name>` if that is an [`Id`]; else, and for each further `attempt`, the first part of the name and a digest of the whole. The same
/// arguments give the same id, other names and attempts another. `prefix` is an id of at most ten characters.
pub fn derived_id(prefix: &str, name: &str, attempt: u32) -> String {
    let plain = format!("{prefix}-{name}");
    if attempt == 0 && Id::parse(plain.as_str()).is_ok() {
        return plain;
    }
    let seed = if attempt == 0 {
        name.to_owned()
    } else {
        format!("{name}#{attempt}")
    };
    let mut digest = String::new();
    for byte in Sha256::digest(seed).iter().take(DIGEST_BYTES) {
        // Writing to a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    let room = MAX_ID.saturating_sub(prefix.len() + digest.len() + 2);
    let first = name.split('.').next().unwrap_or_default();
    let mut kept = String::new();
    for c in first.chars().map(|c| c.to_ascii_lowercase()) {
        // No `--` may arise, nor a `-` at an end.
        let fits = c.is_ascii_alphanumeric() || (c == '-' && !kept.is_empty() && !kept.ends_with('-'));
        if fits && kept.len() < room {
            kept.push(c);
        }
    }
    match kept.trim_end_matches('-') {
        "" => format!("{prefix}-{digest}"),
        kept => format!("{prefix}-{kept}-{digest}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_fits_is_taken_as_it_is() {
        assert_eq!(derived_id("drain", "infra-2", 0), "drain-infra-2");
        assert_eq!(derived_id("eviction", "infra-1", 0), "eviction-infra-1");
    }

    #[test]
    fn longer_names_are_told_apart_by_a_digest() {
        let one = derived_id("drain", "metal-07.rack-b.dc1.example.test", 0);
        let other = derived_id("drain", "metal-07.rack-c.dc1.example.test", 0);
        assert!(one.starts_with("drain-metal-07-"), "{one}");
        assert_ne!(one, other);
        assert_eq!(one, derived_id("drain", "metal-07.rack-b.dc1.example.test", 0));
    }

    #[test]
    fn further_attempts_give_further_ids() {
        let all: std::collections::BTreeSet<_> =
            (0..50).map(|attempt| derived_id("drain", "infra-2", attempt)).collect();
        assert_eq!(all.len(), 50);
    }

    proptest! {
        #[test]
        fn every_name_gives_an_id(
            name in prop_oneof![
                "[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?",
                any::<String>(),
            ],
            prefix in prop_oneof![Just("drain"), Just("eviction")],
            attempt in 0..3_u32,
        ) {
            let id = derived_id(prefix, &name, attempt);
            prop_assert!(Id::parse(id.as_str()).is_ok(), "{}", id);
        }
    }
}
