// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds the code to its module graph: which room may name which, and what is named in one alone.
//!
//! Reads the sources as text: comments, strings and test modules are left out, and every path that
//! starts with `crate::` or leads out of its room by `super::` counts as an edge.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every edge that may exist; `error` is for everyone.
const EDGES: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("bin", &["cli"]),
    (
        "cli",
        &[
            "layout",
            "backend",
            "check",
            "compare",
            "metadata",
            "operations",
            "roots",
            "store",
        ],
    ),
    (
        "check",
        &["backend", "layout", "metadata", "layer", "store"],
    ),
    ("compare", &["backend"]),
    ("backend", &["fuse", "merged", "layer", "layout", "sys"]),
    ("fuse", &["merged", "sys"]),
    ("merged", &["merge", "layer"]),
    ("metadata", &["layout", "store", "wait"]),
    ("nar", &["store"]),
    (
        "operations",
        &["backend", "layout", "metadata", "nar", "roots", "store"],
    ),
    ("roots", &["store", "wait"]),
    ("layout", &["store"]),
    ("layer", &["sys"]),
    ("merge", &[]),
    ("store", &[]),
    ("sys", &[]),
    ("wait", &[]),
    ("error", &[]),
];

/// Words that belong to one room, with a reason.
const OWNED: &[(&str, &str, &str)] = &[
    ("fuser", "fuse", "one room knows the protocol library"),
    ("rusqlite", "metadata", "one room knows the database"),
    ("unsafe", "sys", "one room argues memory safety"),
];

/// What each room may name of the mount helper's library: `backend` alone has it mount. The
/// spelling of options and of the list of mounts is the same for both programs, so it is there.
const OF_THE_HELPER: &[(&str, &[&str])] = &[
    (
        "backend",
        &[
            "Attributes",
            "Fault",
            "Kind",
            "Markers",
            "NO_OVERLAYFS",
            "ReadOnly",
            "Request",
            "Wish",
            "refresh",
            "same_directory",
            "view",
        ],
    ),
    ("check", &["Leftover", "leftover"]),
    (
        "layout",
        &[
            "Attributes",
            "NIX_CHECK_WAY_OUT",
            "escape",
            "is_for_others",
            "DriverOnly",
            "nix_cannot_find",
            "view",
        ],
    ),
    ("sys", &["mountinfo"]),
];

/// Rooms without input and output, and what they therefore never name.
const PURE: [&str; 2] = ["store", "merge"];
const EFFECTS: [&str; 9] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::os::fd",
    "rustix",
    "nix::",
    "libc",
    "File",
];

/// One source file, without comments, strings and tests.
#[derive(Debug)]
struct Source {
    /// The path below `src`.
    path: PathBuf,
    /// The module path: `["fuse", "adapter"]`.
    modules: Vec<String>,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        &self.modules[0]
    }

    /// Every room that this file names.
    fn rooms_named(&self) -> BTreeSet<String> {
        let mut rooms = BTreeSet::new();
        for (start, _) in self
            .text
            .match_indices("crate::")
            .filter(|(at, _)| self.is_word_at(*at))
        {
            rooms.extend(first_names(&self.text[start + "crate::".len()..]));
        }
        for (start, _) in self
            .text
            .match_indices("super::")
            .filter(|(at, _)| self.is_word_at(*at))
        {
            let rest = &self.text[start..];
            let ups = rest.len() - rest.trim_start_matches("super::").len();
            let ups = ups / "super::".len();
            let again = self.text[..start].ends_with("super::");
            if !again && ups >= self.modules.len() {
                rooms.extend(first_names(rest.trim_start_matches("super::")));
            }
        }
        rooms.remove(self.room());
        rooms
    }

    /// Tells whether a word starts here, and not in the middle of another one.
    fn is_word_at(&self, at: usize) -> bool {
        let before = self.text[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    }

    fn names(&self, word: &str) -> bool {
        self.text.match_indices(word).any(|(at, _)| {
            let after = self.text[at + word.len()..].chars().next();
            let goes_on = |letter: char| letter.is_alphanumeric() || letter == '_';
            self.is_word_at(at) && (word.ends_with(':') || !after.is_some_and(goes_on))
        })
    }
}

/// The first name of a path, or of each path in braces.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let letters = text.trim_start().chars();
        letters
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect()
    };
    let Some(inside) = text.trim_start().strip_prefix('{') else {
        return vec![name(text)];
    };
    let (mut names, mut depth, mut part) = (Vec::new(), 0, String::new());
    for letter in inside.chars() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&part));
                part.clear();
                continue;
            }
            _ => {}
        }
        part.push(letter);
    }
    names.push(name(&part));
    names.retain(|name| !name.is_empty());
    names
}

/// Leaves out comments and the contents of strings.
fn code_alone(text: &str) -> String {
    let mut code = String::new();
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quoted => drop(letters.next()),
            '\'' if !quoted && letters.peek() == Some(&'"') => drop(letters.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && letters.peek() == Some(&'/') => {
                letters.by_ref().find(|letter| *letter == '\n');
                code.push('\n');
            }
            _ if quoted => {}
            other => code.push(other),
        }
    }
    code
}

