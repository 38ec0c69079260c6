//! What of the demonstration there is in the infra cluster: every object of every kind with its project's label.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    discovery::{Discovery, verbs},
};
use steading_infra::labels;

use super::objects::PROJECT;
use crate::kinds::id_of;

/// Kinds listed at once: a cluster has about a hundred.
const CONCURRENT_LISTS: usize = 8;
/// Objects of a kind that are counted at most; more than none are too many anyway.
const MAX_OBJECTS: u32 = 500;
/// How long deletions may take to complete: garbage collection continues after the last request.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What there should have been before everything was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Something, or the count saw nothing at all.
    Something,
    /// Perhaps nothing.
    Anything,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Names by kind; kinds without any are left out.
    pub objects: BTreeMap<String, Vec<String>>,
    /// Kinds that could not be listed.
    pub unreadable: Vec<String>,
}

impl Census {
    /// Counts.
    ///
    /// # Errors
    /// If the API server does not tell its kinds.
    pub async fn take(client: &Client) -> anyhow::Result<Self> {
        let discovery = Discovery::new(client.clone())
            .run()
            .await
            .context("the infra cluster does not tell its kinds")?;
        let kinds: Vec<ApiResource> = discovery
            .groups()
            .flat_map(kube::discovery::ApiGroup::recommended_resources)
            .filter(|(_, capabilities)| capabilities.supports_operation(verbs::LIST))
            .map(|(kind, _)| kind)
            .collect();
        let counted: Vec<_> = stream::iter(kinds)
            .map(|kind| async move {
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
                (list(&api, &kind).await, kind)
            })
            .buffer_unordered(CONCURRENT_LISTS)
            .collect()
            .await;
        let mut census = Self::default();
        for (names, kind) in counted {
            match names {
                Ok(names) if names.is_empty() => {}
                Ok(names) => {
                    census.objects.entry(kind.kind).or_default().extend(names);
                }
                // The kind went meanwhile.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => {
                    tracing::debug!(kind = kind.kind, %error, "cannot be listed");
                    census.unreadable.push(kind.kind);
                }
            }
        }
        census.unreadable.sort();
        Ok(census)
    }

    /// Counts until nothing is left.
    ///
    /// # Errors
    /// As [`Census::take`]; what is left after a minute is returned.
    pub async fn until_empty(client: &Client) -> anyhow::Result<Self> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let census = Self::take(client).await?;
            if census.objects.is_empty() || tokio::time::Instant::now() > deadline {
                return Ok(census);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How many objects.
    pub fn total(&self) -> usize {
        self.objects.values().map(Vec::len).sum()
    }

    /// The verdict, given what there was before the clean-up.
    ///
    /// # Errors
    /// What is left, or that nothing had been there to go.
    pub fn verdict(&self, before: &Self, expected: Before) -> Result<String, String> {
        if !self.objects.is_empty() {
            let kinds: Vec<_> = self
                .objects
                .iter()
                .map(|(kind, names)| format!("{kind} {}", names.join(", ")))
                .collect();
            return Err(format!("left: {}", kinds.join("; ")));
        }
        if before.objects.is_empty() && expected == Before::Something {
            return Err("nothing had been there to begin with".to_owned());
        }
        let unread = match self.unreadable.as_slice() {
            [] => String::new(),
            [first, ..] => format!("; {} kinds could not be listed, such as {first}", self.unreadable.len()),
        };
        Ok(format!(
            "0 of {} objects of {} kinds{unread}",
            before.total(),
            before.objects.len()
        ))
    }
}

/// Names of the demonstration's objects of one kind: by label, and namespaces also by name.
async fn list(api: &Api<DynamicObject>, kind: &ApiResource) -> kube::Result<Vec<String>> {
    let project = id_of(PROJECT);
    let mut params = ListParams::default().limit(MAX_OBJECTS);
    let by_name = kind.kind == "Namespace" && kind.group.is_empty();
    if !by_name {
        params = params.labels(&format!("{}={project}", labels::PROJECT));
    }
    let prefix = format!("{project}{}", labels::PROJECT_SEPARATOR);
    let found = api.list(&params).await?.items;
    let ours = found
        .into_iter()
        .filter(|o| !by_name || o.name_any().starts_with(&prefix));
    let name = |object: DynamicObject| match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    };
    Ok(ours.map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_fails_and_so_does_a_count_of_nothing() {
        let some = Census {
            objects: [("Secret".to_owned(), vec!["a/b".to_owned()])].into(),
            unreadable: Vec::new(),
        };
        let none = Census::default();
        let something = Before::Something;
        assert_eq!(some.verdict(&some, something), Err("left: Secret a/b".to_owned()));
        assert!(none.verdict(&none, something).is_err());
        assert!(none.verdict(&none, Before::Anything).is_ok());
        assert_eq!(
            none.verdict(&some, something),
            Ok("0 of 1 objects of 1 kinds".to_owned())
        );
    }
}
