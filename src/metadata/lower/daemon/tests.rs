// SPDX-License-Identifier: MIT OR Apache-2.0
//! A daemon that is played: every version, message and error, and everything it may do wrong.
use super::peer::{
    ERROR, HASH, LAST, Peer, Served, about, dir, error, greeting, next, object, path,
};
use super::wire::{MESSAGE_MAX, Message, PATHS_MAX, TEXT_MAX, Version};
use super::*;
use crate::store::ContentAddress;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

const NOW: Version = Version::one(38);

/// What follows the end of the messages.
fn answer() -> Message {
    Message::of(LAST)
}

fn set(mut message: Message, names: &[&str]) -> Message {
    message = message.number(names.len() as u64);
    for name in names {
        message = message.string(&path(name));
    }
    message
}

/// Serves one connection in which each question is answered.
fn talk(version: Version, pairs: Vec<(Message, Message)>) -> Served {
    Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(version);
        for (question, answer) in &pairs {
            peer.answers(question, answer);
        }
        peer.is_left();
    })
}

fn is_valid() -> Message {
    about(1, "a")
}

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
        (greets(0x5353_482d_322e_30, 0x126), "no Nix daemon"),
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

/// Asks one question, of which `says` is the answer, and returns what is wrong with it.
fn wrong(operation: u64, says: Vec<u8>) -> String {
    let served = Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        let question = match operation {
            23 => Message::of(23),
            29 => Message::of(29).string(HASH.as_bytes()),
            31 => set(Message::of(31), &["a"]).number(0),
            other => about(other, "a"),
        };
        peer.expects(&question);
        // The client may hang up before it has all of it.
        drop(peer.0.write_all(&says));
    });
    let daemon = served.daemon();
    let a = object("a");
    let error = match operation {
        1 => daemon.is_valid(&a).unwrap_err(),
        6 => daemon.referrers(&a).unwrap_err(),
        23 => daemon.all_valid().unwrap_err(),
        26 => daemon.path_info(&a).unwrap_err(),
        29 => daemon.with_hash_part(HASH).unwrap_err(),
        _ => daemon.valid_among(&[a].into()).unwrap_err(),
    };
    assert!(
        daemon.held.lock().connection.is_none(),
        "it would be used again"
    );
    served.end();
    error.to_string()
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let zeros = "0".repeat(64);
    let info = || answer().number(1).string(b"");
    let hashed = || set(info().string(zeros.as_bytes()), &[]);
    let mut filled = set(answer(), &["a"]).bytes().to_vec();
    *filled.last_mut().unwrap() = 1;
    let table = [
        (1, answer().number(2), "2 is neither yes nor no"),
        (1, Message::of(0x1234), "0x1234 is no message"),
        (
            1,
            Message::of(0x5253_4c54)
                .number(1)
                .number(2)
                .number(1)
                .number(9),
            "no kind of field",
        ),
        (
            6,
            answer().number(PATHS_MAX + 1),
            "where 16777216 is the limit",
        ),
        (
            6,
            answer().number(u64::MAX),
            "a list of 18446744073709551615 items",
        ),
        (
            6,
            answer().number(1).number(TEXT_MAX + 1),
            "a string of 16385 bytes",
        ),
        (
            6,
            answer().number(1).number(u64::MAX),
            "where 16384 is the limit",
        ),
        (
            1,
            Message::of(0x6f6c_6d67).number(MESSAGE_MAX + 1),
            "where 16777216 is the limit",
        ),
        (
            6,
            answer().number(1).string(b"/nix/store/x"),
            "/nix/store/x: no 32 characters",
        ),
        (
            6,
            answer().number(1).string(b"/other/x"),
            "/other/x is not in the store directory /nix/store",
        ),
        (
            6,
            answer().number(1).string(b"\n\xff"),
            "\\n\\xff is not in",
        ),
        (6, answer().number(1).string(b""), " is not in"),
        (26, info().string(b"00"), "\"00\" is no NAR hash"),
        (26, hashed().number(u64::MAX), "is no time of registration"),
        (
            26,
            hashed()
                .number(1)
                .number(1)
                .number(0)
                .number(1)
                .string(b"\xff"),
            "\\xff is no text",
        ),
        (
            26,
            hashed()
                .number(1)
                .number(1)
                .number(0)
                .number(0)
                .string(b"fixed:what"),
            "is no content address",
        ),
        (
            29,
            answer().string(b"/nix/store/00000000000000000000000000000000-x"),
            "was not asked for",
        ),
        (31, set(answer(), &["b"]), "was not asked for"),
        (
            23,
            Message::of(ERROR)
                .string(b"")
                .number(0)
                .string(b"")
                .string(b"")
                .number(0)
                .number(u64::MAX),
            "a list of",
        ),
    ];
    for (operation, says, expected) in table {
        let error = wrong(operation, says.bytes().to_vec());
        assert!(error.contains("its answer makes no sense"), "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = wrong(6, filled);
    assert!(error.contains("other bytes than 0"), "{error}");
}

/// Wherever it ends, that is an error.
#[test]
fn answers_that_are_cut_off_are_errors() {
    let zeros = "0".repeat(64);
    let whole = answer().number(1).string(b"").string(zeros.as_bytes());
    let whole = set(whole, &["b"]).number(1).number(1).number(0);
    let whole = whole
        .number(1)
        .string(b"k:AA==")
        .string(b"")
        .bytes()
        .to_vec();
    for length in 1..whole.len() {
        let error = wrong(26, whole[..length].to_vec());
        assert!(
            error.contains("in the middle of the answer"),
            "{length}: {error}"
        );
    }
    let greeting = greeting(NOW);
    for length in 0..greeting.len() {
        let part = greeting[..length].to_vec();
        let served = Served::by(move |listener| {
            let mut peer = next(listener);
            peer.expects(&Message::of(0x6e69_7863).number(0x126));
            peer.says(&part);
        });
        let error = served
            .daemon()
            .is_valid(&object("a"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("closed the connection"), "{length}: {error}");
        served.end();
    }
}

/// Silence ends the patience, wherever it begins; the stream stays open meanwhile.
#[test]
fn a_daemon_that_says_nothing_is_not_waited_for_for_ever() {
    let whole = [greeting(NOW), answer().number(1).bytes().to_vec()].concat();
    for length in [0, 1, 20, whole.len() - 20, whole.len() - 8, whole.len() - 1] {
        let part = whole[..length].to_vec();
        let (over, wait) = mpsc::channel::<()>();
        let served = Served::by(move |listener| {
            let mut peer = next(listener);
            peer.says(&part);
            assert!(wait.recv().is_err());
        });
        let daemon = served.impatient();
        let error = daemon.is_valid(&object("a")).unwrap_err().to_string();
        let expected = match length < whole.len() - 16 {
            true => "it does not answer",
            // It was answered before it was asked.
            false => "it says more than it was asked",
        };
        assert!(error.contains(expected), "{length}: {error}");
        drop(over);
        served.end();
    }
}

#[test]
fn silence_in_the_middle_of_an_answer_ends_the_connection() {
    let (over, wait) = mpsc::channel::<()>();
    let served = Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.answers(&is_valid(), &answer());
        assert!(wait.recv().is_err());
    });
    let daemon = served.impatient();
    daemon.connect().unwrap();
    let error = daemon.is_valid(&object("a")).unwrap_err().to_string();
    assert!(error.contains("it does not answer"), "{error}");
    assert!(daemon.held.lock().connection.is_none());
    drop(over);
    served.end();
}

