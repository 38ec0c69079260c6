//! How a volume is recognised in a virtual machine: the disk's name and its serial number.
//!
//! Boot disks and disks that people plugged by hand share the lists with ours. A disk is ours only if it carries all of
//! the mark, so that healing drift can never remove anything else.

use sha2::{Digest, Sha256};

/// What the names of our disks begin with.
pub const DISK_PREFIX: &str = "vol-";
/// Characters of a serial number: virtio shows a guest no more than 20.
pub const SERIAL_CHARS: usize = 20;
/// KubeVirt takes DNS labels as names of disks.
const MAX_DISK_NAME: usize = 63;
/// Characters of a digest in shortened names: 40 bits among the volumes of one machine.
const DIGEST_CHARS: usize = 10;

/// Name of a volume's disk in a virtual machine: the volume's id with a prefix, shortened to a DNS label.
pub fn disk_name(volume: &str) -> String {
    let name = format!("{DISK_PREFIX}{volume}");
    if name.len() <= MAX_DISK_NAME {
        return name;
    }
    let digest = Sha256::digest(volume.as_bytes());
    let digest = digest
        .iter()
        .take(DIGEST_CHARS / 2)
        .fold(String::new(), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            text
        });
    let kept: String = name.chars().take(MAX_DISK_NAME - DIGEST_CHARS - 1).collect();
    format!("{}-{digest}", kept.trim_end_matches('-'))
}

/// Serial number of a volume: the first 80 bits of its uid in hexadecimal.
pub fn serial(uid: &str) -> String {
    uid.chars()
        .filter(char::is_ascii_hexdigit)
        .take(SERIAL_CHARS)
        .collect::<String>()
        .to_ascii_lowercase()
}

/// Whether a disk of a virtual machine carries our mark: hot-pluggable, named after its claim, with a serial number
/// of ours, and not one to boot from.
pub fn is_ours(name: &str, claim: &str, serial: Option<&str>, hotpluggable: bool, boot_order: Option<u32>) -> bool {
    let marked = |text: &str| text.len() == SERIAL_CHARS && text.bytes().all(|b| b.is_ascii_hexdigit());
    hotpluggable && boot_order.is_none() && name == disk_name(claim) && serial.is_some_and(marked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn serial_is_the_head_of_the_uid() {
        assert_eq!(serial("6F9619FF-8b86-d011-b42d-00c04fc964ff"), "6f9619ff8b86d011b42d");
    }

    #[test]
    fn only_the_whole_mark_counts() {
        let serial = Some("6f9619ff8b86d011b42d");
        assert!(is_ours("vol-data", "data", serial, true, None));
        assert!(!is_ours("vol-data", "data", serial, true, Some(1)), "a boot disk");
        assert!(
            !is_ours("vol-data", "data", serial, false, None),
            "a disk of the template"
        );
        assert!(!is_ours("data", "data", serial, true, None), "another name");
        assert!(!is_ours("vol-data", "other", serial, true, None), "another claim");
        assert!(!is_ours("vol-data", "data", Some("mine"), true, None), "another serial");
        assert!(!is_ours("vol-data", "data", None, true, None), "no serial");
    }

    proptest! {
        #[test]
        fn disk_names_are_labels_and_differ(a in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?", b in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?") {
            let (x, y) = (disk_name(&a), disk_name(&b));
            prop_assert!(x.len() <= MAX_DISK_NAME && !x.ends_with('-'));
            prop_assert_eq!(x == y, a == b);
        }
    }
}
