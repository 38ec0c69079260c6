//! Ids: the last segments of resource names, and the names of Kubernetes objects made from them.
//!
//! | type | form | longest | used for |
//! |---|---|---|---|
//! | [`Id`] | `[a-z]([a-z0-9-]*[a-z0-9])?`, no `--` | 28 | what a user chooses: projects, clusters, pools, templates, storage classes, maintenances |
//! | [`ObjectId`] | a DNS label, no `--` excluded | 63 | what we or Kubernetes make up: machines, volumes, snapshots |
//! | [`CatalogueId`] | DNS labels joined by dots, no `--` | 63 | instance types, preferences, images, policies (`u1.medium`) |
//! | [`ServiceId`] | `<namespace>.<service>` | 127 | load balancers, which are the tenants' Services |
//! | [`NodeId`] | a DNS subdomain | 253 | infra nodes |
//!
//! An [`Id`] has no `--` so that `<project>--<cluster>` splits in one way only and, with 28 characters a side,
//! fits a namespace's 63.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// More characters than the kind of id allows.
    #[error("must have at most {max} characters, has {actual}")]
    TooLong {
        /// Most characters allowed.
        max: usize,
        /// Characters given.
        actual: usize,
    },
    /// The text breaks the form.
    #[error("{text:?} must match {form}")]
    Form {
        /// The text as given.
        text: String,
        /// The rule in words that a client understands.
        form: &'static str,
    },
}

/// Most characters of an [`Id`]: two of them and `--` fit a Kubernetes namespace (63).
pub const MAX_ID: usize = 28;
/// Most characters of a DNS label (RFC 1123), which also bounds Kubernetes label values.
pub const MAX_LABEL: usize = 63;
/// Most characters of a DNS subdomain as Kubernetes accepts it for object names.
pub const MAX_SUBDOMAIN: usize = 253;
/// Most characters of a tenant Service's id: two DNS labels and a dot.
pub const MAX_SERVICE: usize = 2 * MAX_LABEL + 1;

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

fn is_id(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.contains("--")
}

fn is_catalogue_id(text: &str) -> bool {
    !text.contains("--") && text.split('.').all(is_label)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| label.len() <= MAX_LABEL && is_label(label))
}

fn is_service(text: &str) -> bool {
    let labels = |label: &str| label.len() <= MAX_LABEL && is_label(label);
    text.split_once('.')
        .is_some_and(|(namespace, service)| labels(namespace) && labels(service))
}

fn check(text: &str, max: usize, form: &'static str, fits: fn(&str) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    // Characters for the message; the forms are ASCII, so that bytes and characters agree whenever it fits.
    if text.len() > max {
        return Err(IdError::TooLong {
            max,
            actual: text.chars().count(),
        });
    }
    if fits(text) {
        Ok(())
    } else {
        Err(IdError::Form {
            text: text.to_owned(),
            form,
        })
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $max:expr, $form:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes the text if it has the form of this kind of id.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text, $max, $form, $fits)?;
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type! {
    /// An id that a user chooses: `[a-z]([a-z0-9-]*[a-z0-9])?`, at most 28 characters, no `--`.
    Id, MAX_ID, "[a-z]([a-z0-9-]*[a-z0-9])? without `--`", is_id
}
id_type! {
    /// An id that is made up by Steading or Kubernetes: a DNS label of at most 63 characters.
    ObjectId, MAX_LABEL, "[a-z0-9]([a-z0-9-]*[a-z0-9])?", is_label
}
id_type! {
    /// An id of the catalogue: DNS labels joined by dots (`u1.medium`), at most 63 characters, no `--`.
    CatalogueId, MAX_LABEL, "[a-z0-9]([a-z0-9-]*[a-z0-9])? joined by dots, without `--`", is_catalogue_id
}
id_type! {
    /// A tenant's Service: its namespace and its name, joined by a dot (`default.web`).
    ServiceId, MAX_SERVICE, "<namespace>.<service>", is_service
}
id_type! {
    /// Name of an infra node: a DNS subdomain of at most 253 characters.
    NodeId, MAX_SUBDOMAIN, "a DNS subdomain", is_subdomain
}

impl From<Id> for ObjectId {
    fn from(id: Id) -> Self {
        Self(id.0)
    }
}

impl From<Id> for CatalogueId {
    fn from(id: Id) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_keep_their_form() {
        for good in ["a", "a1", "web-1", &"a".repeat(28)] {
            assert!(Id::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "A", "a-", "-a", "a--b", "a_b", "a.b", "ä", &"a".repeat(29)] {
            assert!(Id::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn object_ids_are_dns_labels() {
        assert!(ObjectId::parse("pvc-0f5c--x").is_ok());
        assert!(ObjectId::parse("7f").is_ok());
        assert!(ObjectId::parse("a".repeat(64)).is_err());
        assert!(ObjectId::parse("a.b").is_err());
        assert!(ServiceId::parse("default.web").is_ok());
        assert!(ServiceId::parse("default").is_err() && ServiceId::parse("a.b.c").is_err());
    }

    #[test]
    fn catalogue_ids_may_have_dots_but_never_what_splits_scopes() {
        assert!(CatalogueId::parse("u1.2xlarge").is_ok());
        assert!(CatalogueId::parse("a..b").is_err());
        assert!(CatalogueId::parse("a--b").is_err());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(
            Id::parse("").map_err(|e| e.to_string()),
            Err("must not be empty".into())
        );
        let long = Id::parse("a".repeat(40)).map_err(|e| e.to_string());
        assert_eq!(long, Err("must have at most 28 characters, has 40".into()));
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<Id>("\"ok\"").is_ok());
        assert!(serde_json::from_str::<Id>("\"Not-ok\"").is_err());
    }

    proptest! {
        #[test]
        fn whatever_matches_the_rule_is_taken(text in "[a-z]([a-z0-9]|-[a-z0-9]){0,13}") {
            prop_assert_eq!(Id::parse(text.clone()).map(|id| id.to_string()), Ok(text));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = (Id::parse(text.clone()), ObjectId::parse(text.clone()), CatalogueId::parse(text.clone()), NodeId::parse(text));
        }
    }
}
