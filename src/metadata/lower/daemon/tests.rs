// SPDX-License-Identifier: MIT OR Apache-2.0
//! A daemon that is played: every version, message, error and question.
use super::peer::{
    ERROR, HASH, NOW, Served, about, answer, error, is_valid, next, object, path, set, talk,
};
use super::wire::{Message, Version};
use super::*;
use crate::store::ContentAddress;

#[test]
fn every_version_is_spoken() {
    for minor in 18..=60 {
        let served = talk(Version::one(minor), vec![(is_valid(), answer().number(1))]);
        let daemon = served.daemon();
        assert_eq!(daemon.is_valid(&object("a")), Ok(true), "1.{minor}");
        drop(daemon);
        served.end();
    }
}

#[test]
fn other_versions_are_refused() {
    let greets = |magic, version| Message::of(magic).number(version);
    for (greeting, expected) in [
        (
            greets(0x6478_696f, 0x111),
            "it speaks protocol 1.17, and 1.18 is needed",
        ),
        (
            greets(0x6478_696f, 0x200),
            "it speaks protocol 2.0, and only protocol 1 is known",
        ),
        (greets(0x6478_696f, u64::MAX), "only protocol 1 is known"),
        (greets(0x0053_5348_2d32_2e30, 0x126), "no Nix daemon"),
    ] {
        let served = Served::by(move |listener| {
            let mut peer = next(listener);
            peer.expects(&Message::of(0x6e69_7863).number(0x126));
            peer.says(greeting.bytes());
        });
        let refused = served.daemon().connect().unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        served.end();
    }
}

/// Everything that may come before an answer.
fn messages() -> Vec<Message> {
    let fields = |message: Message| message.number(2).number(0).number(7).number(1).string(b"x");
    let start = Message::of(0x5354_5254).number(1).number(2).number(3);
    vec![
        Message::of(0x6f6c_6d67).string(b"a line\n"),
        Message::of(0x6f6c_6d67).string(b""),
        Message::of(0x6461_7416).string(&[7; 100_000]),
        fields(start.string(b"doing")).number(0),
        Message::of(0x5354_4f50).number(1),
        fields(Message::of(0x5253_4c54).number(1).number(101)),
    ]
}

#[test]
fn messages_before_an_answer_are_passed_over() {
    let all: Vec<u8> = messages()
        .iter()
        .flat_map(|one| one.bytes().to_vec())
        .collect();
    let served = Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.expects(&is_valid());
        peer.says(&all);
        // It asks for data, and there is none.
        peer.answers(&Message::default(), &Message::of(0x6461_7461).number(100));
        peer.expects(&Message::of(0));
        peer.says(&all);
        peer.says(answer().number(1).bytes());
        peer.answers(&is_valid(), &answer().number(0));
        peer.is_left();
    });
    let daemon = served.daemon();
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    assert_eq!(daemon.is_valid(&object("a")), Ok(false));
    drop(daemon);
    served.end();
}

#[test]
fn errors_are_told_and_the_connection_goes_on() {
    let colours = "\u{1b}[31;1merror:\u{1b}[0m path '\u{1b}[35;1m/nix/store/x\u{1b}[0m'\n   is not\u{7} valid";
    let old = Message::of(ERROR).string(colours.as_bytes()).number(1);
    for (version, said) in [
        (NOW, error(colours)),
        (Version::one(26), error(colours)),
        (Version::one(25), old),
    ] {
        let served = talk(
            version,
            vec![(is_valid(), said), (is_valid(), answer().number(1))],
        );
        let daemon = served.daemon();
        let refused = daemon.is_valid(&object("a")).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("it answered: path '/nix/store/x' is not valid;"),
            "{text}"
        );
        assert!(
            text.contains(&format!("{HASH}-a")) && text.contains("/socket"),
            "{text}"
        );
        assert_eq!(daemon.is_valid(&object("a")), Ok(true));
        drop(daemon);
        served.end();
    }
}

