// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether an answer was true at some moment between call and return.

use super::journal::{History, Item};
use std::collections::BTreeSet;
use std::time::Instant;

/// What a reader was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// lstat: kind, size (of all but directories) and inode number.
    Stat(&'static str, u64, u64),
    /// open and read.
    Content(Vec<u8>),
    /// readlink.
    Target(String),
    /// The names in an object.
    Names(Vec<String>),
    /// ENOENT.
    Absent,
    /// ENOTDIR.
    NotDir,
    /// What only another kind of object answers: EISDIR, ELOOP, EINVAL.
    OtherKind,
    /// An error from what had been opened before: it was changed behind the mount since.
    GoneSince,
}

/// What was asked: the answers of each question overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Stat,
    Read,
    Target,
    Names,
}

/// Where a path of one or two names leads in one state.
enum Place<'a> {
    Nothing,
    BelowFile,
    Item(&'a Item),
}

fn place<'a>(state: Option<&'a Item>, inside: Option<&str>) -> Place<'a> {
    match (state, inside) {
        (None, _) => Place::Nothing,
        (Some(item), None) => Place::Item(item),
        (Some(Item::Dir { inside, .. }), Some(name)) => {
            inside.get(name).map_or(Place::Nothing, Place::Item)
        }
        (Some(Item::File { .. }), Some(_)) => Place::BelowFile,
        // The links lead nowhere.
        (Some(Item::Link { .. }), Some(_)) => Place::Nothing,
    }
}

fn asks_for(question: Question, item: &Item) -> bool {
    match question {
        Question::Stat => true,
        Question::Read => matches!(item, Item::File { .. }),
        Question::Target => matches!(item, Item::Link { .. }),
        Question::Names => matches!(item, Item::Dir { .. }),
    }
}

fn fits(place: &Place<'_>, question: Question, answer: &Answer) -> bool {
    match (place, answer) {
        (Place::Nothing, Answer::Absent) | (Place::BelowFile, Answer::NotDir) => true,
        // A directory that is asked for by O_DIRECTORY.
        (Place::Item(item), Answer::NotDir) => {
            question == Question::Names && !asks_for(question, item)
        }
        (Place::Item(item), Answer::OtherKind) => !asks_for(question, item),
        (Place::Item(Item::File { content, .. }), Answer::Content(got)) => {
            content.as_bytes() == got
        }
        (Place::Item(Item::Link { target, .. }), Answer::Target(got)) => target == got,
        (Place::Item(item), Answer::Stat(kind, size, number)) => match item {
            Item::File { ino, content } => {
                (*kind, *size, number) == ("file", content.len() as u64, ino)
            }
            Item::Link { ino, target } => {
                (*kind, *size, number) == ("symlink", target.len() as u64, ino)
            }
            Item::Dir { ino, .. } => (*kind, number) == ("dir", ino),
        },
        _ => false,
    }
}