/// What it says keeps it alive, for longer in all than it may be silent.
#[test]
fn messages_start_the_time_anew() {
    let served = Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.expects(&is_valid());
        let (_never, pause) = mpsc::channel::<()>();
        for _ in 0..8 {
            assert!(pause.recv_timeout(Duration::from_millis(500)).is_err());
            peer.says(Message::of(0x6f6c_6d67).string(b"still here").bytes());
        }
        peer.says(answer().number(1).bytes());
    });
    let patience = Patience {
        answer: Duration::from_secs(3),
        ..Patience::default()
    };
    let daemon = Daemon::new(&served.socket(), dir(), patience);
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    served.end();
}

#[test]
fn what_nobody_asked_for_is_not_taken_for_an_answer() {
    let served = Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.answers(&is_valid(), &answer().number(1).number(LAST).number(0));
        peer.is_left();
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.answers(&is_valid(), &answer().number(1));
    });
    let daemon = served.daemon();
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    let error = daemon.is_valid(&object("a")).unwrap_err().to_string();
    assert!(error.contains("it says more than it was asked"), "{error}");
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    served.end();
}

/// Answers one question and hangs up; `times` in a row.
fn forgetful(times: usize) -> (Served, mpsc::Receiver<()>) {
    let (tell, gone) = mpsc::channel();
    let served = Served::by(move |listener| {
        for _ in 0..times {
            let mut peer = next(listener);
            peer.greet(NOW);
            peer.answers(&is_valid(), &answer().number(1));
            drop(peer);
            tell.send(()).unwrap();
        }
    });
    (served, gone)
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_made_anew() {
    let (served, gone) = forgetful(3);
    let daemon = served.daemon();
    for _ in 0..3 {
        assert_eq!(daemon.is_valid(&object("a")), Ok(true));
        gone.recv().unwrap();
    }
    // Nobody listens any more.
    served.end();
    let error = daemon.is_valid(&object("a")).unwrap_err().to_string();
    assert!(error.contains("is nix-daemon running?"), "{error}");
}

/// Once over a new connection, and not again.
#[test]
fn who_hangs_up_at_every_question_is_not_asked_for_ever() {
    let served = Served::by(move |listener| {
        for _ in 0..2 {
            let mut peer = next(listener);
            peer.greet(NOW);
            peer.expects(&is_valid());
        }
    });
    let daemon = served.daemon();
    daemon.connect().unwrap();
    let error = daemon.is_valid(&object("a")).unwrap_err().to_string();
    assert!(error.contains("it closed the connection"), "{error}");
    served.end();
}

#[test]
fn temporary_roots_end_with_their_connection() {
    let (tell, gone) = mpsc::channel();
    let served = Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.answers(&about(11, "a"), &answer().number(1));
        drop(peer);
        tell.send(()).unwrap();
    });
    let daemon = served.daemon();
    daemon.add_temp_root(&object("a")).unwrap();
    gone.recv().unwrap();
    for _ in 0..2 {
        let error = daemon.is_valid(&object("a")).unwrap_err().to_string();
        assert!(error.contains("it closed the connection"), "{error}");
    }
    served.end();
}

