//! Volumes as lists and watches show them: joined from five kinds of objects, with one log of what changed.
//!
//! A place in the log is a place in the log of each kind. Inside a batch of changes it also says how far the batch was sent, so
//! that nothing of it is lost to a reader that is cut off there. Another replica, or the next process, takes it for expired.
//!
//! Attachments become unknown while machines cannot be watched, and known again afterwards. No object changes then, so this is
//! looked at by time, and part of the place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use steading_api::{standard::Resource, storage::v1 as proto};
use steading_controller::{Version, changes::Expired};
use steading_model::name::VolumeName;
use steading_runtime::{
    clock::Clock,
    standard::{CATCH_UP, Change, Index},
};

use super::convert::volume as convert;
use crate::{
    domain::volume::Volume,
    observe::{Observed, Subject, places::Places},
};

/// How often is looked whether machines can still be watched.
const SIGHT_POLL: Duration = Duration::from_secs(1);

/// Namespace and id of a volume.
type Key = (String, String);

/// The view of volumes. Cheap to make.
pub(super) struct VolumeIndex {
    observed: Observed,
    clock: Clock,
}

impl VolumeIndex {
    pub(super) fn new(observed: Observed, clock: Clock) -> Self {
        Self { observed, clock }
    }

    /// A volume as it was read or seen, with what is seen of its claim and attachment.
    pub(super) fn show(&self, volume: Arc<Volume>) -> proto::Volume {
        let observed = &self.observed;
        let lens = observed.lens(self.clock.now());
        let volume = observed.joined(volume);
        let attachment = observed.attachment(&volume, &lens);
        convert::volume(
            &volume,
            observed.claim(&volume).as_deref(),
            &lens.overheads,
            &attachment,
        )
    }

    fn place(&self) -> Place {
        Place {
            places: Places::of(&self.observed),
            sight: sight(&self.observed),
        }
    }

    /// The volumes that look different since a place, which moves to the end.
    fn touched(&self, place: &mut Place, namespace: Option<&str>) -> Result<BTreeSet<Key>, Expired> {
        let subjects = place.places.go_on(&self.observed, namespace)?;
        let mut touched: BTreeSet<Key> = subjects
            .into_iter()
            .filter_map(|subject| match subject {
                Subject::Volume(namespace, id) => Some((namespace, id)),
                Subject::Machine(..) => None,
            })
            .filter(|(of, _)| namespace.is_none_or(|wanted| wanted == of))
            .collect();
        let sight = sight(&self.observed);
        if place.sight != sight {
            place.sight = sight;
            let all = self.all(namespace).into_iter();
            touched.extend(all.map(|volume| (volume.name.namespace(), volume.name.object_name())));
        }
        Ok(touched)
    }

    fn all(&self, namespace: Option<&str>) -> Vec<Arc<Volume>> {
        let index = self.observed.volumes.index();
        let found = namespace.map_or_else(|| index.all(), |namespace| index.in_namespace(namespace));
        found.into_iter().map(|(_, volume)| volume).collect()
    }

    fn change(&self, (namespace, id): &Key, last: &BTreeMap<Key, Arc<Volume>>) -> Option<Change<proto::Volume>> {
        if let Some(volume) = self.observed.volumes.index().get(namespace, id) {
            return Some(Change::Present(volume.name.to_string()));
        }
        let last = last.get(&(namespace.clone(), id.clone())).cloned();
        let last = last.map(|volume| self.show(volume));
        let named = || {
            let mut named = proto::Volume::default();
            named.set_name(VolumeName::from_object(namespace, id)?.to_string());
            Some(named)
        };
        last.or_else(named).map(|last| Change::Gone(Box::new(last)))
    }
}

/// Tells whether attachments can be seen, and why not, from what was.
fn sight(observed: &Observed) -> u64 {
    observed.clouded().map_or(0, |why| {
        let mut hasher = DefaultHasher::new();
        why.hash(&mut hasher);
        hasher.finish()
    })
}

/// A place in the log between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    places: Places,
    sight: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.places, self.sight)
    }
}

impl FromStr for Place {
    type Err = Expired;

    fn from_str(text: &str) -> Result<Self, Expired> {
        let (places, sight) = text.rsplit_once('-').ok_or(Expired)?;
        Ok(Self {
            places: places.parse()?,
            sight: u64::from_str_radix(sight, 16).map_err(|_| Expired)?,
        })
    }
}

