//! How much a claim must have so that a volume of some size fits: CDI keeps a part of each file system for itself.
//!
//! The arithmetic is CDI's own (`GetRequiredSpace` in its `pkg/util`): the image is aligned to whole mebibytes, and the
//! overhead is a share of the whole claim, not of the image.

use std::collections::BTreeMap;

use steading_model::quantity::Quantity;

use super::volume::VolumeMode;

/// CDI aligns images to this.
const ALIGNMENT: u64 = 1 << 20;
/// Ten-thousandths: CDI reads overheads with at most three decimals.
const WHOLE: u64 = 10_000;
/// CDI's default of 6 %, taken where its configuration cannot be read.
const DEFAULT: u64 = 600;

/// CDI's overheads of file systems, in ten-thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overheads {
    global: u64,
    classes: BTreeMap<String, u64>,
}

impl Default for Overheads {
    fn default() -> Self {
        Self {
            global: DEFAULT,
            classes: BTreeMap::new(),
        }
    }
}

impl Overheads {
    /// Overheads from CDI's configuration: shares such as `0.055`, in general and by infra storage class. What cannot be read is
    /// left at CDI's default.
    pub fn new<'a>(global: Option<&str>, classes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self {
            global: global.and_then(share).unwrap_or(DEFAULT),
            classes: classes
                .into_iter()
                .filter_map(|(class, text)| Some((class.to_owned(), share(text)?)))
                .collect(),
        }
    }

    /// What the claim of a volume must ask for.
    pub fn required(&self, size: Quantity, mode: VolumeMode, infra_class: &str) -> Quantity {
        match mode {
            VolumeMode::Block => size,
            VolumeMode::Filesystem => {
                let aligned = size.bytes().div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT);
                let share = self.of(infra_class);
                let whole = (u128::from(aligned) * u128::from(WHOLE)).div_ceil(u128::from(WHOLE - share));
                Quantity::from_bytes(u64::try_from(whole).unwrap_or(u64::MAX))
            }
        }
    }

    /// How large a disk fits into a claim of some capacity.
    pub fn usable(&self, capacity: Quantity, mode: VolumeMode, infra_class: &str) -> Quantity {
        match mode {
            VolumeMode::Block => capacity,
            VolumeMode::Filesystem => {
                let rest = u128::from(capacity.bytes()) * u128::from(WHOLE - self.of(infra_class)) / u128::from(WHOLE);
                let rest = u64::try_from(rest).unwrap_or(u64::MAX);
                Quantity::from_bytes(rest / ALIGNMENT * ALIGNMENT)
            }
        }
    }

    fn of(&self, infra_class: &str) -> u64 {
        self.classes.get(infra_class).copied().unwrap_or(self.global)
    }
}

/// Reads a share between 0 and 1.
fn share(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if whole.parse::<u64>().ok()? != 0 || decimals.len() > 4 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{decimals:0<4}").parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gib(gib: u64) -> Quantity {
        Quantity::from_bytes(gib << 30)
    }

    #[test]
    fn a_file_system_needs_more_than_its_disk_and_a_device_does_not() {
        let overheads = Overheads::new(Some("0.055"), [("slim", "0.01"), ("odd", "many")]);
        assert_eq!(overheads.required(gib(1), VolumeMode::Block, "any"), gib(1));
        assert_eq!(
            overheads.required(gib(1), VolumeMode::Filesystem, "any").bytes(),
            1_136_234_735
        );
        assert_eq!(
            overheads.required(gib(1), VolumeMode::Filesystem, "slim").bytes(),
            1_084_587_702
        );
        let odd = overheads.required(gib(1), VolumeMode::Filesystem, "odd");
        assert_eq!(odd, overheads.required(gib(1), VolumeMode::Filesystem, "any"));
    }

    #[test]
    fn odd_overheads_are_left_at_the_default() {
        for text in ["1", "1.5", "-0.1", "0.1x", ""] {
            assert_eq!(Overheads::new(Some(text), []), Overheads::default(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_asked_for_fits(mib in 1_u64..1 << 24, share in 0_u64..5000) {
            let overheads = Overheads::new(Some(&format!("0.{share:04}")), []);
            let size = Quantity::from_bytes(mib << 20);
            let required = overheads.required(size, VolumeMode::Filesystem, "");
            prop_assert_eq!(overheads.usable(required, VolumeMode::Filesystem, ""), size);
        }
    }
}
