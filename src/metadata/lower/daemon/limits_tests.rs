// SPDX-License-Identifier: MIT OR Apache-2.0
//! A daemon that says what it should not, not all of it, nothing, or never enough.
use super::peer::{
    ERROR, HASH, LAST, NOW, Peer, Served, about, answer, dir, greeting, is_valid, next, object,
    path, set,
};
use super::wire::{MESSAGE_MAX, Message, PATHS_MAX, TEXT_MAX};
use super::*;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

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
#[expect(
    clippy::too_many_lines,
    reason = "a table, or one story from end to end"
)]
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

/// A client for whom nothing but a whole question takes too long.
fn hurried(served: &Served) -> Daemon {
    let patience = Patience {
        question: Duration::from_millis(200),
        ..Patience::default()
    };
    Daemon::new(&served.socket(), dir(), patience)
}

/// Says `piece` again and again until the client has hung up.
fn drips(peer: &mut Peer, piece: &[u8]) {
    let (_never, pause) = mpsc::channel::<()>();
    while peer.0.write_all(piece).is_ok() {
        assert!(pause.recv_timeout(Duration::from_millis(1)).is_err());
    }
}

/// Each string and each list is within its limits, but not all of them together.
#[test]
fn an_answer_has_a_limit_as_a_whole() {
    let served = Served::by(move |listener| {
        for _ in 0..2 {
            let mut peer = next(listener);
            peer.greet(NOW);
            peer.answers(&is_valid(), &answer().number(1));
            peer.expects(&Message::of(23));
            let text = Message::default().string(&path("a"));
            let mut says = answer().number(1 << 14).bytes().to_vec();
            for _ in 0..1 << 14 {
                says.extend_from_slice(text.bytes());
            }
            // The client may hang up before it has all of it.
            drop(peer.0.write_all(&says));
        }
    });
    let patience = |bytes| Patience {
        bytes,
        ..Patience::default()
    };
    let daemon = Daemon::new(&served.socket(), dir(), patience(1 << 18));
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    let error = daemon.all_valid().unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let text = error.to_string();
    assert!(text.contains("more than 262144 bytes"), "{text}");
    // Each question begins anew.
    let daemon = Daemon::new(&served.socket(), dir(), patience(1 << 21));
    assert_eq!(daemon.is_valid(&object("a")), Ok(true));
    assert_eq!(daemon.all_valid(), Ok([object("a")].into()));
    served.end();
}

#[test]
fn an_answer_byte_by_byte_comes_to_an_end() {
    let served = Served::by(|listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.answers(&Message::of(23), &answer().number(PATHS_MAX));
        drips(&mut peer, Message::default().string(&path("a")).bytes());
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.expects(&is_valid());
        drips(&mut peer, Message::of(0x6f6c_6d67).string(b"wait").bytes());
    });
    let daemon = hurried(&served);
    let list = daemon.all_valid().unwrap_err().to_string();
    let messages = daemon.is_valid(&object("a")).unwrap_err().to_string();
    for error in [list, messages] {
        assert!(
            error.contains("its answer does not come to an end"),
            "{error}"
        );
    }
    assert!(daemon.held.lock().connection.is_none());
    served.end();
}

/// Each question has its time, and so has each piece of a NAR.
#[test]
fn a_nar_byte_by_byte_comes_to_an_end() {
    let served = Served::by(|listener| {
        let mut peer = next(listener);
        peer.greet(NOW);
        peer.expects(&about(38, "a"));
        peer.says(answer().string(b"nix-archive-1").number(1).bytes());
        drips(&mut peer, b"(");
    });
    let mut found = Vec::new();
    let mut nar = hurried(&served).nar(&object("a")).unwrap();
    let error = nar.read_to_end(&mut found).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(found.len() > 24 && found.len() < NAR_PIECE);
    drop(nar);
    served.end();
}
