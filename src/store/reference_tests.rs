// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every URL form that Nix knows, with what comes out of it.

use super::*;
use crate::store::percent::encode_query_value;
use proptest::prelude::*;

fn parse(text: &str) -> Result<StoreReference, ReferenceError> {
    StoreReference::parse(text.as_bytes(), Path::new("/cwd"))
}

fn target(scheme: &str, path: &str) -> Target {
    Target::Scheme {
        scheme: scheme.to_owned(),
        path: path.as_bytes().to_vec(),
    }
}

fn settings(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    pairs
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

/// A URL, its scheme and path (nothing stands for `auto`), and its settings.
type Row = (
    &'static str,
    Option<(&'static str, &'static str)>,
    &'static [(&'static str, &'static str)],
);

const ACCEPTED: &[Row] = &[
    ("", None, &[]),
    ("auto", None, &[]),
    ("auto?root=/r", None, &[("root", "/r")]),
    ("?root=/r", None, &[("root", "/r")]),
    ("daemon", Some(("unix", "")), &[]),
    (
        "daemon?max-connections=7",
        Some(("unix", "")),
        &[("max-connections", "7")],
    ),
    ("unix://", Some(("unix", "")), &[]),
    ("unix:///run/s", Some(("unix", "/run/s")), &[]),
    (
        "unix:///run/s?root=/l",
        Some(("unix", "/run/s")),
        &[("root", "/l")],
    ),
    ("unix://s", Some(("unix", "s")), &[]),
    ("local", Some(("local", "")), &[]),
    (
        "local?root=/foo bar/baz",
        Some(("local", "")),
        &[("root", "/foo bar/baz")],
    ),
    ("local://?root=/r", Some(("local", "")), &[("root", "/r")]),
    ("local:?root=/r", Some(("local", "")), &[("root", "/r")]),
    (
        "local:///r?trusted=true",
        Some(("local", "/r")),
        &[("trusted", "true")],
    ),
    ("/lower", Some(("local", "/lower")), &[]),
    (
        "/lower?read-only=true",
        Some(("local", "/lower")),
        &[("read-only", "true")],
    ),
    ("./store-a", Some(("local", "/cwd/store-a")), &[]),
    ("x/../y", Some(("local", "/cwd/y")), &[]),
    ("/with:colon", Some(("local", "/with:colon")), &[]),
    ("/a b", Some(("local", "/a b")), &[]),
    ("local:/a b", Some(("local", "/cwd/local:/a b")), &[]),
    ("local-overlay://", Some(("local-overlay", "")), &[]),
    ("local-overlay://?", Some(("local-overlay", "")), &[]),
    (
        "local-overlay:?a=b",
        Some(("local-overlay", "")),
        &[("a", "b")],
    ),
    (
        "local-overlay:///m/x?a=b",
        Some(("local-overlay", "/m/x")),
        &[("a", "b")],
    ),
    (
        "local-overlay:/m?a=b",
        Some(("local-overlay", "/m")),
        &[("a", "b")],
    ),
    (
        "local-overlay://host/m",
        Some(("local-overlay", "host/m")),
        &[],
    ),
    ("x://?a=b=c", Some(("x", "")), &[("a", "b=c")]),
    ("x://?a=1+2", Some(("x", "")), &[("a", "1+2")]),
    ("x://?a=\"q\"", Some(("x", "")), &[("a", "\"q\"")]),
    ("x://?%61=%2Fx", Some(("x", "")), &[("a", "/x")]),
    ("x://?a=", Some(("x", "")), &[("a", "")]),
    (
        "local-overlay://?lower-store=/lower?read-only=true&upper-layer=/u",
        Some(("local-overlay", "")),
        &[
            ("lower-store", "/lower?read-only=true"),
            ("upper-layer", "/u"),
        ],
    ),
    (
        "local-overlay://?lower-store=local%3A%2F%2F%3Froot%3D/lower%26read-only%3Dtrue",
        Some(("local-overlay", "")),
        &[("lower-store", "local://?root=/lower&read-only=true")],
    ),
];

#[test]
fn accepts_every_form_that_nix_accepts() {
    for (text, expected, pairs) in ACCEPTED {
        let reference = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let expected = expected.map_or(Target::Auto, |(scheme, path)| target(scheme, path));
        assert_eq!(reference.target, expected, "{text}");
        assert_eq!(reference.settings, settings(pairs), "{text}");
        assert_eq!(reference.notes, [], "{text}");
    }
}

#[test]
fn refuses_what_nix_refuses() {
    let table: &[(&str, ReferenceError)] = &[
        ("local-overlay?root=/r", ReferenceError::NotAStore),
        ("store-a", ReferenceError::NotAStore),
        ("local:///a b", ReferenceError::NotAStore),
        ("1x://a", ReferenceError::NotAStore),
        ("local:///a%2", ReferenceError::NotAStore),
        (
            "local://?a=%2",
            ReferenceError::QueryEscape(BadEscape { at: 0 }),
        ),
        (
            "local://?a=x&b%zz",
            ReferenceError::QueryEscape(BadEscape { at: 1 }),
        ),
        ("local://?a={}", ReferenceError::QueryByte(b'{')),
        ("local?a=/x#y", ReferenceError::QueryByte(b'#')),
        ("local://?a=\u{e9}", ReferenceError::QueryByte(0xc3)),
    ];
    for (text, error) in table {
        assert_eq!(parse(text), Err(*error), "{text}");
    }
}

#[test]
fn notes_what_has_no_effect() {
    let reference = parse("x://?a=1&b&a=2&&c=3#d").unwrap();
    assert_eq!(reference.settings, settings(&[("a", "1"), ("c", "3")]));
    let notes: Vec<String> = reference.notes.iter().map(Note::to_string).collect();
    assert_eq!(
        notes,
        [
            "'b' has no '=' and is ignored",
            "setting a is given twice; the first counts",
            "'' has no '=' and is ignored",
            "'#d' is ignored, as Nix does; write %23 for a '#' that belongs to a value",
        ]
    );
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b"%&=+?#/ \"\\,:;[]{}".to_vec());
    prop::collection::vec(prop_oneof![special, any::<u8>()], 0..40)
}

proptest! {
    #[test]
    fn encoded_settings_come_back(values in prop::collection::vec(bytes(), 1..5)) {
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = values
            .into_iter()
            .enumerate()
            .map(|(index, value)| (format!("k{index}").into_bytes(), value))
            .collect();
        let query: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", encode_query_value(name), encode_query_value(value)))
            .collect();
        let reference = parse(&format!("x://?{}", query.join("&"))).unwrap();
        prop_assert_eq!(reference.settings, pairs);
        prop_assert_eq!(reference.notes, []);
    }

    #[test]
    fn any_bytes_are_judged_without_panic(text in bytes()) {
        drop(StoreReference::parse(&text, Path::new("/cwd")));
    }
}