/// Cuts a test module off the end of a file.
fn without_tests(code: &str) -> &str {
    let marks = code.match_indices("#[cfg(test)]").map(|(at, _)| at);
    let tests = marks.filter(|at| {
        let rest = code[*at..].trim_start_matches("#[cfg(test)]").trim_start();
        rest.starts_with("mod ") && rest.find('{') < rest.find(';').or(Some(usize::MAX))
    });
    tests.min().map_or(code, |at| &code[..at])
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            collect(root, &path, found);
            continue;
        }
        let below = path.strip_prefix(root).expect("it is below src").to_owned();
        let stem = below.with_extension("");
        let mut modules: Vec<_> = stem
            .iter()
            .map(|part| part.to_str().expect("ASCII").to_owned())
            .collect();
        let last = modules.last().map_or("", String::as_str);
        if last == "tests" || last.ends_with("_tests") || below == Path::new("lib.rs") {
            continue;
        }
        if last == "mod" {
            modules.pop();
        }
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        let text = without_tests(&code_alone(&text)).to_owned();
        found.push(Source {
            path: below,
            modules,
            text,
        });
    }
}

#[test]
fn rooms_name_only_what_the_graph_allows() {
    let mut wrong = Vec::new();
    for source in sources() {
        let allowed = EDGES.iter().find(|(room, _)| *room == source.room());
        let Some((_, allowed)) = allowed else {
            wrong.push(format!(
                "{}: no such room in the graph",
                source.path.display()
            ));
            continue;
        };
        for named in source.rooms_named() {
            if named != "error" && !allowed.contains(&named.as_str()) {
                wrong.push(format!(
                    "{}: {} -> {named}",
                    source.path.display(),
                    source.room()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that the graph does not have: {wrong:#?}"
    );
}

#[test]
fn the_graph_has_no_edge_that_nobody_needs() {
    let used: BTreeSet<(String, String)> = sources()
        .iter()
        .flat_map(|source| {
            let from = source.room().to_owned();
            source
                .rooms_named()
                .into_iter()
                .map(move |to| (from.clone(), to))
        })
        .collect();
    // The programs are other crates: they name their one room by the library's name.
    let library = |from: &str| !["main", "bin"].contains(&from);
    for (from, edges) in EDGES.iter().filter(|(from, _)| library(from)) {
        for to in *edges {
            let edge = ((*from).to_owned(), (*to).to_owned());
            assert!(used.contains(&edge), "{from} -> {to}");
        }
    }
}

#[test]
fn what_belongs_to_one_room_is_named_there_alone() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (word, room, why) in OWNED {
            if source.room() != *room && source.names(word) {
                wrong.push(format!(
                    "{}: {word}, but {why} ({room})",
                    source.path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn of_the_mount_helper_each_room_names_its_part_alone() {
    const LIBRARY: &str = "overstore_mount::";
    let mut named = BTreeSet::new();
    for source in sources() {
        for (at, _) in source.text.match_indices(LIBRARY) {
            for name in first_names(&source.text[at + LIBRARY.len()..]) {
                named.insert((source.room().to_owned(), name));
            }
        }
    }
    let listed = OF_THE_HELPER.iter().flat_map(|(room, names)| {
        names
            .iter()
            .map(|name| ((*room).to_owned(), (*name).to_owned()))
    });
    assert_eq!(named, listed.collect());
}

#[test]
fn pure_rooms_do_no_input_or_output() {
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| PURE.contains(&source.room()))
    {
        for effect in EFFECTS.iter().filter(|effect| source.names(effect)) {
            wrong.push(format!("{}: {effect}", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_graph_has_no_cycle() {
    fn reach(room: &str, path: &mut Vec<String>) {
        assert!(
            !path.iter().any(|seen| seen == room),
            "a cycle: {path:?} -> {room}"
        );
        path.push(room.to_owned());
        let next = EDGES.iter().find(|(from, _)| *from == room);
        for to in next.map_or(&[][..], |(_, to)| to) {
            reach(to, path);
        }
        path.pop();
    }
    for (room, _) in EDGES {
        reach(room, &mut Vec::new());
    }
}

/// The reader of sources sees what it must see, and nothing else.
#[test]
fn the_reader_finds_edges() {
    let code = r#"
        use crate::layer::{Stat, Kind};  // and crate::comment
        use crate::{merge, error::{Error, Result}, sys};
        fn f() -> crate::merged::NodeId { super::super::store::X }
        const TEXT: &str = "crate::string and unsafe \" crate::string";
        fn g() { my_crate::no(); super::sibling(); let quote = '"'; crate::layout::h() }
        #[cfg(test)]
        mod tests { use crate::backend::Layout; }
    "#;
    let source = Source {
        path: PathBuf::from("fuse/adapter.rs"),
        modules: vec!["fuse".to_owned(), "adapter".to_owned()],
        text: without_tests(&code_alone(code)).to_owned(),
    };
    let found: Vec<_> = source.rooms_named().into_iter().collect();
    assert_eq!(
        found,
        [
            "error", "layer", "layout", "merge", "merged", "store", "sys"
        ]
    );
    assert!(!source.names("unsafe") && source.names("my_crate") && !source.names("crat"));
}
