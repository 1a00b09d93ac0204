// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions about a store in memory; what Nix printed for the same store is what is expected.

use super::*;
use crate::roots::Root;
use crate::store::json::Format;
use crate::store::{ContentAddress, Sha256};
use std::cell::RefCell;
use std::path::Path;

/// A store in memory, which counts what it is asked.
#[derive(Debug, Default)]
struct Memory {
    infos: BTreeMap<ObjectName, PathInfo>,
    outputs: BTreeMap<ObjectName, Outputs>,
    asked: RefCell<BTreeMap<ObjectName, usize>>,
}

impl Memory {
    fn add(&mut self, object: &str, references: &[&str]) {
        let mut info = PathInfo::new(name(object), Sha256::of(object.as_bytes()), 160);
        info.references = references.iter().map(|other| name(other)).collect();
        self.infos.insert(info.name.clone(), info);
    }

    fn info(&mut self, object: &str) -> &mut PathInfo {
        self.infos.get_mut(&name(object)).unwrap()
    }
}

impl Source for Memory {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        *self.asked.borrow_mut().entry(name.clone()).or_default() += 1;
        Ok(self.infos.get(name).cloned())
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        Ok(self.infos.contains_key(name))
    }

    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        let refers = |info: &&PathInfo| info.references.contains(name);
        let found = self.infos.values().filter(refers);
        Ok(found.map(|info| info.name.clone()).collect())
    }

    fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        let makes = |outputs: &Outputs| outputs.values().any(|output| output == name);
        let found = self.outputs.iter().filter(|(_, outputs)| makes(outputs));
        Ok(found.map(|(drv, _)| drv.clone()).collect())
    }

    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        Ok(self.outputs.get(drv).cloned().unwrap_or_default())
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        let found = self.infos.keys().find(|name| name.hash_part() == hash_part);
        Ok(found.cloned())
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        Ok(self.infos.keys().cloned().collect())
    }
}

/// `5-y` stands for `00000000000000000000000000000005-y`.
fn name(short: &str) -> ObjectName {
    let hash = short.find('-').unwrap();
    let zeros = "0".repeat(HASH_PART_BYTES - hash);
    ObjectName::parse(format!("{zeros}{short}").as_bytes()).unwrap()
}

fn names(short: &[&str]) -> BTreeSet<ObjectName> {
    short.iter().map(|one| name(one)).collect()
}

/// Leaves out the store directory and the zeros.
fn short(text: &str) -> String {
    text.replace("/nix/store/", "").replace(&"0".repeat(31), "")
}

fn in_order(names: &[ObjectName]) -> String {
    let names: Vec<String> = names.iter().map(|name| short(name.as_str())).collect();
    names.join(" ")
}

fn in_set(names: &BTreeSet<ObjectName>) -> String {
    in_order(&names.iter().cloned().collect::<Vec<_>>())
}

/// The store that Nix was asked about.
fn world() -> Memory {
    let mut memory = Memory::default();
    memory.add("4-d", &[]);
    memory.add("3-c", &["4-d", "3-c"]);
    memory.add("2-b", &["4-d"]);
    memory.add("1-a", &["2-b", "3-c"]);
    memory.add("9-z", &["1-a", "2-b"]);
    memory.add("5-y", &["9-z", "3-c"]);
    memory
}

/// A derivation with an output that is valid and one that is not, and what was made of it.
fn built() -> Memory {
    let mut memory = world();
    memory.add("6-s", &[]);
    memory.add("7-m.drv", &["6-s"]);
    memory.info("2-b").deriver = Some(name("7-m.drv"));
    memory
}

const TEXT: &str = r#"Derive([("dev","/nix/store/00000000000000000000000000000008-n","",""),("out","/nix/store/00000000000000000000000000000002-b","","")],[],["/nix/store/00000000000000000000000000000006-s"],"x","/b",[],[])"#;

