//! Kubernetes versions, and how far a kubelet may be from its API server.
//!
//! The rule is Kubernetes' own (its version skew policy): a kubelet is never newer than the API server, and at most three minor versions older.

use std::fmt;

/// Minor versions that a kubelet may be behind.
const MAX_BEHIND: u32 = 3;

/// The part of a version that the skew policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// The version in a text such as `1.36.0`, `v1.36` or `v1.36.3+k3s1`; `None` if there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let core = text.split(['+', '-']).next().unwrap_or_default();
        let mut parts = core.split('.');
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        };
        let (major, minor) = (number(parts.next()?)?, number(parts.next()?)?);
        let rest: Vec<&str> = parts.collect();
        (rest.len() <= 1 && rest.iter().all(|part| number(part).is_some())).then_some(Self { major, minor })
    }

    /// Says why a kubelet of this version may not join an API server of that one.
    ///
    /// # Errors
    /// The reason, as a sentence without its subject.
    pub fn check_skew(self, server: Self) -> Result<(), String> {
        if self > server {
            return Err(format!("is newer than the cluster's API server ({server})"));
        }
        if self.major != server.major || server.minor - self.minor > MAX_BEHIND {
            return Err(format!(
                "is more than {MAX_BEHIND} minor versions older than the cluster's API server ({server})"
            ));
        }
        Ok(())
    }
}

/// Checks a pool's version against its API server's; versions that are not known yet are not held against it.
///
/// # Errors
/// As [`Version::check_skew`].
pub fn check_skew(kubelet: &str, server: Option<&str>) -> Result<(), String> {
    match (Version::parse(kubelet), server.and_then(Version::parse)) {
        (Some(kubelet), Some(server)) => kubelet.check_skew(server),
        (None, _) | (_, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_kubernetes_writes_them() {
        for text in ["1.36", "v1.36.0", "1.36.3", "v1.36.3+k3s1", "v1.36.0-rc.1"] {
            assert_eq!(Version::parse(text), Some(Version { major: 1, minor: 36 }), "{text}");
        }
        for text in ["", "1", "latest", "1.x", "1.36.0.1", "1.+3", "1.36."] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_kubelet_is_never_newer_and_at_most_three_behind() {
        let server = Some("v1.36.3");
        for fits in ["1.36.9", "1.33.0"] {
            assert_eq!(check_skew(fits, server), Ok(()), "{fits}");
        }
        assert!(check_skew("1.37.0", server).is_err_and(|why| why.contains("newer")));
        assert!(check_skew("1.32.9", server).is_err_and(|why| why.contains("older")));
        assert_eq!(check_skew("1.99.0", None), Ok(()), "unknown is not wrong");
    }
}
