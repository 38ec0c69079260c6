//! The API groups and their versions.

use std::collections::BTreeMap;

use super::state::ApiServer;

/// Served versions by group, preferred first.
pub(crate) fn groups(server: &ApiServer) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for def in server.store().definitions() {
        let versions = groups.entry(def.group.clone()).or_default();
        for version in &def.versions {
            if !versions.contains(&version.name) {
                versions.push(version.name.clone());
            }
        }
    }
    for bare in server.admission().bare() {
        groups.insert(
            bare.name.to_owned(),
            bare.versions.iter().map(ToString::to_string).collect(),
        );
    }
    for versions in groups.values_mut() {
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    }
    groups
}

/// Kubernetes' order of versions: GA before beta before alpha, higher before lower.
fn priority(version: &str) -> (u8, u64, u64) {
    let rest = version.trim_start_matches('v');
    let number = |text: &str| text.parse().unwrap_or(0);
    if let Some((major, minor)) = rest.split_once("beta") {
        (1, number(major), number(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (0, number(major), number(minor))
    } else {
        (2, number(rest), 0)
    }
}
