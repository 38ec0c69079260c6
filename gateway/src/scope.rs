//! Scopes of the configuration: packages, services and methods by their full names.

/// Whether a full name is `scope`, or lies within it; everything lies within the empty scope.
pub(crate) fn is_within(name: &str, scope: &str) -> bool {
    scope.is_empty()
        || name
            .strip_prefix(scope)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
}
