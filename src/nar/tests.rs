// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is well-formed, byte by byte; what is found in bytes; what trees on disk are asked for is in
//! `tests/nar`.

use super::*;
use crate::store::{Algorithm, HASH_PART_BYTES, Hash, ObjectName, PathInfo, Sha256};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

/// One string in the primitive encoding.
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

/// Words, each as a string.
fn words(words: &[&str]) -> Vec<u8> {
    words
        .iter()
        .flat_map(|word| string(word.as_bytes()))
        .collect()
}

fn archive(inner: &[&str]) -> Vec<u8> {
    [words(&["nix-archive-1"]), words(inner)].concat()
}

fn entry(name: &str) -> [&str; 13] {
    let words = "entry ( name NAME node ( type regular contents CONTENT ) )";
    let mut out = [""; 13];
    for (to, word) in out.iter_mut().zip(words.split(' ')) {
        *to = match word {
            "NAME" => name,
            "CONTENT" => "",
            word => word,
        };
    }
    out
}

/// A directory with these names.
fn directory(names: &[&str]) -> Vec<u8> {
    let mut all = vec!["(", "type", "directory"];
    for name in names {
        all.extend(&entry(name)[..12]);
    }
    all.push(")");
    archive(&all)
}

fn nested(depth: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 1..depth {
        all.extend(["(", "type", "directory", "entry", "(", "name", "a", "node"]);
    }
    all.extend(["(", "type", "symlink", "target", "t", ")"]);
    for _ in 1..depth {
        all.extend([")", ")"]);
    }
    archive(&all)
}

fn check(bytes: &[u8]) -> crate::error::Result<u64> {
    read(&mut Input::new(bytes, "test"), &mut Discard)
}

/// Reads and writes again.
fn again(bytes: &[u8]) -> crate::error::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), "test")?;
    read(&mut Input::new(bytes, "test"), &mut writer)?;
    writer.finish()
}

#[test]
fn what_nix_writes_is_accepted_and_written_the_same() {
    let longest = "n".repeat(255);
    let target = "t".repeat(4095);
    for bytes in [
        archive(&["(", "type", "regular", "contents", "", ")"]),
        archive(&["(", "type", "regular", "contents", "12345678", ")"]),
        archive(&[
            "(",
            "type",
            "regular",
            "executable",
            "",
            "contents",
            "x",
            ")",
        ]),
        archive(&["(", "type", "symlink", "target", &target, ")"]),
        directory(&[]),
        directory(&["a"]),
        directory(&["A", "a", "a b", "a-", "a.", "a0", &longest]),
        nested(MAX_DEPTH),
    ] {
        assert_eq!(check(&bytes), Ok(bytes.len() as u64));
        assert_eq!(again(&bytes).as_ref(), Ok(&bytes));
    }
}

