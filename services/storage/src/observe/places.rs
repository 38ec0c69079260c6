//! Up to where the changes of each kind have been read: a reader's place in the five logs at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use steading_controller::changes::{Cursor, Expired};

use super::{Observed, Subject};
use crate::domain::volume::Volume;

/// A place in the logs. As text it is a resume token, which another replica or a later process takes for expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    volumes: Cursor,
    claims: Cursor,
    machines: Cursor,
    instances: Cursor,
    nodes: Cursor,
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            volumes,
            claims,
            machines,
            instances,
            nodes,
        } = self;
        write!(f, "{volumes}-{claims}-{machines}-{instances}-{nodes}")
    }
}

impl FromStr for Places {
    type Err = Expired;

    fn from_str(text: &str) -> Result<Self, Expired> {
        let mut parts = text.split('-').map(str::parse::<Cursor>);
        let mut next = || parts.next().unwrap_or(Err(Expired));
        let places = Self {
            volumes: next()?,
            claims: next()?,
            machines: next()?,
            instances: next()?,
            nodes: next()?,
        };
        match parts.next() {
            None => Ok(places),
            Some(_) => Err(Expired),
        }
    }
}

impl Places {
    /// The ends of all logs.
    pub fn of(seen: &Observed) -> Self {
        Self {
            volumes: seen.volumes.index().end(),
            claims: seen.claims.index().end(),
            machines: seen.machines.index().end(),
            instances: seen.instances.index().end(),
            nodes: seen.nodes.index().end(),
        }
    }

    /// The volumes that changed since, each as it was last.
    ///
    /// # Errors
    /// If the log does not reach back so far.
    pub fn last_states(&self, seen: &Observed) -> Result<BTreeMap<(String, String), Arc<Volume>>, Expired> {
        let changes = seen.volumes.index().since(self.volumes)?;
        let last = changes.into_iter().filter_map(|(_, change)| {
            let (namespace, id) = (change.object.namespace.to_string(), change.object.name.to_string());
            Some(((namespace, id), change.before?))
        });
        Ok(last.collect())
    }

    /// What changed since, everywhere or in one namespace; the place moves to the ends.
    ///
    /// # Errors
    /// If a log does not reach back so far. The place has moved all the same.
    pub fn go_on(&mut self, seen: &Observed, namespace: Option<&str>) -> Result<BTreeSet<Subject>, Expired> {
        let here =
            |object: &steading_controller::ObjectRef| namespace.is_none_or(|wanted| wanted == &*object.namespace);
        let mut all = BTreeSet::new();
        let volumes = seen.volumes.index().news(&mut self.volumes);
        let claims = seen.claims.index().news(&mut self.claims);
        let machines = seen.machines.index().news(&mut self.machines);
        let instances = seen.instances.index().news(&mut self.instances);
        let nodes = seen.nodes.index().news(&mut self.nodes);
        for change in volumes?.iter().filter(|change| here(&change.object)) {
            all.extend(seen.after_volume(change));
        }
        for change in claims?.iter().filter(|change| here(&change.object)) {
            all.extend(seen.after_claim(change));
        }
        for change in machines?.iter().filter(|change| here(&change.object)) {
            all.extend(seen.after_machine(change));
        }
        for change in instances?.iter().filter(|change| here(&change.object)) {
            all.extend(seen.after_instance(change));
        }
        for change in &nodes? {
            all.extend(seen.after_node(change));
        }
        Ok(all)
    }
}