fn ask<T>(memory: &Memory, question: impl FnOnce(&mut Query<'_>) -> T) -> T {
    let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
    let read = |drv: &ObjectName| {
        assert_eq!(*drv, name("7-m.drv"));
        Ok(TEXT.as_bytes().to_vec())
    };
    question(&mut Query::new(&dir, memory, &read))
}

#[test]
fn closures_and_their_order() {
    let memory = world();
    let plain = Follow::default();
    ask(&memory, |query| {
        let closure = query.requisites(&names(&["5-y"]), plain).unwrap();
        assert_eq!(
            in_order(&query.sorted(&closure).unwrap()),
            "4-d 2-b 3-c 1-a 9-z 5-y"
        );
        let closure = query.requisites(&names(&["9-z", "4-d"]), plain).unwrap();
        assert_eq!(
            in_order(&query.sorted(&closure).unwrap()),
            "4-d 2-b 3-c 1-a 9-z"
        );
        let closure = query.referrers_closure(&names(&["1-a"]), plain).unwrap();
        assert_eq!(in_order(&query.sorted(&closure).unwrap()), "1-a 9-z 5-y");
        let some = query.referrers(&names(&["4-d", "3-c"])).unwrap();
        assert_eq!(in_order(&query.sorted(&some).unwrap()), "2-b 3-c 1-a 5-y");
        let some = query.references(&names(&["5-y", "1-a"])).unwrap();
        assert_eq!(in_order(&query.sorted(&some).unwrap()), "2-b 3-c 9-z");
        assert_eq!(query.closure_size(&name("1-a")).unwrap(), 640);
    });
    let asked = memory.asked.borrow();
    assert_eq!(asked.len(), 6);
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
}

#[test]
fn a_tree_as_nix_prints_it() {
    let tree = ask(&world(), |query| query.tree(&[name("5-y"), name("9-z")]));
    assert_eq!(
        short(&tree.unwrap()),
        "5-y\n\
         \u{251c}\u{2500}\u{2500}\u{2500}3-c\n\
         \u{2502}   \u{251c}\u{2500}\u{2500}\u{2500}4-d\n\
         \u{2502}   \u{2514}\u{2500}\u{2500}\u{2500}3-c [...]\n\
         \u{2514}\u{2500}\u{2500}\u{2500}9-z\n    \
         \u{251c}\u{2500}\u{2500}\u{2500}2-b\n    \
         \u{2502}   \u{2514}\u{2500}\u{2500}\u{2500}4-d [...]\n    \
         \u{2514}\u{2500}\u{2500}\u{2500}1-a\n        \
         \u{251c}\u{2500}\u{2500}\u{2500}2-b [...]\n        \
         \u{2514}\u{2500}\u{2500}\u{2500}3-c [...]\n\
         9-z [...]\n"
    );
}

#[test]
fn a_graph_as_nix_prints_it() {
    let graph = ask(&world(), |query| query.graph(&names(&["5-y"])));
    let node = |name: &str| {
        let label = name.split('-').next_back().unwrap();
        format!(
            "\"{name}\" [label = \"{label}\", shape = box, style = filled, fillcolor = \"#ff0000\"];\n"
        )
    };
    let edge = |from: &str, to: &str, colour: &str| {
        format!("\"{from}\" -> \"{to}\" [color = \"{colour}\"];\n")
    };
    let expected = [
        "digraph G {\n".to_owned(),
        node("5-y"),
        edge("3-c", "5-y", "black"),
        edge("9-z", "5-y", "red"),
        node("3-c"),
        edge("4-d", "3-c", "green"),
        node("4-d"),
        node("9-z"),
        edge("1-a", "9-z", "blue"),
        edge("2-b", "9-z", "magenta"),
        node("1-a"),
        edge("2-b", "1-a", "burlywood"),
        edge("3-c", "1-a", "black"),
        node("2-b"),
        edge("4-d", "2-b", "red"),
        "}\n".to_owned(),
    ];
    assert_eq!(short(&graph.unwrap()), expected.concat());
}

#[test]
fn lines_as_nix_prints_them() {
    let mut memory = world();
    memory.add("6-long", &[]);
    memory.info("6-long").ca = ContentAddress::parse(&format!("text:{}", Sha256::of(b"")));
    memory.info("6-long").ultimate = true;
    memory.info("6-long").signatures = ["b:x".to_owned(), "a:x".to_owned()].into();
    let table = |columns| {
        let names = names(&["5-y", "1-a", "6-long"]);
        short(&ask(&memory, |query| query.table(&names, columns)).unwrap())
    };
    assert_eq!(table(Columns::default()), "1-a\n5-y\n6-long\n");
    let columns = Columns {
        size: true,
        closure_size: true,
        ..Columns::default()
    };
    assert_eq!(
        table(columns),
        "1-a   \t        160\t        640\n5-y   \t        160\t        960\n\
         6-long\t        160\t        160\n"
    );
    let columns = Columns {
        closure_size: true,
        readable: true,
        signatures: true,
        size: false,
    };
    let ca = format!("ca:text:{}", Sha256::of(b""));
    assert_eq!(
        table(columns),
        format!(
            "1-a   \t   0.6 KiB\t\n5-y   \t   0.9 KiB\t\n6-long\t   0.2 KiB\tultimate {ca} a:x b:x\n"
        )
    );
}

#[test]
fn json_has_null_for_what_is_not_valid() {
    let json = ask(&world(), |query| {
        query.json(&names(&["4-d", "8-none"]), Format::V2, true)
    });
    let json: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
    assert_eq!(json["info"][name("4-d").as_str()]["closureSize"], 160);
    let none = json["info"].get(name("8-none").as_str());
    assert_eq!(none, Some(&serde_json::Value::Null));
}

#[test]
fn outputs_are_read_where_the_metadata_has_none() {
    let mut memory = built();
    let of_the_text = ask(&memory, |query| query.output_paths(&name("7-m.drv"))).unwrap();
    assert_eq!(in_set(&of_the_text), "2-b 8-n");
    let of_the_rows = [("out".to_owned(), name("4-d"))].into();
    memory.outputs.insert(name("7-m.drv"), of_the_rows);
    ask(&memory, |query| {
        assert_eq!(
            in_set(&query.output_paths(&name("7-m.drv")).unwrap()),
            "4-d"
        );
        // Anything else is its own output.
        assert_eq!(in_set(&query.output_paths(&name("5-y")).unwrap()), "5-y");
        assert_eq!(
            in_set(&query.valid_derivers(&name("4-d")).unwrap()),
            "7-m.drv"
        );
        let twice = [name("4-d"), name("4-d")];
        let told = query.answer(Question::ValidDerivers, &twice, &|| Ok(BTreeSet::new()));
        assert_eq!(short(&told.unwrap()), "7-m.drv\n");
    });
}

#[test]
fn a_damaged_derivation_is_an_error() {
    let memory = built();
    let dir = StoreDir::new(Path::new("/nix/store")).unwrap();
    let read = |_: &ObjectName| Ok(b"Derive([".to_vec());
    let why = Query::new(&dir, &memory, &read).outputs(&name("7-m.drv"));
    let why = why.unwrap_err();
    assert_eq!(why.kind(), Kind::Corrupt);
    assert!(why.to_string().contains("-m.drv: at byte 8: "), "{why}");
    let read = |_: &ObjectName| Err(Error::on("read", "/x", "gone"));
    assert!(
        Query::new(&dir, &memory, &read)
            .outputs(&name("7-m.drv"))
            .is_err()
    );
}

#[test]
fn closures_follow_outputs_and_derivers() {
    let memory = built();
    let outputs = Follow {
        outputs: true,
        derivers: false,
    };
    let derivers = Follow {
        outputs: false,
        derivers: true,
    };
    ask(&memory, |query| {
        let drv = names(&["7-m.drv"]);
        let all = query.requisites(&drv, outputs).unwrap();
        // The output that is not valid is left out.
        assert_eq!(in_set(&all), "2-b 4-d 6-s 7-m.drv");
        let all = query.requisites(&drv, Follow::default()).unwrap();
        assert_eq!(in_set(&all), "6-s 7-m.drv");
        let all = query.requisites(&names(&["2-b"]), derivers).unwrap();
        assert_eq!(in_set(&all), "2-b 4-d 6-s 7-m.drv");
        let all = query.referrers_closure(&names(&["6-s"]), derivers).unwrap();
        assert_eq!(in_set(&all), "1-a 2-b 5-y 6-s 7-m.drv 9-z");
        let all = query.referrers_closure(&names(&["6-s"]), outputs).unwrap();
        assert_eq!(in_set(&all), "6-s 7-m.drv");
    });
}

/// A source that was not whole as often as it says.
#[derive(Debug)]
struct Meanwhile<'a>(&'a std::cell::Cell<usize>);

