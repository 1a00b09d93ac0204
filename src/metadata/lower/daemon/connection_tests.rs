// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that end, are made anew, cannot be made, or carry a NAR.
use super::peer::{ERROR, NOW, Peer, Served, about, answer, dir, error, is_valid, next, object};
use super::wire::Message;
use super::*;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

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
#[expect(
    clippy::too_many_lines,
    reason = "a table, or one story from end to end"
)]
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
        "it answered: late",
        "does not begin a NAR",
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
        ..Patience::default()
    };
    let mut waiting = Vec::new();
    let full = loop {
        let address = place.path("full");
        match socket::connect(&address, &patience, &Interrupt::never()) {
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
