//! Which Cluster an API server belongs to, when several name it.

use jiff::Timestamp;

/// That a Cluster names an API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerClaim {
    /// When the Cluster was made.
    pub created: Timestamp,
    /// Its object name.
    pub cluster: String,
}

/// The Cluster that owns an API server: the oldest that names it. Every replica decides the same.
pub fn owner(claims: &[ServerClaim]) -> Option<&ServerClaim> {
    claims.iter().min()
}

/// What the owner of a claim that lost is called to the one that lost: Clusters of other projects are not named.
pub fn described(owner: &str, to: &str) -> String {
    let project = |name: &str| name.split_once("--").map(|(project, _)| project.to_owned());
    if project(owner) == project(to) {
        format!("the API server is already that of Cluster {owner}; nothing is done there for this one")
    } else {
        "the API server is already that of a Cluster of another project; nothing is done there for this one".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_claim(cluster: &str, second: i64) -> ServerClaim {
        ServerClaim {
            created: Timestamp::from_second(second).unwrap(),
            cluster: cluster.into(),
        }
    }

    #[test]
    fn the_oldest_cluster_owns_an_api_server_that_several_name() {
        let claims = [mk_claim("a--young", 2), mk_claim("b--old", 1), mk_claim("a--old", 1)];
        assert_eq!(owner(&claims).map(|one| one.cluster.as_str()), Some("a--old"));
        assert_eq!(owner(&[]), None);
    }

    #[test]
    fn a_cluster_of_another_project_is_not_named() {
        assert!(described("a--old", "a--young").contains("a--old"));
        assert!(!described("b--old", "a--young").contains("b--old"));
    }
}
