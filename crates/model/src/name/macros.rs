//! The parts that every resource name has in common: text conversions and serde as a string.

/// Adds `FromStr`, `TryFrom<String>` and `Into<String>` to a type with `parse_segments` and `Display`.
macro_rules! text_conversions {
    ($name:ident, $kind:literal, $pattern:literal) => {
        impl std::str::FromStr for $name {
            type Err = $crate::name::NameError;

            fn from_str(text: &str) -> Result<Self, $crate::name::NameError> {
                let segments: Vec<&str> = text.split('/').collect();
                Self::parse_segments(text, &segments)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::name::NameError;

            fn try_from(text: String) -> Result<Self, $crate::name::NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }

        impl From<&$name> for String {
            fn from(name: &$name) -> Self {
                name.to_string()
            }
        }

        impl $name {
            /// The kind as clients read it in `ResourceInfo`.
            pub const KIND: &'static str = $kind;
            /// The pattern of the name (AIP-122).
            pub const PATTERN: &'static str = $pattern;

            fn pattern_error(text: &str) -> $crate::name::NameError {
                $crate::name::NameError::Pattern {
                    text: text.to_owned(),
                    pattern: $pattern,
                }
            }

            fn segment_error(segment: &'static str) -> impl Fn($crate::ids::IdError) -> $crate::name::NameError {
                move |source| $crate::name::NameError::Segment {
                    segment,
                    pattern: $pattern,
                    source,
                }
            }
        }
    };
}

/// Adds [`super::ResourceName`]: `$own` is the type of the id of what is created, `$parent` and `$new` take a name apart and
/// put it together, `$namespace` says where the object is.
macro_rules! resource_name {
    ($name:ident, $own:ty, $parent_type:ty, $parent:expr, $new:expr, $namespace:expr) => {
        impl $crate::name::ResourceName for $name {
            const KIND: &'static str = Self::KIND;
            const PATTERN: &'static str = Self::PATTERN;
            type Parent = $parent_type;

            fn in_parent(parent: &Self::Parent, id: &str) -> Result<Self, $crate::ids::IdError> {
                let new: fn(&$parent_type, $own) -> Self = $new;
                Ok(new(parent, <$own>::parse(id)?))
            }

            fn parent(&self) -> Self::Parent {
                let parent: fn(&Self) -> $parent_type = $parent;
                parent(self)
            }

            fn object_name(&self) -> String {
                Self::object_name(self)
            }

            fn namespace(&self) -> Option<String> {
                let namespace: fn(&Self) -> Option<String> = $namespace;
                namespace(self)
            }
        }
    };
}

/// A name `<collection>/{id}` without a parent.
macro_rules! top_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $collection:literal, $field:ident: $id:ty, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            #[doc = concat!("The id in `", $pattern, "`.")]
            pub $field: $id,
        }

        $crate::name::macros::text_conversions!($name, $kind, $pattern);
        $crate::name::macros::resource_name!(
            $name,
            $id,
            $crate::name::NoParent,
            |_| $crate::name::NoParent,
            |_, id| Self::new(id),
            |_| None
        );

        impl $name {
            /// The name of this id.
            pub fn new($field: $id) -> Self {
                Self { $field }
            }

            /// Name of the Kubernetes object.
            pub fn object_name(&self) -> String {
                self.$field.to_string()
            }

            /// The name that an object stands for; `None` if its name is none of ours.
            pub fn from_object_name(name: &str) -> Option<Self> {
                <$id>::parse(name).ok().map(Self::new)
            }

            fn parse_segments(text: &str, segments: &[&str]) -> Result<Self, $crate::name::NameError> {
                match segments {
                    [$collection, id] => Ok(Self::new(<$id>::parse(*id).map_err(Self::segment_error(stringify!($field)))?)),
                    _ => Err(Self::pattern_error(text)),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($collection, "/{}"), self.$field)
            }
        }
    };
}

pub(super) use {resource_name, text_conversions, top_name};
