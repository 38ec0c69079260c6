//! Which module uses which, and the circles in that.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    scan::Import,
    source::{Crate, ModuleId},
};

/// How many re-exports a path is followed through; a real one needs two or three.
const MAX_REEXPORTS: usize = 16;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A module itself.
    Module(ModuleId),
    /// Something that the module declares.
    Item(ModuleId, String),
    /// Something of another crate, with its path there.
    Foreign(Vec<String>),
}

/// One use, the first of its kind in the module.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// What is used, as it was written.
    pub(crate) path: String,
    pub(crate) line: usize,
}

/// The modules of a crate and their uses of one another.
pub(crate) struct Graph<'a> {
    pub(crate) krate: &'a Crate,
    edges: BTreeMap<ModuleId, BTreeMap<ModuleId, Use>>,
}

impl<'a> Graph<'a> {
    pub(crate) fn of(krate: &'a Crate) -> Self {
        let mut graph = Self {
            krate,
            edges: BTreeMap::new(),
        };
        for (id, module) in krate.modules.iter().enumerate() {
            let mentions = module
                .mentions
                .iter()
                .map(|mention| (&mention.path, mention.line, false));
            let imports = module
                .imports
                .iter()
                .map(|import| (&import.path, import.line, import.glob));
            for (path, line, glob) in mentions.chain(imports) {
                let to = match graph.resolve(id, path) {
                    Some(Target::Item(to, _)) => to,
                    Some(Target::Module(to)) if glob => to,
                    _ => continue,
                };
                if to != id {
                    let path = path.join("::");
                    graph
                        .edges
                        .entry(id)
                        .or_default()
                        .entry(to)
                        .or_insert(Use { path, line });
                }
            }
        }
        graph
    }

    /// What a path that stands in a module leads to.
    pub(crate) fn resolve(&self, from: ModuleId, path: &[String]) -> Option<Target> {
        self.lookup(from, path, MAX_REEXPORTS, true)
    }

    /// `relative` is whether the first segment is looked up as code in the module sees it, other crates included.
    fn lookup(&self, from: ModuleId, path: &[String], depth: usize, relative: bool) -> Option<Target> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let module = &self.krate.modules[from];
        match first.as_str() {
            "crate" => return self.descend(0, rest, depth),
            "self" => return self.descend(from, rest, depth),
            "super" => return self.descend(module.parent?, rest, depth),
            _ => {}
        }
        if let Some(found) = self.member(from, first, rest, depth) {
            return Some(found);
        }
        relative.then(|| Target::Foreign(path.to_vec()))
    }

    fn descend(&self, id: ModuleId, path: &[String], depth: usize) -> Option<Target> {
        match path.split_first() {
            None => Some(Target::Module(id)),
            Some((first, rest)) if first == "super" => self.descend(self.krate.modules[id].parent?, rest, depth),
            Some((first, rest)) => self.member(id, first, rest, depth),
        }
    }

    /// A name in a module: declared, a child, imported, or under a glob; and the rest of the path from there.
    fn member(&self, id: ModuleId, name: &str, rest: &[String], depth: usize) -> Option<Target> {
        let module = &self.krate.modules[id];
        let child = module.children.get(name);
        let declared = module.items.contains(name);
        if let Some(child) = child
            && !(rest.is_empty() && declared)
        {
            return self.descend(*child, rest, depth);
        }
        if declared {
            return Some(Target::Item(id, name.to_owned()));
        }
        let imported = module
            .imports
            .iter()
            .filter(|import| import.name.as_deref() == Some(name));
        for Import { path, .. } in imported {
            let whole: Vec<String> = path.iter().chain(rest).cloned().collect();
            // `use x::x` must not look itself up.
            if whole.first().is_some_and(|first| first == name) && !module.children.contains_key(name) {
                return Some(Target::Foreign(whole));
            }
            if let Some(found) = self.lookup(id, &whole, depth, true) {
                return Some(found);
            }
        }
        for glob in module.imports.iter().filter(|import| import.glob) {
            let whole: Vec<String> = glob
                .path
                .iter()
                .chain([&name.to_owned()])
                .chain(rest)
                .cloned()
                .collect();
            if glob.path.first().is_some_and(|first| {
                matches!(first.as_str(), "crate" | "self" | "super") || module.children.contains_key(first)
            }) && let Some(found) = self.lookup(id, &whole, depth, false)
            {
                return Some(found);
            }
        }
        None
    }

    pub(crate) fn uses(&self, from: ModuleId) -> impl Iterator<Item = (ModuleId, &Use)> {
        self.edges.get(&from).into_iter().flatten().map(|(to, how)| (*to, how))
    }

    /// The strongly connected components of more than one module, largest first.
    pub(crate) fn circles(&self) -> Vec<Circle> {
        let all = 0..self.krate.modules.len();
        let reach: Vec<BTreeSet<ModuleId>> = all.clone().map(|id| self.reachable(id)).collect();
        let mut done = BTreeSet::new();
        let mut circles = Vec::new();
        for id in all {
            if done.contains(&id) || !reach[id].contains(&id) {
                continue;
            }
            let members: BTreeSet<ModuleId> = reach[id]
                .iter()
                .copied()
                .filter(|other| reach[*other].contains(&id))
                .collect();
            done.extend(members.iter().copied());
            circles.push(Circle { members });
        }
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.members.len()));
        circles
    }

    fn reachable(&self, from: ModuleId) -> BTreeSet<ModuleId> {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(id) = open.pop() {
            for (to, _) in self.uses(id) {
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        seen
    }
}

/// Modules that all use one another, directly or through others.
pub(crate) struct Circle {
    pub(crate) members: BTreeSet<ModuleId>,
}

impl Circle {
    /// The members, and each use inside the circle.
    pub(crate) fn describe(&self, graph: &Graph<'_>) -> String {
        let name = |id: ModuleId| match graph.krate.modules[id].path.join("::") {
            path if path.is_empty() => "crate".to_owned(),
            path => path,
        };
        let mut text = format!("{} modules use one another:", self.members.len());
        for from in &self.members {
            for (to, how) in graph.uses(*from).filter(|(to, _)| self.members.contains(to)) {
                text.push_str(&format!(
                    "\n      {} -> {}   ({}, line {})",
                    name(*from),
                    name(to),
                    how.path,
                    how.line
                ));
            }
        }
        text
    }
}
