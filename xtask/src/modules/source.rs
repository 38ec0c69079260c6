//! A crate's sources as a tree of modules, each with what it declares, what it imports and what it mentions.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use syn::{Attribute, Item};

use super::scan::{self, Import, Mention, attributes, imports, is_test, plain};

/// Index of a module in [`Crate::modules`].
pub(crate) type ModuleId = usize;

/// One target of a package.
pub(crate) struct Crate {
    /// The root module is the first.
    pub(crate) modules: Vec<Module>,
}

/// One module, in a file of its own or inline.
pub(crate) struct Module {
    /// Segments below the crate root; empty for the root.
    pub(crate) path: Vec<String>,
    /// The file that it is in.
    pub(crate) file: PathBuf,
    pub(crate) parent: Option<ModuleId>,
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// Names that are declared here: functions, types, constants, macros.
    pub(crate) items: BTreeSet<String>,
    /// Names that `use` brings in, with their paths as written.
    pub(crate) imports: Vec<Import>,
    /// All other paths.
    pub(crate) mentions: Vec<Mention>,
    /// Lines with `async` or `.await`.
    pub(crate) asynchronous: Vec<usize>,
}

/// Gives the text of a file.
pub(crate) type Load<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Reads a target from its root file.
pub(crate) fn read(root: &Path, load: Load<'_>) -> Result<Crate> {
    let mut krate = Crate { modules: Vec::new() };
    let below = root.parent().context("a root file is in a directory")?.to_owned();
    let id = krate.add(Vec::new(), root.to_owned(), None);
    let file = parse(root, load)?;
    krate.fill(id, &file.items, &below, load)?;
    Ok(krate)
}

fn parse(path: &Path, load: Load<'_>) -> Result<syn::File> {
    let text = load(path).with_context(|| format!("cannot read {}", path.display()))?;
    syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))
}

impl Crate {
    fn add(&mut self, path: Vec<String>, file: PathBuf, parent: Option<ModuleId>) -> ModuleId {
        self.modules.push(Module {
            path,
            file,
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            imports: Vec::new(),
            mentions: Vec::new(),
            asynchronous: Vec::new(),
        });
        self.modules.len() - 1
    }

    /// Takes in the items of a module; its child modules in files are below `directory`.
    fn fill(&mut self, id: ModuleId, items: &[Item], directory: &Path, load: Load<'_>) -> Result<()> {
        for item in items {
            if is_test(attributes(item)) {
                continue;
            }
            match item {
                Item::Mod(module) => self.child(id, module, directory, load)?,
                Item::Use(item) if item.leading_colon.is_some() => {}
                Item::Use(item) => imports(&item.tree, Vec::new(), &mut self.modules[id].imports),
                other => {
                    self.modules[id].items.extend(declared(other));
                    let found = scan::item(other);
                    let module = &mut self.modules[id];
                    module.imports.extend(found.imports);
                    module.mentions.extend(found.mentions);
                    module.asynchronous.extend(found.asynchronous);
                }
            }
        }
        Ok(())
    }

    fn child(&mut self, parent: ModuleId, module: &syn::ItemMod, directory: &Path, load: Load<'_>) -> Result<()> {
        let name = plain(&module.ident);
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let below = directory.join(&name);
        let (file, items) = match &module.content {
            Some((_, items)) => (self.modules[parent].file.clone(), items.clone()),
            None => {
                let file = named_file(&module.attrs, directory).unwrap_or_else(|| directory.join(format!("{name}.rs")));
                let items = parse(&file, load)?.items;
                (file, items)
            }
        };
        let id = self.add(path, file, Some(parent));
        self.modules[parent].children.insert(name, id);
        self.fill(id, &items, &below, load)
    }
}

/// `#[path = "…"]`.
fn named_file(attributes: &[Attribute], directory: &Path) -> Option<PathBuf> {
    attributes.iter().find_map(|attribute| {
        let pair = attribute
            .meta
            .require_name_value()
            .ok()
            .filter(|pair| pair.path.is_ident("path"))?;
        match &pair.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) => Some(directory.join(text.value())),
            _ => None,
        }
    })
}

fn declared(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(plain(ident))
}