impl Source for Meanwhile<'_> {
    fn path_info(&self, _: &ObjectName) -> Result<Option<PathInfo>> {
        Ok(None)
    }
    fn is_valid(&self, _: &ObjectName) -> Result<bool> {
        Ok(false)
    }
    fn referrers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }
    fn valid_derivers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }
    fn outputs(&self, _: &ObjectName) -> Result<Outputs> {
        Ok(Outputs::new())
    }
    fn with_hash_part(&self, _: &str) -> Result<Option<ObjectName>> {
        Ok(None)
    }
    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }
    fn finish(&self) -> Result<()> {
        match self.0.get() {
            0 => Ok(()),
            left => {
                self.0.set(left - 1);
                Err(Error::environment("read", "changed meanwhile"))
            }
        }
    }
}

#[test]
fn what_was_not_whole_is_asked_once_more() {
    for (changes, asked, good) in [(0, 1, true), (1, 2, true), (2, 2, false), (3, 2, false)] {
        let left = std::cell::Cell::new(changes);
        let count = std::cell::Cell::new(0);
        let answer = whole(
            || Ok(Meanwhile(&left)),
            |source| {
                count.set(count.get() + 1);
                source.all_valid()
            },
        );
        assert_eq!((count.get(), answer.is_ok()), (asked, good), "{changes}");
        let left = std::cell::Cell::new(changes);
        let failing = whole(
            || Ok(Meanwhile(&left)),
            |_| Err::<(), _>(Error::environment("ask", "half of a change")),
        );
        let why = failing.unwrap_err().to_string();
        let expected = ["read: changed meanwhile", "ask: half of a change"][usize::from(good)];
        assert_eq!(why, expected);
    }
}