#[test]
fn a_nar_is_passed_on_to_its_end() {
    let rest = (0..200_000u32).flat_map(u32::to_le_bytes);
    let bytes: Vec<u8> = Message::default()
        .string(b"nix-archive-1")
        .number(1)
        .bytes()
        .to_vec()
        .into_iter()
        .chain(rest)
        .collect();
    let sent = bytes.clone();
    let begun = Message::default()
        .string(b"nix-archive-1")
        .number(ERROR)
        .string(b"Error");
    let begun = begun
        .number(0)
        .string(b"Error")
        .string(b"late")
        .number(0)
        .number(0);
    let served = Served::by(move |listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.expects(&about(38, "a"));
        peer.says(Message::of(0x6f6c_6d67).string(b"sending").bytes());
        peer.says(&[answer().bytes(), &sent].concat());
        // Nothing more will be asked.
        peer.is_left();
        drop(peer);
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.answers(&about(38, "b"), &error("path is not valid"));
        for late in [error("path is not valid"), begun, Message::of(14)] {
            let mut peer = next(listener);
            peer.greet(NOW);
            peer.expects(&about(38, "b"));
            peer.says(&[answer().bytes(), late.bytes()].concat());
        }
    });
    let daemon = served.daemon();
    let mut found = Vec::new();
    daemon
        .nar(&object("a"))
        .unwrap()
        .read_to_end(&mut found)
        .unwrap();
    assert!(found == bytes);
    for expected in [
        "path is not valid",
        "path is not valid",
        "0xe does not begin a NAR",
    ] {
        let error = daemon.nar(&object("b")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    served.end();
}

#[test]
fn sockets_that_nobody_serves_are_told_apart() {
    let place = TempPlace::new();
    let missing = place.daemon("missing").connect().unwrap_err().to_string();
    assert!(
        missing.contains("No such file") && missing.contains("is nix-daemon running?"),
        "{missing}"
    );
    drop(UnixListener::bind(place.path("left")).unwrap());
    let left = place.daemon("left").connect().unwrap_err().to_string();
    assert!(
        left.contains("Connection refused") && left.contains("is nix-daemon running?"),
        "{left}"
    );
    std::fs::write(place.path("file"), "").unwrap();
    let file = place.daemon("file").connect().unwrap_err().to_string();
    assert!(file.contains("Connection refused"), "{file}");
    let long = place
        .daemon(&"x".repeat(200))
        .connect()
        .unwrap_err()
        .to_string();
    assert!(long.contains("name too long"), "{long}");
}

/// Whoever listens does not take connections: the limit holds there too.
#[test]
fn a_full_socket_is_not_waited_for_for_ever() {
    let place = TempPlace::new();
    let listener = UnixListener::bind(place.path("full")).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let short = Duration::from_millis(20);
    let patience = Patience {
        connect: short,
        send: short,
        answer: short,
    };
    let mut waiting = Vec::new();
    let full = loop {
        let address = place.path("full");
        match socket::connect(&address, &patience) {
            Ok(stream) => waiting.push(stream),
            Err(why) => break why,
        }
        assert!(waiting.len() < 1000, "it is never full");
    };
    assert!(matches!(full, Unreachable::Full), "{full:?}");
    let daemon = Daemon::new(&place.path("full"), dir(), patience);
    let error = daemon.connect().unwrap_err().to_string();
    assert!(error.contains("it takes no connection"), "{error}");
}

#[test]
fn sockets_with_long_paths_are_reached() {
    let place = TempPlace::new();
    let deep = "d".repeat(150);
    std::fs::create_dir(place.path(&deep)).unwrap();
    let listener = UnixListener::bind(place.path("socket")).unwrap();
    std::fs::rename(place.path("socket"), place.path(&deep).join("socket")).unwrap();
    let thread = std::thread::spawn(move || {
        let mut peer: Peer = next(&listener);
        peer.greet(NOW);
        peer.answers(&is_valid(), &answer().number(1));
    });
    let daemon = place.daemon(&format!("{deep}/socket"));
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    thread.join().unwrap();
}

struct TempPlace(tempfile::TempDir);

impl TempPlace {
    fn new() -> TempPlace {
        TempPlace(tempfile::TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn daemon(&self, name: &str) -> Daemon {
        Daemon::new(&self.path(name), dir(), Patience::default())
    }
}
