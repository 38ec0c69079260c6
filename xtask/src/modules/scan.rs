//! What an item mentions: paths in code, in macros' arguments and in attributes, imports inside functions, and `async`.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// One name of a `use` declaration.
pub(crate) struct Import {
    /// The name in this module; none for a glob, and for `as _`.
    pub(crate) name: Option<String>,
    pub(crate) path: Vec<String>,
    pub(crate) glob: bool,
    pub(crate) line: usize,
}

/// A path somewhere in a module.
#[derive(Clone, Debug)]
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) imports: Vec<Import>,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) asynchronous: Vec<usize>,
}

/// Scans one item that is no module and no `use`.
pub(crate) fn item(item: &Item) -> Found {
    let mut found = Found::default();
    found.visit_item(item);
    found
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        imports(&item.tree, Vec::new(), &mut self.imports);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
        self.mentions.push(Mention {
            path: segments,
            line: path.span().start().line,
        });
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        visit::visit_macro(self, mac);
        self.tokens(mac.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        visit::visit_attribute(self, attribute);
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(keyword) = &signature.asyncness {
            self.asynchronous.push(keyword.span.start().line);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.asynchronous.push(block.span().start().line);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.asynchronous.push(expression.span().start().line);
        visit::visit_expr_await(self, expression);
    }
}

impl Found {
    /// Paths in tokens that only their macro understands, and in texts such as `#[serde(with = "crate::x")]`.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            index += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut path = vec![first.to_string()];
                    while let Some(next) = continued(&tokens, index) {
                        path.push(next);
                        index += 3;
                    }
                    let line = first.span().start().line;
                    self.mentions.push(Mention { path, line });
                }
                TokenTree::Literal(literal) => self.text(literal),
                TokenTree::Punct(_) => {}
            }
        }
    }

    fn text(&mut self, literal: &proc_macro2::Literal) {
        let text = literal.to_string();
        let text = text.trim_matches('"');
        let own = ["crate::", "super::", "self::"]
            .iter()
            .any(|start| text.starts_with(start));
        if own
            && text
                .chars()
                .all(|letter| letter.is_alphanumeric() || "_:".contains(letter))
        {
            let path = text.split("::").map(str::to_owned).collect();
            let line = literal.span().start().line;
            self.mentions.push(Mention { path, line });
        }
    }
}

/// The segment after `::` at `index`.
fn continued(tokens: &[TokenTree], index: usize) -> Option<String> {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    match tokens.get(index + 2) {
        Some(TokenTree::Ident(ident)) if colon(index) && colon(index + 1) => Some(ident.to_string()),
        _ => None,
    }
}

/// Whether an item is compiled for tests only: tests may use whatever they test.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|only| only == "test")
    })
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// An identifier without `r#`.
pub(crate) fn plain(ident: &syn::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or(text.clone(), str::to_owned)
}

/// Flattens a `use` tree.
pub(crate) fn imports(tree: &UseTree, mut path: Vec<String>, into: &mut Vec<Import>) {
    let line = tree.span().start().line;
    match tree {
        UseTree::Path(step) => {
            path.push(plain(&step.ident));
            imports(&step.tree, path, into);
        }
        UseTree::Name(name) => {
            let name = plain(&name.ident);
            let known_as = if name == "self" {
                path.last().cloned()
            } else {
                Some(name.clone())
            };
            if name != "self" {
                path.push(name);
            }
            into.push(Import {
                name: known_as,
                path,
                glob: false,
                line,
            });
        }
        UseTree::Rename(rename) => {
            let (name, known_as) = (plain(&rename.ident), plain(&rename.rename));
            if name != "self" {
                path.push(name);
            }
            let known_as = (known_as != "_").then_some(known_as);
            into.push(Import {
                name: known_as,
                path,
                glob: false,
                line,
            });
        }
        UseTree::Glob(_) => into.push(Import {
            name: None,
            path,
            glob: true,
            line,
        }),
        UseTree::Group(group) => {
            for tree in &group.items {
                imports(tree, path.clone(), into);
            }
        }
    }
}