/// Bytes in which the last byte of padding after the word `word` (its last one) is not zero.
fn spoilt(mut bytes: Vec<u8>, word: &str) -> Vec<u8> {
    let padded = string(word.as_bytes());
    let at = bytes.windows(16).rposition(|window| window == padded);
    bytes[at.unwrap() + 15] = 1;
    bytes
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_nix_refuses_is_refused() {
    let file = archive(&["(", "type", "regular", "contents", "x", ")"]);
    let long = "n".repeat(256);
    let target = "t".repeat(4096);
    let huge = |before: &[&str]| [archive(before), (1u64 << 62).to_le_bytes().to_vec()].concat();
    let table: &[(&str, Vec<u8>, &str)] = &[
        ("nothing", Vec::new(), "too early"),
        (
            "another format",
            words(&["nix-archive-2"]),
            "'nix-archive-2' where 'nix-archive-1'",
        ),
        (
            "unsorted",
            directory(&["b", "a"]),
            "'a' does not come after 'b'",
        ),
        (
            "twice",
            directory(&["a", "a"]),
            "'a' does not come after 'a'",
        ),
        ("no name", directory(&[""]), "'' is not a name"),
        ("the directory", directory(&["."]), "'.' is not a name"),
        ("the one above", directory(&[".."]), "'..' is not a name"),
        ("two names", directory(&["a/b"]), "'a/b' is not a name"),
        ("absolute", directory(&["/etc"]), "'/etc' is not a name"),
        ("zero byte", directory(&["a\0b"]), "is not a name"),
        ("long name", directory(&[&long]), "a name of 256 bytes"),
        (
            "name's padding",
            spoilt(directory(&["a"]), "a"),
            "padding that is not zero",
        ),
        (
            "content's padding",
            spoilt(file.clone(), "x"),
            "padding that is not zero",
        ),
        (
            "word's padding",
            spoilt(file.clone(), ")"),
            "padding that is not zero",
        ),
        (
            "empty target",
            archive(&["(", "type", "symlink", "target", "", ")"]),
            "is empty",
        ),
        (
            "long target",
            archive(&["(", "type", "symlink", "target", &target]),
            "of 4096 bytes",
        ),
        (
            "unknown type",
            archive(&["(", "type", "fifo", ")"]),
            "unknown type 'fifo'",
        ),
        (
            "no contents",
            archive(&["(", "type", "regular", ")"]),
            "')' where the contents",
        ),
        (
            "marked",
            archive(&["(", "type", "regular", "executable", "x"]),
            "'x' where ''",
        ),
        (
            "not ended",
            archive(&["(", "type", "directory"]),
            "too early",
        ),
        (
            "unknown word",
            archive(&["(", "type", "directory", "x"]),
            "'x' where an entry",
        ),
        ("too deep", nested(MAX_DEPTH + 1), "more than 64 nodes"),
        (
            "content of 2^62",
            huge(&["(", "type", "regular", "contents"]),
            "too early",
        ),
        ("word of 2^62", huge(&[]), "where a word should be"),
        (
            "name of 2^62",
            huge(&["(", "type", "directory", "entry", "(", "name"]),
            "a name of",
        ),
        (
            "target of 2^62",
            huge(&["(", "type", "symlink", "target"]),
            "the target of a link of",
        ),
    ];
    for (what, bytes, why) in table {
        let error = check(bytes).expect_err(what).to_string();
        assert!(error.contains(why), "{what}: {error}");
    }
    // Cut anywhere, it is not complete.
    for len in 0..file.len() {
        let error = check(&file[..len]).unwrap_err().to_string();
        assert!(error.contains("too early"), "{len}: {error}");
    }
}

/// What follows is the caller's: it is still in the reader.
#[test]
fn what_follows_is_left() {
    let bytes = [directory(&["a"]), b"more".to_vec()].concat();
    let mut input = Input::new(&bytes[..], "test");
    assert_eq!(read(&mut input, &mut Discard), Ok(bytes.len() as u64 - 4));
    assert!(
        input
            .end()
            .unwrap_err()
            .to_string()
            .contains("something follows")
    );
    let mut input = Input::new(&bytes[..], "test");
    read(&mut input, &mut Discard).unwrap();
    let mut rest = Vec::new();
    input.into_inner().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"more");
}

/// A reader that gives one byte at a time, and is interrupted between them.
struct Drops<'a>(&'a [u8], bool);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

#[test]
fn a_slow_reader_is_seen_whole_by_who_looks_on() {
    let bytes = directory(&["a", "b"]);
    let tee = Tee::new(Drops(&bytes, false), Fan(NarHasher::new(), Vec::new()));
    let mut input = Input::new(tee, "test");
    assert_eq!(read(&mut input, &mut Discard), Ok(bytes.len() as u64));
    input.end().unwrap();
    let (_, Fan(hasher, seen)) = input.into_inner().finish().unwrap();
    assert_eq!(hasher.finish(), (Sha256::of(&bytes), bytes.len() as u64));
    assert_eq!(seen, bytes);
}

/// A writer never makes an archive with a wrong size in it.
#[test]
fn a_writer_holds_files_to_their_size() {
    let head = FileHead {
        executable: false,
        size: 2,
    };
    let begun = || {
        let mut writer = Writer::new(Vec::new(), "test").unwrap();
        writer.file(head).unwrap();
        writer
    };
    assert!(begun().data(b"abc").is_err());
    assert!(begun().finish().is_err());
    let mut short = begun();
    short.data(b"a").unwrap();
    assert!(short.end_file().is_err());
    let mut open = Writer::new(Vec::new(), "test").unwrap();
    open.directory().unwrap();
    assert!(open.finish().is_err());
}

fn object(part: &str, name: &str) -> ObjectName {
    ObjectName::parse(format!("{part}-{name}").as_bytes()).unwrap()
}

const ONE: &str = "bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0";
const TWO: &str = "6cqlk0wyg2a11s0vxfc5clwd04ykrzv5";