/// A place in the log, as text the token of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// Up to here the reader knows everything of the volumes that were sent.
    place: Place,
    /// Inside a batch: the place before it, and the last volume of it that was sent.
    within: Option<(Place, Key)>,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        match &self.within {
            Some((before, (namespace, id))) => write!(f, "/{before}/{namespace}/{id}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Token {
    type Err = Expired;

    fn from_str(text: &str) -> Result<Self, Expired> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [place] => Ok(Self {
                place: place.parse()?,
                within: None,
            }),
            [place, before, namespace, id] => Ok(Self {
                place: place.parse()?,
                within: Some((before.parse()?, ((*namespace).to_owned(), (*id).to_owned()))),
            }),
            _ => Err(Expired),
        }
    }
}

impl VolumeIndex {
    fn read_on(&self, token: &str, namespace: Option<&str>) -> Result<Vec<(String, Change<proto::Volume>)>, Expired> {
        let token: Token = token.parse()?;
        // What is pending of a batch is pending since before it.
        let start = token.within.as_ref().map_or(token.place, |(before, _)| *before);
        let last = start.places.last_states(&self.observed)?;
        let mut place = token.place;
        let mut touched = self.touched(&mut place, namespace)?;
        if let Some((mut before, sent)) = token.within {
            let pending = self.touched(&mut before, namespace)?;
            touched.extend(pending.into_iter().filter(|key| *key > sent));
        }
        let count = touched.len();
        let changes = touched.into_iter().enumerate().filter_map(|(number, key)| {
            let change = self.change(&key, &last)?;
            let within = (number + 1 < count).then_some((start, key));
            Some((Token { place, within }.to_string(), change))
        });
        Ok(changes.collect())
    }
}

impl Index<proto::Volume> for VolumeIndex {
    fn reaches<'a>(&'a self, version: &'a str) -> BoxFuture<'a, bool> {
        async move {
            let volumes = &self.observed.volumes;
            let reached = volumes.index().reaches(Version::parse(version));
            volumes.health().is_live() && tokio::time::timeout(CATCH_UP, reached).await.is_ok()
        }
        .boxed()
    }

    fn newest(&self) -> Option<String> {
        let volumes = &self.observed.volumes;
        volumes
            .health()
            .is_live()
            .then(|| volumes.index().version().to_string())
    }

    fn joined(&self) -> Option<BoxFuture<'_, ()>> {
        let listed = async {
            while !self.observed.is_synced() {
                tokio::time::sleep(SIGHT_POLL).await;
            }
        };
        Some(listed.boxed())
    }

    fn names(&self, namespace: Option<&str>) -> Vec<String> {
        let all = self.all(namespace).into_iter();
        all.map(|volume| volume.name.to_string()).collect()
    }

    fn get(&self, name: &str) -> Option<proto::Volume> {
        let name: VolumeName = name.parse().ok()?;
        let volumes = self.observed.volumes.index();
        let volume = volumes.get(&name.namespace(), &name.object_name())?;
        Some(self.show(volume))
    }

    fn end(&self) -> String {
        self.place().to_string()
    }

    fn since(&self, place: &str, namespace: Option<&str>) -> Option<Vec<(String, Change<proto::Volume>)>> {
        self.read_on(place, namespace).ok()
    }

    fn grows<'a>(&'a self, beyond: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let observed = &self.observed;
            let mut volumes = observed.volumes.index().changed();
            let mut claims = observed.claims.index().changed();
            let mut machines = observed.machines.index().changed();
            let mut instances = observed.instances.index().changed();
            let mut nodes = observed.nodes.index().changed();
            while self.end() == beyond {
                tokio::select! {
                    _ = volumes.changed() => {}
                    _ = claims.changed() => {}
                    _ = machines.changed() => {}
                    _ = instances.changed() => {}
                    _ = nodes.changed() => {}
                    () = tokio::time::sleep(SIGHT_POLL) => {}
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_as_text() {
        let place: Place = "1.2-1.3-1.4-1.5-1.6-ff".parse().expect("a place");
        let within = Some((place, ("acme--web".to_owned(), "data".to_owned())));
        for token in [Token { place, within: None }, Token { place, within }] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        for wrong in [
            "",
            "7",
            "1.2-1.3-1.4-1.5-1.6",
            "1.2-1.3-1.4-1.5-1.6-x",
            "1.2-1.3-1.4-1.5-1.6-0/data",
        ] {
            assert_eq!(wrong.parse::<Token>(), Err(Expired), "{wrong}");
        }
    }
}
