// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is imported where signatures are asked for: only what a trusted key has signed.

use crate::waiting::World;
use std::fs;
use std::process::{Command, Output, Stdio};

/// A pair that Nix made, and a public key of the same name that is another's.
const SECRET: &str = "test-1:VlnklGmf9n8in90gGenBtED4wu/icT/yP/CDYDF9QA0MbpU5Vh1i8OEDB6MsQ5R2KhDoO9iGYjpJDFmyakI8Mw==";
const PUBLIC: &str = "test-1:DG6VOVYdYvDhAwejLEOUdioQ6DvYhmI6SQxZsmpCPDM=";
const ANOTHER: &str = "test-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

fn run(world: &World, words: &[&str], input: Option<&str>) -> Output {
    let stdin = match input {
        Some(name) => Stdio::from(fs::File::open(world.path(name)).unwrap()),
        None => Stdio::null(),
    };
    Command::new(env!("CARGO_BIN_EXE_overstore"))
        .args(words)
        .current_dir(world.path(""))
        .env_remove("OVERSTORE_LOG")
        .stdin(stdin)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn done(world: &World, words: &[&str]) -> String {
    let output = run(world, words, None);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    text(&output.stdout)
}

/// Exports an object of another store to `stream` in `to`, and what is known of it to `unsigned`, `signed`
/// and, with a signature that was changed, `other`; returns its path.
fn exported(to: &World) -> String {
    let from = World::new();
    fs::write(from.path("key"), SECRET).unwrap();
    let url = from.plain();
    let path = done(&from, &["add", "--store", &url, "file"]);
    let path = path.trim_end();
    let infos = |name: &str| {
        let json = done(&from, &["path-info", "--json", "--store", &url, path]);
        fs::write(to.path(name), json).unwrap();
    };
    infos("unsigned");
    done(&from, &["sign", "--store", &url, "--key-file", "key", path]);
    infos("signed");
    let signed = fs::read_to_string(to.path("signed")).unwrap();
    let at = signed.find("test-1:").unwrap() + "test-1:".len();
    let mut other = signed.into_bytes();
    other[at] = if other[at] == b'A' { b'B' } else { b'A' };
    fs::write(to.path("other"), other).unwrap();
    let exported = run(&from, &["export", "--store", &url, path], None);
    fs::write(to.path("stream"), exported.stdout).unwrap();
    path.to_owned()
}

#[test]
fn signatures_are_asked_for_where_the_url_says_so() {
    let to = World::new();
    let path = exported(&to);
    let asks = format!("{}&require-sigs=true", to.plain());
    let import = |url: &str, words: &[&str]| {
        let words = [&["import", "--store", url], words].concat();
        let output = run(&to, &words, Some("stream"));
        (output.status.code(), text(&output.stderr))
    };
    let keys = ["--trusted-public-keys", PUBLIC];
    for words in [
        vec![],
        keys.to_vec(),
        [&["--signatures", "unsigned"], &keys[..]].concat(),
        [&["--signatures", "other"], &keys[..]].concat(),
        vec!["--signatures", "signed"],
        vec!["--signatures", "signed", "--trusted-public-keys", ANOTHER],
    ] {
        let (code, said) = import(&asks, &words);
        assert_eq!(code, Some(1), "{words:?}: {said}");
        let why = format!("error: add {path}: it lacks a signature by a trusted key");
        assert!(said.contains(&why), "{words:?}: {said}");
        let merged = fs::read_dir(to.path("m/nix/store")).unwrap();
        assert_eq!(merged.count(), 0, "{words:?}");
    }
    let (code, said) = import(&asks, &["--trusted-public-keys", "test-1:nonsense"]);
    assert_eq!(code, Some(2), "{said}");
    let both = format!("{ANOTHER} other-1{}", &PUBLIC["test-1".len()..]);
    let words = ["--signatures", "signed", "--trusted-public-keys", &both];
    assert_eq!(import(&asks, &words).0, Some(1), "a key of another name");
    let (code, said) = import(&asks, &[&["--signatures", "signed"], &keys[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    let kept = done(&to, &["path-info", "--sigs", "--store", &asks, &path]);
    assert!(kept.contains("test-1:"), "{kept}");
}

/// As for `nix-store --import`.
#[test]
fn nobody_asks_by_default() {
    for rest in ["", "&require-sigs=false"] {
        let to = World::new();
        exported(&to);
        let url = format!("{}{rest}", to.plain());
        let output = run(&to, &["import", "--store", &url], Some("stream"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}
