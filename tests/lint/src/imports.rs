//! Paths in the production code of a file that may lead to another file of the crate.
//!
//! Collected from `use` trees, from paths in expressions, types and attributes, and from the tokens
//! of macro calls, which syn does not parse. A path is made absolute by the module that it stands
//! in. Paths to other crates are collected too: their absolute form leads to no other file.

use std::mem;

use proc_macro2::{Ident, Punct, Spacing, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, Macro, MetaList, UseTree};

use crate::source::{Source, is_test};

/// One path of the source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) line: usize,
    pub(crate) written: String,
    /// Absolute path without `crate`.
    pub(crate) target: Vec<String>,
}

/// All paths of a file, in the order of the text.
pub(crate) fn imports(source: &Source) -> Vec<Import> {
    let mut collector = Collector { module: source.module.clone(), imports: Vec::new() };
    collector.visit_file(&source.syntax);
    collector.imports
}

struct Collector {
    /// The module at this point of the walk, inline modules included.
    module: Vec<String>,
    imports: Vec<Import>,
}

impl Collector {
    fn add(&mut self, line: usize, path: &[String]) {
        let target = absolute(&self.module, path);
        self.imports.push(Import { line, written: path.join("::"), target });
    }

    fn add_tree(&mut self, mut path: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(part) => {
                path.push(name(&part.ident));
                self.add_tree(path, &part.tree);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(path.clone(), tree);
                }
            }
            UseTree::Name(last) => self.add_use(path, &last.ident),
            UseTree::Rename(last) => self.add_use(path, &last.ident),
            UseTree::Glob(glob) => {
                path.push("*".to_owned());
                self.add(glob.star_token.span.start().line, &path);
            }
        }
    }

    fn add_use(&mut self, mut path: Vec<String>, last: &Ident) {
        path.push(name(last));
        self.add(line(last), &path);
    }

    /// A path of one segment is a local name, or `super` in `pub(super)`.
    fn add_inline(&mut self, leading_colon: bool, segments: &[Ident]) {
        if let [first, _, ..] = segments
            && !leading_colon
        {
            let path: Vec<_> = segments.iter().map(name).collect();
            self.add(line(first), &path);
        }
    }

    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut chain = Chain::default();
        for token in tokens {
            if let Some(ended) = chain.push(&token) {
                self.add_inline(ended.leading_colon, &ended.segments);
            }
            if let TokenTree::Group(group) = token {
                self.add_tokens(group.stream());
            }
        }
        self.add_inline(chain.leading_colon, &chain.segments);
    }
}

impl Visit<'_> for Collector {
    fn visit_item_mod(&mut self, item: &ItemMod) {
        if !is_test(&item.attrs) {
            self.module.push(name(&item.ident));
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        if !is_test(&item.attrs) && item.leading_colon.is_none() {
            self.add_tree(Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.clone()).collect();
        self.add_inline(path.leading_colon.is_some(), &segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &Macro) {
        visit::visit_macro(self, call);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &MetaList) {
        visit::visit_meta_list(self, list);
        self.add_tokens(list.tokens.clone());
    }
}

/// A run of `a::b::c` in a token stream.
#[derive(Default)]
struct Chain {
    leading_colon: bool,
    segments: Vec<Ident>,
    /// Colons since the last segment.
    colons: usize,
}

impl Chain {
    /// The chain before `token`, if `token` does not continue it.
    fn push(&mut self, token: &TokenTree) -> Option<Chain> {
        match token {
            TokenTree::Punct(punct) if self.takes(punct) => {
                self.colons += 1;
                None
            }
            TokenTree::Ident(segment) if self.colons == 2 => {
                self.leading_colon |= self.segments.is_empty();
                self.segments.push(segment.clone());
                self.colons = 0;
                None
            }
            TokenTree::Ident(segment) => Some(mem::replace(self, Self::starting_with(segment))),
            _ => Some(mem::take(self)),
        }
    }

    /// The colon of `name: Type` stands alone; those of `::` are joint.
    fn takes(&self, punct: &Punct) -> bool {
        let joint = self.colons == 1 || punct.spacing() == Spacing::Joint;
        punct.as_char() == ':' && self.colons < 2 && joint
    }

    fn starting_with(segment: &Ident) -> Self {
        Self { segments: vec![segment.clone()], ..Self::default() }
    }
}

/// `path` as written in `module`. A path without `crate`, `self` or `super` is relative as well:
/// either its head is a child module, or it leads to another crate and to no file here.
fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    let mut target = module.to_vec();
    let mut rest = path;
    while let [head, tail @ ..] = rest {
        match head.as_str() {
            "crate" => target.clear(),
            "super" => drop(target.pop()),
            "self" => {}
            _ => break,
        }
        rest = tail;
    }
    target.extend_from_slice(rest);
    target
}

fn name(ident: &Ident) -> String {
    ident.unraw().to_string()
}

fn line(ident: &Ident) -> usize {
    ident.span().start().line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::sources;

    /// Lines and absolute paths of the file `a/b.rs` with this text.
    fn found(text: &str) -> Vec<(usize, String)> {
        let sources = sources(&[("a/b.rs", text)]);
        let imports = imports(&sources[0]).into_iter();
        imports.map(|import| (import.line, import.target.join("::"))).collect()
    }

    fn owned<const N: usize>(expected: [(usize, &str); N]) -> Vec<(usize, String)> {
        expected.map(|(line, path)| (line, path.to_owned())).into()
    }

    #[test]
    fn nested_use_trees_give_each_leaf() {
        let text = "use crate::{\n    c::{self, D as E},\n    f::*,\n};\n\
            pub use super::g;\nuse self::h::I;";
        let expected = [(2, "c::self"), (2, "c::D"), (3, "f::*"), (5, "a::g"), (6, "a::b::h::I")];
        assert_eq!(found(text), owned(expected));
    }

    #[test]
    fn inline_paths_are_found_in_types_and_expressions() {
        let text = "fn f(x: super::c::D) -> u8 {\n    crate::e::g::<crate::h::I>(x)\n}";
        assert_eq!(found(text), owned([(1, "a::c::D"), (2, "e::g"), (2, "h::I")]));
    }

    #[test]
    fn inline_paths_are_found_in_macros_and_attributes() {
        let text = "#[error(\"{}\", crate::c::d(x))]\nstruct S;\n\
            fn f() { vec![g(super::h::I::<u8> { x: ::y::z })]; }";
        assert_eq!(found(text), owned([(1, "c::d"), (3, "a::h::I")]));
    }

    #[test]
    fn super_in_an_inline_module_is_the_file() {
        let text = "mod inner { use super::super::c; use super::D; }";
        assert_eq!(found(text), owned([(1, "a::c"), (1, "a::b::D")]));
    }

    #[test]
    fn comments_strings_tests_and_other_crates_are_no_imports() {
        let text = "//! [`crate::c`]\nconst A: &str = \"crate::c::D\";\nuse ::c::D;\n\
            pub(super) fn f() {}\n#[cfg(test)]\nuse crate::c;\n\
            #[cfg(test)]\nmod tests { use crate::c; }";
        assert_eq!(found(text), []);
    }
}
