//! The collector of field violations: validation goes on after the first fault, so that a client learns all
//! of them at once.

use std::fmt;

/// One field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field as the request spells it, such as `machine_pool.replicas` or `disks[2].size`.
    pub path: String,
    /// What is wrong, for people.
    pub description: String,
}

/// Violations found so far. As an error it says them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A single one, for the rules that can be told in one line.
    pub fn one(path: impl Into<String>, description: impl Into<String>) -> Self {
        let mut all = Self::new();
        all.add(path, description);
        all
    }

    /// Notes a violation.
    pub fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation {
            path: path.into(),
            description: description.into(),
        });
    }

    /// Notes a violation unless the rule holds.
    pub fn require(&mut self, rule: bool, path: impl Into<String>, description: impl Into<String>) {
        if !rule {
            self.add(path, description);
        }
    }

    /// Takes the value, or notes the error as the violation of `path`.
    pub fn take<T, E: std::error::Error>(&mut self, path: impl Into<String>, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(path, chain(&error));
                None
            }
        }
    }

    /// Takes over the violations of a part, below `prefix`.
    pub fn nest(&mut self, prefix: &str, part: Self) {
        for violation in part.0 {
            let glue = if violation.path.is_empty() || violation.path.starts_with('[') {
                ""
            } else {
                "."
            };
            self.add(format!("{prefix}{glue}{}", violation.path), violation.description);
        }
    }

    /// Whether none was noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that were noted, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.0.iter()
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// The violations themselves, if there are any.
    pub fn finish(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Ends the collection with the value that was validated; `None` counts on a violation having been noted.
    ///
    /// # Errors
    /// The violations; one without a path if there is no value and nobody noted why.
    pub fn finish_with<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) => self.finish().map(|()| value),
            None if self.is_empty() => Err(Self::one("", "is not valid")),
            None => Err(self),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

impl IntoIterator for Violations {
    type Item = Violation;
    type IntoIter = std::vec::IntoIter<Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            let glue = if index == 0 { "" } else { "; " };
            match violation.path.as_str() {
                "" => write!(f, "{glue}{}", violation.description)?,
                path => write!(f, "{glue}{path}: {}", violation.description)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Id, name::ClusterName};

    #[test]
    fn all_faults_are_told_at_once_with_their_paths() {
        let mut disk = Violations::new();
        disk.add("size", "must be positive");
        let mut all = Violations::new();
        all.nest("machine_template.disks[1]", disk);
        all.require(false, "machine_template.cpu", "must be set");
        assert_eq!(all.take("id", Id::parse("x")), Id::parse("x").ok());
        assert_eq!(
            all.finish().map_err(|e| e.to_string()),
            Err("machine_template.disks[1].size: must be positive; machine_template.cpu: must be set".into())
        );
    }

    #[test]
    fn causes_are_part_of_the_description() {
        let mut all = Violations::new();
        assert!(
            all.take("parent", "projects/p/clusters/C".parse::<ClusterName>())
                .is_none()
        );
        assert!(all.to_string().contains("\"C\" must match"), "{all}");
    }

    #[test]
    fn nothing_noted_is_fine() {
        assert_eq!(Violations::new().finish_with(Some(1)), Ok(1));
        assert!(Violations::new().finish_with(None::<u8>).is_err());
    }
}