#[test]
fn a_path_info_is_read() {
    let hash = "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";
    let ca = "fixed:r:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
    let whole = answer()
        .number(1)
        .string(&path("d.drv"))
        .string(hash.as_bytes());
    let whole = set(whole, &["b", "a"]).number(17).number(120).number(1);
    let whole = whole
        .number(2)
        .string(b"k:AA==")
        .string(b"b:AA==")
        .string(ca.as_bytes());
    let bare = answer().number(1).string(b"").string(hash.as_bytes());
    let bare = set(bare, &[])
        .number(0)
        .number(0)
        .number(0)
        .number(0)
        .string(b"");
    let ask = || about(26, "a");
    let served = talk(
        NOW,
        vec![(ask(), whole), (ask(), bare), (ask(), answer().number(0))],
    );
    let daemon = served.daemon();
    let digest = crate::store::Sha256::from_hex(hash).unwrap();
    let expected = PathInfo {
        references: [object("a"), object("b")].into(),
        deriver: Some(object("d.drv")),
        registration_time: 17,
        ultimate: true,
        signatures: ["b:AA==".to_owned(), "k:AA==".to_owned()].into(),
        ca: ContentAddress::parse(ca),
        ..PathInfo::new(object("a"), digest, 120)
    };
    assert!(expected.ca.is_some());
    assert_eq!(daemon.path_info(&object("a")), Ok(Some(expected)));
    let bare = PathInfo::new(object("a"), digest, 0);
    assert_eq!(daemon.path_info(&object("a")), Ok(Some(bare)));
    assert_eq!(daemon.path_info(&object("a")), Ok(None));
    drop(daemon);
    served.end();
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a table, or one story from end to end"
)]
fn every_question_is_asked_as_daemons_know_it() {
    let outputs = answer()
        .number(2)
        .string(b"out")
        .string(&path("o"))
        .string(b"doc")
        .string(b"");
    let among = |message| set(message, &["a", "b"]);
    let served = talk(
        NOW,
        vec![
            (about(6, "a"), set(answer(), &["b", "a"])),
            (about(33, "a"), set(answer(), &["d.drv"])),
            (about(1, "d.drv"), answer().number(1)),
            (about(41, "d.drv"), outputs),
            (about(1, "d.drv"), answer().number(0)),
            (
                Message::of(29).string(HASH.as_bytes()),
                answer().string(&path("x")),
            ),
            (
                Message::of(29).string(HASH.as_bytes()),
                answer().string(b""),
            ),
            (Message::of(23), set(answer(), &["c", "a"])),
            (among(Message::of(31)).number(0), set(answer(), &["b"])),
            (about(11, "a"), answer().number(1)),
        ],
    );
    let daemon = served.daemon();
    let (a, b, drv) = (object("a"), object("b"), object("d.drv"));
    assert_eq!(daemon.referrers(&a), Ok([a.clone(), b.clone()].into()));
    assert_eq!(daemon.valid_derivers(&a), Ok([drv.clone()].into()));
    assert_eq!(daemon.outputs(&a), Ok(Outputs::new()));
    assert_eq!(
        daemon.outputs(&drv),
        Ok([("out".to_owned(), object("o"))].into())
    );
    assert_eq!(daemon.outputs(&drv), Ok(Outputs::new()));
    assert_eq!(daemon.with_hash_part(HASH), Ok(Some(object("x"))));
    assert_eq!(daemon.with_hash_part(HASH), Ok(None));
    assert!(daemon.with_hash_part("short").is_err());
    assert_eq!(daemon.all_valid(), Ok([a.clone(), object("c")].into()));
    assert_eq!(
        daemon.valid_among(&[a.clone(), b.clone()].into()),
        Ok([b].into())
    );
    assert_eq!(daemon.add_temp_root(&a), Ok(()));
    drop(daemon);
    served.end();
}

#[test]
fn older_daemons_are_asked_less() {
    let among = set(Message::of(31), &["a"]);
    let old = Version::one(21);
    let valid = (about(1, "d.drv"), answer().number(1));
    let served = talk(
        old,
        vec![
            (among, set(answer(), &["a"])),
            valid,
            (is_valid(), answer().number(1)),
        ],
    );
    let daemon = served.daemon();
    assert_eq!(
        daemon.valid_among(&[object("a")].into()),
        Ok([object("a")].into())
    );
    let refused = daemon.outputs(&object("d.drv")).unwrap_err().to_string();
    assert!(
        refused.contains("it speaks protocol 1.21, and 1.22 is needed"),
        "{refused}"
    );
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    drop(daemon);
    served.end();
}