/// Writes `bytes` in pieces that end at `cuts`.
fn in_pieces(out: &mut impl Write, bytes: &[u8], cuts: &[usize]) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        out.write_all(&bytes[pair[0]..pair[1]]).unwrap();
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(ONE.as_bytes().to_vec()),
        Just(TWO.as_bytes().to_vec()),
        Just(ONE.as_bytes()[..31].to_vec()),
        Just(TWO.as_bytes()[1..].to_vec()),
        prop::collection::vec(prop::sample::select(b"0123abcxyz".to_vec()), 0..40),
        prop::collection::vec(any::<u8>(), 0..70),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(HASH_PART_BYTES)
        .any(|window| window == part.as_bytes())
}

proptest! {
    #[test]
    fn references_are_found_wherever_the_pieces_end(
        text in text(),
        cuts in prop::collection::vec(0usize..1000, 0..9),
    ) {
        let names = [object(ONE, "one"), object(ONE, "same"), object(TWO, "two")];
        let mut scanner = Scanner::new(names.clone());
        in_pieces(&mut scanner, &text, &cuts);
        let expected: BTreeSet<ObjectName> =
            names.into_iter().filter(|name| contains(&text, name.hash_part())).collect();
        prop_assert_eq!(scanner.finish(), expected);
    }

    #[test]
    fn the_hash_modulo_itself_is_as_defined(
        text in text(),
        cuts in prop::collection::vec(0usize..1000, 0..9),
    ) {
        let mut hasher = ModuloHasher::new(Algorithm::Sha256, Some(&object(ONE, "one")));
        in_pieces(&mut hasher, &text, &cuts);
        // As it is defined: from the left, each appearance replaced, their places at the end.
        let (mut zeroed, mut places, mut at) = (text.clone(), String::new(), 0);
        while at + HASH_PART_BYTES <= text.len() {
            let end = at + HASH_PART_BYTES;
            if &text[at..end] == ONE.as_bytes() {
                zeroed[at..end].fill(0);
                places += &format!("|{at}");
                at = end;
            } else {
                at += 1;
            }
        }
        prop_assert_eq!(hasher.refers_to_itself(), !places.is_empty());
        let got = hasher.finish();
        prop_assert_eq!(got.size, text.len() as u64);
        prop_assert_eq!(got.zeroed, Hash::of(Algorithm::Sha256, &zeroed));
        zeroed.extend(places.as_bytes());
        prop_assert_eq!(got.located, Hash::of(Algorithm::Sha256, &zeroed));
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(check(&bytes));
        drop(check(&[archive(&["("]), bytes].concat()));
    }
}

#[test]
fn a_hash_modulo_nothing_is_the_hash() {
    let mut hasher = ModuloHasher::new(Algorithm::Sha1, None);
    hasher.write_all(ONE.as_bytes()).unwrap();
    let expected = Hash::of(Algorithm::Sha1, ONE.as_bytes());
    let got = hasher.finish();
    assert_eq!(
        (&got.zeroed, &got.located, got.size),
        (&expected, &expected, 32)
    );
}

fn info(part: &str, references: &[&str], nar: &[u8]) -> PathInfo {
    let mut info = PathInfo::new(object(part, "o"), Sha256::of(nar), nar.len() as u64);
    info.references = references.iter().map(|part| object(part, "o")).collect();
    info
}

fn store() -> crate::store::StoreDir {
    crate::store::StoreDir::new(Path::new("/nix/store")).unwrap()
}