#[test]
fn roots_are_those_that_keep_an_object() {
    let root = |link: &str, target: &str| Root {
        link: link.into(),
        object: name(target),
    };
    let roots = [
        root("/r/y", "5-y"),
        root("/r/d", "4-d"),
        root("/r/b", "2-b"),
    ]
    .into();
    let derivers = Follow {
        outputs: false,
        derivers: true,
    };
    ask(&built(), |query| {
        let keeping = |query: &mut Query<'_>, object: &str| -> Vec<String> {
            let found = query.keeping(&names(&[object]), &roots, derivers).unwrap();
            found
                .iter()
                .map(|root| root.link.display().to_string())
                .collect()
        };
        assert_eq!(keeping(query, "4-d"), ["/r/b", "/r/d", "/r/y"]);
        assert_eq!(keeping(query, "9-z"), ["/r/y"]);
        // A derivation lives with what it made.
        assert_eq!(keeping(query, "7-m.drv"), ["/r/b", "/r/y"]);
    });
}

#[test]
fn answers_in_the_words_of_nix() {
    let memory = built();
    let roots = || {
        Ok([Root {
            link: "/r/b".into(),
            object: name("2-b"),
        }]
        .into())
    };
    let answer = |question, objects: &[&str]| {
        let objects: Vec<ObjectName> = objects.iter().map(|one| name(one)).collect();
        short(&ask(&memory, |query| query.answer(question, &objects, &roots)).unwrap())
    };
    let plain = Follow::default();
    for (question, objects, expected) in [
        (Question::References, &["5-y", "1-a"][..], "2-b\n3-c\n9-z\n"),
        (Question::Referrers, &["4-d", "3-c"], "2-b\n3-c\n1-a\n5-y\n"),
        (
            Question::Requisites(plain),
            &["1-a"],
            "4-d\n2-b\n3-c\n1-a\n",
        ),
        (Question::ReferrersClosure, &["1-a"], "1-a\n9-z\n5-y\n"),
        (
            Question::Deriver,
            &["2-b", "4-d"],
            "7-m.drv\nunknown-deriver\n",
        ),
        (Question::ValidDerivers, &["4-d"], ""),
        (Question::Outputs, &["7-m.drv", "4-d"], "2-b\n8-n\n4-d\n"),
        (Question::Size, &["5-y", "1-a"], "160\n160\n"),
        (Question::Roots(plain), &["4-d"], "/r/b -> 2-b\n"),
        (Question::Roots(plain), &["1-a"], ""),
        (Question::Tree, &["4-d", "4-d"], "4-d\n4-d [...]\n"),
    ] {
        assert_eq!(answer(question, objects), expected, "{question:?}");
    }
    let digest = Sha256::of(b"5-y");
    assert_eq!(answer(Question::Hash, &["5-y"]), format!("{digest}\n"));
    assert!(answer(Question::Graph, &["4-d"]).starts_with("digraph G {\n\"4-d\" "));
}

