//! Sizes of memory and disks: whole bytes, and no more or less than a machine can have.

use steading_model::{quantity::Quantity, violation::Violations};

/// Least memory of a machine: no guest that could join a cluster boots with less.
const LEAST_MEMORY: u64 = 64 << 20;
/// Most memory of a machine: more than any bare metal has that KubeVirt runs on.
const MOST_MEMORY: u64 = 32 << 40;
/// Smallest disk: CDI takes none below.
const LEAST_DISK: u64 = 1 << 20;
/// Largest disk: no storage has claims as large, and sums of a thousand of them stay exact.
const MOST_DISK: u64 = 1 << 50;

/// Checks an amount of memory.
pub(crate) fn memory_size(all: &mut Violations, path: &str, text: &str) {
    within(all, path, text, (LEAST_MEMORY, MOST_MEMORY));
}

/// Checks the size of a disk.
pub(crate) fn disk_size(all: &mut Violations, path: &str, text: &str) {
    within(all, path, text, (LEAST_DISK, MOST_DISK));
}

fn within(all: &mut Violations, path: &str, text: &str, (least, most): (u64, u64)) {
    let Some(quantity) = all.take(path, text.parse::<Quantity>()) else {
        return;
    };
    match quantity.whole_bytes() {
        None if quantity.is_negative() || quantity.is_zero() => all.add(path, "must be positive"),
        None => all.add(path, "must be a whole number of bytes"),
        Some(bytes) => all.require(
            (least..=most).contains(&bytes),
            path,
            format!(
                "must be {} to {}",
                Quantity::from_bytes(least),
                Quantity::from_bytes(most)
            ),
        ),
    }
}
