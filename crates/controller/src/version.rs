//! Resource versions that can be compared (KEP-5504: decimal integers of one storage).

use std::fmt;

/// The resource version of an object, a list or a bookmark.
///
/// Versions of one API server order its writes. What is not a decimal number cannot be compared and is [`Version::NONE`], which is
/// older than everything; an index then takes the latest word that it heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Before everything.
    pub const NONE: Self = Self(0);

    /// Reads a version; [`Self::NONE`] for what is not one.
    pub fn parse(text: &str) -> Self {
        Self(text.parse().unwrap_or_default())
    }

    /// The version of an object's metadata.
    pub fn of(text: Option<&String>) -> Self {
        text.map_or(Self::NONE, |text| Self::parse(text))
    }
}

impl From<u64> for Version {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers_and_not_as_text() {
        assert!(Version::parse("10") > Version::parse("9"));
        assert_eq!(Version::parse("not a number"), Version::NONE);
        assert!(Version::parse("1") > Version::NONE);
    }
}
