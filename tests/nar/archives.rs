// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees become archives and archives trees, as a plain encoder and another implementation do it.

use crate::tree::{Scratch, Tree, assert_canonical, golden, trees};
use overstore::nar::{self, Discard, Input, Scanner, Writer};
use overstore::store::{ObjectName, Sha256};
use proptest::prelude::*;
use std::io::Read;

/// Nix's own name for it is `bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-d`.
#[test]
fn a_known_tree_has_its_known_hash() {
    let scratch = Scratch::new();
    golden().make(&scratch.path("d"));
    let (hash, size) = nar::hash_tree(&scratch.place("d")).unwrap();
    let known = "sha256:1n5r2gdj74qx6pyy33zsb66cd920fy5nbr6zbf03hxb698k19a0m";
    assert_eq!((hash.to_string().as_str(), size), (known, 704));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_tree_goes_round(tree in trees(false)) {
        let archive = tree.archive();
        let scratch = Scratch::new();
        tree.make(&scratch.path("made"));
        prop_assert_eq!(&scratch.dump("made").unwrap(), &archive);
        prop_assert_eq!(scratch.restore("new", &archive), Ok(archive.len() as u64));
        prop_assert_eq!(Tree::look(&scratch.path("new")), tree);
        assert_canonical(&scratch.path("new"));
        let known = (Sha256::of(&archive), archive.len() as u64);
        prop_assert_eq!(nar::hash_tree(&scratch.place("new")), Ok(known));
        nar::remove_tree(&scratch.place("new")).unwrap();
        prop_assert_eq!(scratch.names(), ["made"]);
    }

    #[test]
    fn an_archive_cut_or_changed_anywhere_is_never_another_one(
        tree in trees(false), at: prop::sample::Index, bit in 0u8..8,
    ) {
        let archive = tree.archive();
        let at = at.index(archive.len());
        prop_assert!(nar::read(&mut Input::new(&archive[..at], "cut"), &mut Discard).is_err());
        let mut changed = archive;
        changed[at] ^= 1 << bit;
        let mut writer = Writer::new(Vec::new(), "again").unwrap();
        if let Ok(size) = nar::read(&mut Input::new(&changed[..], "changed"), &mut writer) {
            prop_assert_eq!(writer.finish().unwrap(), &changed[..size as usize]);
        }
    }

    /// Where `nix_nar` is right: it takes names for text.
    #[test]
    fn another_implementation_agrees(tree in trees(true)) {
        let archive = tree.archive();
        let scratch = Scratch::new();
        let made = scratch.path("made");
        tree.make(&made);
        let mut theirs = Vec::new();
        let mut encoder = nix_nar::Encoder::builder(&made).internal_buffer_size(1024).build().unwrap();
        encoder.read_to_end(&mut theirs).unwrap();
        prop_assert!(theirs == scratch.dump("made").unwrap(), "their archive differs");
        nix_nar::Decoder::new(&archive[..]).unwrap().unpack(scratch.path("theirs")).unwrap();
        prop_assert_eq!(Tree::look(&scratch.path("theirs")), tree);
    }
}

/// Deeper than a walk keeps directories open, and than archives may be.
#[test]
fn deep_trees_are_walked() {
    let scratch = Scratch::new();
    let mut tree = Tree::Link(b"t".to_vec());
    for _ in 0..300 {
        let entries = [
            (b"d".to_vec(), tree),
            (b"z".to_vec(), Tree::File(false, Vec::new())),
        ];
        tree = Tree::Dir(entries.into_iter().collect());
    }
    tree.make(&scratch.path("deep"));
    assert_eq!(scratch.dump("deep").unwrap(), tree.archive());
    nar::canonicalise(&scratch.place("deep"), nar::Links::Refuse).unwrap();
    assert_canonical(&scratch.path("deep"));
    nar::remove_tree(&scratch.place("deep")).unwrap();
    assert!(scratch.names().is_empty());
}

#[test]
fn what_no_archive_can_hold_is_named() {
    let scratch = Scratch::new();
    golden().make(&scratch.path("d"));
    let status = std::process::Command::new("mkfifo")
        .arg(scratch.path("d/pipe"))
        .status();
    assert!(status.unwrap().success());
    let error = scratch.dump("d").unwrap_err().to_string();
    assert!(error.contains("d/pipe: it is a named pipe"), "{error}");
}

/// A file that has another size than its attributes say: the kernel tells 0 for those of /proc.
#[test]
fn a_file_of_another_size_is_an_error() {
    use std::os::fd::AsFd;
    let dir = std::fs::File::open("/proc/self").unwrap();
    let place =
        nar::Place::new(dir.as_fd(), b"status", std::path::Path::new("/proc/self")).unwrap();
    let error = nar::hash_tree(&place).unwrap_err().to_string();
    assert!(
        error.contains("/proc/self/status: it became longer"),
        "{error}"
    );
    let dir = std::fs::File::open("/sys/kernel").unwrap();
    let place =
        nar::Place::new(dir.as_fd(), b"notes", std::path::Path::new("/sys/kernel")).unwrap();
    drop(nar::hash_tree(&place));
}

#[test]
fn references_are_found_behind_the_dump() {
    let scratch = Scratch::new();
    let parse = |text: &str| ObjectName::parse(text.as_bytes()).unwrap();
    let [inside, named, absent] = [
        parse("bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-inside"),
        parse("6cqlk0wyg2a11s0vxfc5clwd04ykrzv5-named"),
        parse("4c6wsvi6cnq8h7ibg70pv68bi43y92xs-absent"),
    ];
    let content = format!("{}/nix/store/{inside}/bin\n", "x".repeat(65_500));
    let entries = [
        (b"f".to_vec(), Tree::File(false, content.into_bytes())),
        (
            named.as_str().as_bytes().to_vec(),
            Tree::Link(b"t".to_vec()),
        ),
    ];
    Tree::Dir(entries.into_iter().collect()).make(&scratch.path("d"));
    let mut scanner = Scanner::new([inside.clone(), named.clone(), absent]);
    nar::dump(&scratch.place("d"), &mut scanner).unwrap();
    assert_eq!(
        scanner.finish().into_iter().collect::<Vec<_>>(),
        [named, inside]
    );
}
