//! Up to where the changes of each kind have been read: a reader's place in all logs at once.

use std::collections::BTreeSet;

use steading_controller::{
    ObjectRef,
    changes::{Cursor, Expired},
};

use super::{
    index::{Observed, Subject, defaults_of, of_preference, of_type},
    usage::MadeFrom,
};

/// Up to where the changes of each kind have been read.
#[derive(Debug)]
pub struct Places {
    templates: Cursor,
    images: Cursor,
    volumes: Cursor,
    revisions: Cursor,
    instance_types: Cursor,
    preferences: Cursor,
    machines: Cursor,
    pools: Cursor,
}

impl Places {
    /// The ends of all logs.
    pub fn of(seen: &Observed) -> Self {
        Self {
            templates: seen.templates.index().end(),
            images: seen.images.index().end(),
            volumes: seen.volumes.index().end(),
            revisions: seen.revisions.index().end(),
            instance_types: seen.instance_types.index().end(),
            preferences: seen.preferences.index().end(),
            machines: seen.machines.index().end(),
            pools: seen.pools.index().end(),
        }
    }

    /// What has to be looked at after what changed since; the place moves to the ends.
    ///
    /// # Errors
    /// If a log does not reach back so far. The place has moved all the same.
    pub fn go_on(&mut self, seen: &Observed) -> Result<BTreeSet<Subject>, Expired> {
        let templates = seen.templates.index().news(&mut self.templates);
        let images = seen.images.index().news(&mut self.images);
        let volumes = seen.volumes.index().news(&mut self.volumes);
        let revisions = seen.revisions.index().news(&mut self.revisions);
        let instance_types = seen.instance_types.index().news(&mut self.instance_types);
        let preferences = seen.preferences.index().news(&mut self.preferences);
        let machines = seen.machines.index().news(&mut self.machines);
        let pools = seen.pools.index().news(&mut self.pools);
        let mut all: BTreeSet<Subject> = BTreeSet::new();
        let template = |object: &ObjectRef| Subject::Template(object.name.to_string());
        all.extend(templates?.iter().map(|change| template(&change.object)));
        for change in images? {
            all.extend(seen.after_image(&change.object.name));
            let gave = change.before.iter().flat_map(|before| defaults_of(before));
            all.extend(gave.flat_map(|entry| seen.naming(&entry)));
        }
        for change in volumes? {
            all.extend(seen.after_volume(&change));
        }
        for change in revisions? {
            let sides = change.before.iter().chain(&change.after);
            for stored in sides {
                all.insert(Subject::Template(stored.template.clone()));
                // One that is gone frees the golden disks that it was made with.
                all.extend(stored.images().into_iter().map(Subject::Image));
            }
        }
        for change in instance_types? {
            all.extend(seen.after_entry(&of_type(&change.object.name), &change));
        }
        for change in preferences? {
            all.extend(seen.after_entry(&of_preference(&change.object.name), &change));
        }
        let of_machine = |machine: &MadeFrom| Subject::Template(machine.template.clone());
        for change in machines? {
            let sides = change.before.iter().chain(&change.after);
            all.extend(sides.map(|machine| of_machine(machine)));
        }
        for change in pools? {
            let sides = change.before.iter().chain(&change.after);
            all.extend(sides.map(|pool| Subject::Template(pool.template.clone())));
        }
        Ok(all)
    }
}