#[test]
fn what_is_not_valid_is_an_error() {
    let none = name("8-none");
    let set: BTreeSet<ObjectName> = [none.clone()].into();
    let plain = Follow::default();
    ask(&world(), |query| {
        let errors = [
            query.info(&none).map(drop),
            query.references(&set).map(drop),
            query.referrers(&set).map(drop),
            query.requisites(&set, plain).map(drop),
            query.referrers_closure(&set, plain).map(drop),
            query.tree(std::slice::from_ref(&none)).map(drop),
            query.graph(&set).map(drop),
            query.table(&set, Columns::default()).map(drop),
            query.output_paths(&none).map(drop),
            query.output_paths(&name("8-none.drv")).map(drop),
            query.keeping(&set, &BTreeSet::new(), plain).map(drop),
        ];
        for error in errors {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), Kind::Negative);
            assert!(error.to_string().ends_with(": it is not valid"), "{error}");
        }
    });
}

#[test]
fn hash_parts() {
    ask(&world(), |query| {
        let part = |digit: &str| format!("{}{digit}", "0".repeat(31));
        assert_eq!(query.with_hash_part(&part("5")), Ok(name("5-y")));
        let why = query.with_hash_part(&part("7")).unwrap_err();
        assert_eq!(why.kind(), Kind::Negative);
        for wrong in ["0000", &part("e"), &part("55")] {
            let why = query.with_hash_part(wrong).unwrap_err();
            assert_eq!(why.kind(), Kind::Usage, "{wrong}");
        }
    });
}

#[test]
fn a_circle_is_an_error() {
    let mut memory = world();
    memory.add("4-d", &["5-y"]);
    let why = ask(&memory, |query| {
        let closure = query
            .requisites(&names(&["5-y"]), Follow::default())
            .unwrap();
        query.sorted(&closure).unwrap_err()
    });
    assert_eq!(why.kind(), Kind::Corrupt);
    assert!(why.to_string().contains("need each other"), "{why}");
}

/// Deeper than a stack would be.
#[test]
fn a_closure_may_be_deep() {
    const DEPTH: usize = 30_000;
    let mut memory = Memory::default();
    memory.add("0-x", &[]);
    for at in 1..DEPTH {
        memory.add(&format!("{at}-x"), &[&format!("{}-x", at - 1)]);
    }
    let top = names(&[&format!("{}-x", DEPTH - 1)]);
    ask(&memory, |query| {
        let closure = query.requisites(&top, Follow::default()).unwrap();
        let sorted = query.sorted(&closure).unwrap();
        assert_eq!((sorted.len(), &sorted[0]), (DEPTH, &name("0-x")));
        assert_eq!(sorted.last(), top.first());
        assert_eq!(query.graph(&top).unwrap().lines().count(), 2 * DEPTH + 1);
    });
}