/// A listing takes several calls: it must hold what was there all the time, and nothing that was
/// there at no time. One that is read while the directory gets or loses a side may repeat and miss
/// names (a known limit); what it holds must be true even then.
fn listing(places: &[Place<'_>], names: &[String]) -> Result<(), String> {
    let got: BTreeSet<&String> = names.iter().collect();
    let numbers = places.iter().map(|place| match place {
        Place::Item(Item::Dir { ino, .. }) => Some(ino),
        _ => None,
    });
    let numbers: BTreeSet<_> = numbers.collect();
    let still = numbers.len() == 1;
    if still && got.len() != names.len() {
        return Err("a name is listed twice".to_owned());
    }
    let sets = places.iter().filter_map(|place| match place {
        Place::Item(Item::Dir { inside, .. }) => Some(inside.keys().collect::<BTreeSet<_>>()),
        _ => None,
    });
    let sets: Vec<_> = sets.collect();
    let wrong = |name: &&&String| !sets.iter().any(|set| set.contains(**name));
    if let Some(name) = got.iter().find(wrong) {
        return Err(format!("{name} was never there"));
    }
    let always = |name: &&String| sets.iter().all(|set| set.contains(*name));
    let first = sets.first().cloned().unwrap_or_default();
    match first
        .into_iter()
        .filter(always)
        .find(|name| !got.contains(name))
    {
        Some(name) if still => Err(format!("{name} is missing")),
        _ if sets.is_empty() => Err("there was no such directory".to_owned()),
        _ => Ok(()),
    }
}

/// Says what is wrong about `answer` to `question` about a name (or what is `inside` of it).
pub(crate) fn judge(
    history: &History,
    (t0, t1): (Instant, Instant),
    inside: Option<&str>,
    question: Question,
    answer: &Answer,
) -> Result<(), String> {
    let states = history.possible(t0, t1);
    let places: Vec<_> = states.iter().map(|state| place(*state, inside)).collect();
    let right = match answer {
        Answer::Names(names) => return listing(&places, names),
        Answer::GoneSince => states.len() > 1,
        _ => places.iter().any(|place| fits(place, question, answer)),
    };
    match right {
        true => Ok(()),
        false => Err(format!("possible were only {states:?}")),
    }
}

/// Says what is wrong about `names` as the listing of the top.
pub(crate) fn judge_top<'a>(
    histories: impl Iterator<Item = (&'a str, bool, bool)>,
    names: &[String],
) -> Result<(), String> {
    let got: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    if got.len() != names.len() {
        return Err("a name is listed twice".to_owned());
    }
    let mut known = BTreeSet::new();
    for (name, may, must) in histories {
        known.insert(name);
        match got.contains(name) {
            true if !may => return Err(format!("{name} was never there")),
            false if must => return Err(format!("{name} is missing")),
            _ => {}
        }
    }
    let stray = |name: &&&str| !known.contains(**name) && !name.starts_with("tmp-");
    match got.iter().find(stray) {
        Some(name) => Err(format!("nobody made {name}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn file(ino: u64) -> Item {
        let content = format!("content of {ino}");
        Item::File { ino, content }
    }

    fn dir(names: &[&str]) -> Item {
        let inside = names.iter().map(|name| ((*name).to_owned(), file(7)));
        let inside = inside.collect::<BTreeMap<_, _>>();
        Item::Dir { ino: 5, inside }
    }

    /// Absent until 10 ms, then `item`; the change was made between 10 and 20 ms.
    fn appears(item: Item) -> (History, impl Fn(u64) -> Instant) {
        let mut history = History::new(None);
        let start = Instant::now();
        let at = move |ms| start + Duration::from_millis(ms);
        history.begin(Some(item), at(10));
        history.end(at(20));
        (history, at)
    }

    #[test]
    fn an_answer_is_true_only_in_its_time() {
        let (history, at) = appears(file(3));
        let ask = |t0, t1, answer: &Answer| {
            judge(&history, (at(t0), at(t1)), None, Question::Stat, answer).is_ok()
        };
        let there = Answer::Stat("file", 12, 3);
        assert!(
            ask(1, 9, &Answer::Absent) && !ask(1, 9, &there),
            "too early"
        );
        assert!(
            ask(1, 15, &Answer::Absent) && ask(1, 15, &there),
            "meanwhile"
        );
        assert!(ask(15, 30, &Answer::Absent), "asked before it was visible");
        assert!(
            !ask(21, 30, &Answer::Absent) && ask(21, 30, &there),
            "afterwards"
        );
        for wrong in [("file", 12, 4), ("file", 13, 3), ("dir", 12, 3)] {
            assert!(
                !ask(21, 30, &Answer::Stat(wrong.0, wrong.1, wrong.2)),
                "{wrong:?}"
            );
        }
        assert!(ask(1, 15, &Answer::GoneSince) && !ask(21, 30, &Answer::GoneSince));
    }

    #[test]
    fn contents_and_names_are_those_of_one_version() {
        let (history, at) = appears(dir(&["a", "b"]));
        let ask = |inside, question, answer: Answer| {
            judge(&history, (at(21), at(30)), inside, question, &answer).is_ok()
        };
        let content = |text: &str| Answer::Content(text.into());
        assert!(ask(Some("a"), Question::Read, content("content of 7")));
        assert!(!ask(Some("a"), Question::Read, content("content of 8")));
        assert!(!ask(Some("a"), Question::Read, Answer::Absent));
        assert!(ask(Some("c"), Question::Read, Answer::Absent));
        assert!(!ask(Some("a"), Question::Read, Answer::NotDir));
        assert!(ask(None, Question::Read, Answer::OtherKind));
        let names = |names: &[&str]| Answer::Names(names.iter().map(|n| (*n).to_owned()).collect());
        assert!(ask(None, Question::Names, names(&["b", "a"])));
        for wrong in [&["a"][..], &["a", "b", "c"], &["a", "b", "b"], &[]] {
            assert!(!ask(None, Question::Names, names(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn a_listing_of_the_top_is_held_to_what_must_and_may_be_there() {
        let names = [
            ("always", true, true),
            ("maybe", true, false),
            ("never", false, false),
        ];
        let ask = |got: &[&str]| {
            let got: Vec<_> = got.iter().map(|name| (*name).to_owned()).collect();
            judge_top(names.into_iter(), &got).is_ok()
        };
        assert!(ask(&["always"]) && ask(&["maybe", "always", "tmp-1"]));
        for wrong in [
            &["maybe"][..],
            &["always", "never"],
            &["always", "other"],
            &["always", "always"],
        ] {
            assert!(!ask(wrong), "{wrong:?}");
        }
    }
}
