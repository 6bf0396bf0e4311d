//! Import circles between the files of a crate.
//!
//! A path counts for the deepest file that exists along it, so a re-exported name counts for the
//! file that re-exports it. `lib.rs` is left out: it names every module, and every module may name
//! what it re-exports. A parent that only declares its children imports none of them.
//!
//! A circle is a strongly connected component of more than one file: each of its files can be
//! reached from each other one. It is opened by removing edges until no component is left.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::imports::{Import, imports};
use crate::source::{Kind, Source};

/// Files that import each other, directly or through others of them.
pub(crate) struct Circle<'a> {
    files: Vec<&'a Source>,
    edges: Vec<Edge<'a>>,
}

/// All imports of one file by another.
struct Edge<'a> {
    from: &'a Source,
    to: &'a Source,
    imports: Vec<Import>,
}

/// The circles of one crate.
pub(crate) fn circles(sources: &[Source]) -> Vec<Circle<'_>> {
    let files: Vec<_> = sources.iter().filter(|source| source.kind == Kind::Library).collect();
    let graph = Graph::of(&files);
    let mut components = graph.components();
    components.retain(|members| members.len() > 1);
    components.iter().map(|members| graph.circle(&files, members)).collect()
}

/// Nodes are indices of files.
struct Graph {
    edges: BTreeMap<(usize, usize), Vec<Import>>,
    /// For each file, the files that can be reached by one edge or more.
    reached: Vec<Vec<bool>>,
}

impl Graph {
    fn of(files: &[&Source]) -> Self {
        let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let modules = files.iter().map(|file| &file.module[..]);
        let nodes: BTreeMap<_, _> = modules.zip(0..).collect();
        for (from, file) in files.iter().enumerate() {
            for import in imports(file) {
                if let Some(to) = deepest(&nodes, &import.target).filter(|to| *to != from) {
                    edges.entry((from, to)).or_default().push(import);
                }
            }
        }
        let reached = (0..files.len()).map(|from| reach(&edges, from, files.len())).collect();
        Self { edges, reached }
    }

    /// Every file is in exactly one of them, alone if it is in no circle.
    fn components(&self) -> Vec<Vec<usize>> {
        let mut components: Vec<Vec<usize>> = Vec::new();
        for node in 0..self.reached.len() {
            let together = |members: &&mut Vec<usize>| self.mutual(members[0], node);
            match components.iter_mut().find(together) {
                Some(members) => members.push(node),
                None => components.push(vec![node]),
            }
        }
        components
    }

    fn mutual(&self, one: usize, other: usize) -> bool {
        self.reached[one][other] && self.reached[other][one]
    }

    fn circle<'a>(&self, files: &[&'a Source], members: &[usize]) -> Circle<'a> {
        let inside = |(from, to): &(usize, usize)| members.contains(from) && members.contains(to);
        let edge = |(&(from, to), imports): (&_, &Vec<_>)| {
            let imports = imports.clone();
            Edge { from: files[from], to: files[to], imports }
        };
        let edges = self.edges.iter().filter(|(ends, _)| inside(ends)).map(edge);
        let files = members.iter().map(|node| files[*node]);
        Circle { files: files.collect(), edges: edges.collect() }
    }
}

/// The file that `path` counts for; `None` for `lib.rs`.
fn deepest(nodes: &BTreeMap<&[String], usize>, path: &[String]) -> Option<usize> {
    (1..=path.len()).rev().find_map(|length| nodes.get(&path[..length]).copied())
}

fn reach(edges: &BTreeMap<(usize, usize), Vec<Import>>, from: usize, count: usize) -> Vec<bool> {
    let mut reached = vec![false; count];
    let mut pending = vec![from];
    while let Some(node) = pending.pop() {
        for (_, to) in edges.range((node, 0)..(node + 1, 0)).map(|(ends, _)| *ends) {
            if !reached[to] {
                reached[to] = true;
                pending.push(to);
            }
        }
    }
    reached
}

impl Display for Circle<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "circle of {} files, {} edges:", self.files.len(), self.edges.len())?;
        for file in &self.files {
            writeln!(f, "  {}", file.path.display())?;
        }
        for edge in &self.edges {
            writeln!(f, "  {} -> {}", edge.from.module.join("::"), edge.to.module.join("::"))?;
            let path = edge.from.path.display();
            for Import { line, written, .. } in &edge.imports {
                writeln!(f, "    {path}:{line}: {written}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::sources;

    /// For each circle, its text.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        circles(&sources(files)).iter().map(Circle::to_string).collect()
    }

    #[test]
    fn circle_of_two_files_is_found_with_its_lines() {
        let root = ("lib.rs", "mod a; mod b;");
        let files = [root, ("a.rs", "\nuse crate::b::B;"), ("b.rs", "use super::{a::A};")];
        let text = "circle of 2 files, 2 edges:\n  x/src/a.rs\n  x/src/b.rs\n  \
            a -> b\n    x/src/a.rs:2: crate::b::B\n  b -> a\n    x/src/b.rs:1: super::a::A\n";
        assert_eq!(found(&files), [text]);
    }

    #[test]
    fn circles_that_do_not_touch_are_separate() {
        let first = [("a.rs", "use crate::b;"), ("b.rs", "use crate::{a, c};")];
        let second = [("c.rs", "use crate::d;"), ("d.rs", "use crate::c;")];
        let outside = [("e.rs", "use crate::{a, c};"), ("f.rs", "")];
        assert_eq!(found(&[first, second, outside].concat()).len(), 2);
    }

    #[test]
    fn circle_through_a_third_file_is_one() {
        let last = ("c.rs", "fn f() { crate::a::g(); }");
        let files = [("a.rs", "use crate::b;"), ("b.rs", "use crate::c;"), last];
        let sources = sources(&files);
        let circles = circles(&sources);
        assert_eq!(circles.iter().map(|circle| circle.files.len()).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn parent_that_declares_its_children_makes_no_circle() {
        let parent = ("p/mod.rs", "pub(crate) mod a;\nmod b;");
        assert_eq!(found(&[parent, ("p/a.rs", "use super::b::B;"), ("p/b.rs", "")]), [""; 0]);
    }

    #[test]
    fn parent_and_child_that_use_each_other_are_a_circle() {
        let child = ("p/a.rs", "fn f() -> super::Parent { super::Parent::new() }");
        assert_eq!(found(&[("p/mod.rs", "mod a;\npub use a::A;"), child]).len(), 1);
        assert_eq!(found(&[("p/mod.rs", "mod a;\nfn f() { a::f(); }"), child]).len(), 1);
    }

    #[test]
    fn crate_root_makes_no_circle() {
        let root = ("lib.rs", "mod a;\npub use a::A;\npub struct B;");
        assert_eq!(found(&[root, ("a.rs", "use crate::B;")]), [""; 0]);
    }

    #[test]
    fn code_of_tests_makes_no_circle() {
        let a = ("a.rs", "use crate::b::B;\n#[cfg(test)]\nmod tests;");
        let b = ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }");
        assert_eq!(found(&[a, ("a/tests.rs", "use super::A;"), b]), [""; 0]);
    }
}