fn stream(infos: &[(PathInfo, &[u8])]) -> Vec<u8> {
    let mut writer = ExportWriter::new(Vec::new(), "test", store());
    for (info, nar) in infos {
        let written = writer.object_by(info, |out| {
            out.write_all(nar).expect("memory takes everything");
            Ok(())
        });
        written.unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_stream_comes_back() {
    let nar = directory(&["a"]);
    let mut second = info(TWO, &[ONE, TWO], &nar);
    second.deriver = Some(object(ONE, "o.drv"));
    let infos = [info(ONE, &[], &nar), second];
    let bytes = [
        stream(&[(infos[0].clone(), &nar), (infos[1].clone(), &nar)]),
        b"rest".to_vec(),
    ]
    .concat();
    let mut reader = ExportReader::new(&bytes[..], "test", store());
    for info in &infos {
        let got = reader.next_object(&mut Discard).unwrap().unwrap();
        assert_eq!((&got.name, &got.references), (&info.name, &info.references));
        assert_eq!((&got.deriver, got.nar_hash), (&info.deriver, info.nar_hash));
        assert_eq!(got.nar_size, nar.len() as u64);
    }
    assert_eq!(reader.next_object(&mut Discard), Ok(None));
    assert_eq!(reader.next_object(&mut Discard), Ok(None));
    assert_eq!(reader.into_inner(), b"rest");
}

/// A stream of one object, by hand.
fn by_hand(
    path: &str,
    count: u64,
    references: &[&str],
    deriver: &str,
    signature: &[u8],
) -> Vec<u8> {
    let parts = [
        1u64.to_le_bytes().to_vec(),
        directory(&[]),
        0x4558_494eu64.to_le_bytes().to_vec(),
        string(path.as_bytes()),
        count.to_le_bytes().to_vec(),
        words(references),
        string(deriver.as_bytes()),
        signature.to_vec(),
        0u64.to_le_bytes().to_vec(),
    ];
    parts.concat()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn other_streams_are_refused() {
    let path = format!("/nix/store/{ONE}-o");
    let other = format!("/nix/store/{TWO}-o");
    let unsigned = 0u64.to_le_bytes();
    let next = |bytes: &[u8]| {
        let mut reader = ExportReader::new(bytes, "test", store());
        reader
            .next_object(&mut Discard)
            .map(|object| object.map(|object| object.name))
    };
    let signed = [1u64.to_le_bytes().to_vec(), string(b"of old")].concat();
    for signature in [&unsigned[..], &signed] {
        let good = by_hand(&path, 2, &[&other, &path], "", signature);
        assert_eq!(next(&good), Ok(Some(object(ONE, "o"))));
    }
    let hand = |path: &str, count, references: &[&str], deriver: &str| {
        by_hand(path, count, references, deriver, &unsigned)
    };
    let mut unmarked = hand(&path, 0, &[], "");
    unmarked[8 + directory(&[]).len()] ^= 1;
    let table: &[(Vec<u8>, &str)] = &[
        (Vec::new(), "too early"),
        (2u64.to_le_bytes().to_vec(), "2 where an object"),
        (unmarked, "no mark"),
        (hand("", 0, &[], ""), "without a path"),
        (
            hand("/gnu/store/x", 0, &[], ""),
            "not directly in /nix/store",
        ),
        (
            hand(&format!("{path}/x"), 0, &[], ""),
            "not directly in /nix/store",
        ),
        (
            hand(&path.replace("/nix/", "/nix//"), 0, &[], ""),
            "unusual",
        ),
        (hand("/nix/store/short", 0, &[], ""), "no 32 characters"),
        (hand(&path, 1, &[""], ""), "reference without a path"),
        (hand(&path, 2, &[&path, &other], ""), "does not come after"),
        (hand(&path, 2, &[&path, &path], ""), "does not come after"),
        (hand(&path, 1 << 62, &[], ""), "is the limit"),
        (hand(&path, 0, &[], "x"), "not directly in"),
        (
            by_hand(&path, 0, &[], "", &2u64.to_le_bytes()),
            "2 where a signature",
        ),
    ];
    for (bytes, why) in table {
        let error = next(bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn what_has_changed_is_not_exported() {
    let mut writer = ExportWriter::new(Vec::new(), "test", store());
    let changed = writer.object_by(&info(ONE, &[], b"one"), |out| {
        out.write_all(b"two").expect("memory takes everything");
        Ok(())
    });
    assert!(changed.unwrap_err().to_string().contains("has changed"));
}

#[test]
fn dependencies_come_first() {
    let three = "0cqlk0wyg2a11s0vxfc5clwd04ykrzv5";
    let of = |infos: Vec<PathInfo>| -> BTreeMap<ObjectName, PathInfo> {
        infos
            .into_iter()
            .map(|info| (info.name.clone(), info))
            .collect()
    };
    let absent = "zcqlk0wyg2a11s0vxfc5clwd04ykrzv5";
    let objects = of(vec![
        info(three, &[ONE, three], b""),
        info(ONE, &[TWO, absent], b""),
        info(TWO, &[], b""),
    ]);
    let order = dependencies_first(&objects).unwrap();
    let parts: Vec<&str> = order.iter().map(|info| info.name.hash_part()).collect();
    assert_eq!(parts, [TWO, ONE, three]);
    let cycle = of(vec![info(ONE, &[TWO], b""), info(TWO, &[ONE], b"")]);
    assert!(
        dependencies_first(&cycle)
            .unwrap_err()
            .to_string()
            .contains("refers to")
    );
}
