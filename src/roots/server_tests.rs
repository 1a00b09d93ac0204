// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector's server among well and badly behaved callers.

use super::server::LINE_MAX_BYTES;
use super::shared_tests::{OBJECT, OTHER, World, object};
use super::*;
use proptest::prelude::*;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

struct Serving {
    world: World,
    lock: GcLock,
    protected: Protected,
}

fn serving() -> Serving {
    let world = World::new();
    let lock = GcLock::exclusive(&world.state, &Interrupt::never()).unwrap();
    let protected = Protected::new([]).unwrap();
    Serving {
        world,
        lock,
        protected,
    }
}

impl Serving {
    fn start(&self) -> GcServer<'_> {
        GcServer::start(&self.lock, &self.world.store, &self.protected).unwrap()
    }

    fn call(&self) -> UnixStream {
        UnixStream::connect(self.world.state.join("gc-socket/socket")).unwrap()
    }

    fn keeps(&self, name: &str) -> bool {
        self.protected.is_protected(HashPart::of(&object(name)))
    }
}

/// Everything that a caller is answered who says `text` and no more.
fn answers(mut stream: UnixStream, text: &[u8]) -> Vec<u8> {
    std::thread::scope(|scope| {
        let mut reader = stream.try_clone().unwrap();
        let reading = scope.spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        stream.write_all(text).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        reading.join().unwrap()
    })
}

#[test]
fn only_a_collector_serves() {
    let world = World::new();
    let lock = GcLock::shared(&world.state, &Interrupt::never()).unwrap();
    let protected = Protected::new([]).unwrap();
    assert!(GcServer::start(&lock, &world.store, &protected).is_err());
    assert!(GcLock::try_shared(&world.state).unwrap().is_some());
}

#[test]
fn a_collector_keeps_others_from_the_lock() {
    let world = World::new();
    let lock = GcLock::exclusive(&world.state, &Interrupt::never()).unwrap();
    assert!(GcLock::try_shared(&world.state).unwrap().is_none());
    let mode = fs::metadata(world.state.join("gc.lock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(lock);
    assert!(GcLock::try_shared(&world.state).unwrap().is_some());
}

#[test]
fn the_socket_is_for_everybody_and_a_stale_one_is_replaced() {
    let serving = serving();
    for _ in 0..2 {
        let server = serving.start();
        let path = serving.world.state.join("gc-socket/socket");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o666
        );
        serving
            .world
            .ask_directly(&format!("/nix/store/{OBJECT}\n"), 1);
        drop(server);
        assert!(UnixStream::connect(path).is_err());
    }
}

#[test]
fn lines_come_in_any_pieces() {
    let serving = serving();
    let _server = serving.start();
    let text = format!("/nix/store/{OBJECT}\ngarbage\n\n/nix/store/{OTHER}\n/nix/store/half");
    assert_eq!(answers(serving.call(), text.as_bytes()), b"1111");
    assert!(serving.keeps(OBJECT) && serving.keeps(OTHER));
    let mut stream = serving.call();
    for byte in format!("/nix/store/{OBJECT}\n").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(answers(stream, b""), b"1");
}

#[test]
fn a_line_without_end_is_forgotten() {
    let serving = serving();
    let _server = serving.start();
    let mut text = vec![b'x'; LINE_MAX_BYTES * 5];
    text.extend_from_slice(format!("/nix/store/{OTHER}\n/nix/store/{OBJECT}\n").as_bytes());
    assert_eq!(answers(serving.call(), &text), b"11");
    assert!(serving.keeps(OBJECT));
}

#[test]
fn what_an_overlong_line_ends_with_is_no_root() {
    let serving = serving();
    let _server = serving.start();
    let mut stream = serving.call();
    // Another caller is served in between.
    stream.write_all(&vec![b'x'; LINE_MAX_BYTES * 5]).unwrap();
    serving
        .world
        .ask_directly(&format!("/nix/store/{OBJECT}\n"), 1);
    assert_eq!(
        answers(stream, format!("/nix/store/{OTHER}\n").as_bytes()),
        b"1"
    );
    assert!(!serving.keeps(OTHER));
}

#[test]
fn the_end_hangs_up_on_who_waits() {
    let serving = serving();
    let server = serving.start();
    let deleting = serving.protected.begin_delete(&object(OBJECT)).unwrap();
    let mut stream = serving.call();
    stream
        .write_all(format!("/nix/store/{OBJECT}\n").as_bytes())
        .unwrap();
    super::shared_tests::until(|| serving.keeps(OBJECT));
    drop(server);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(deleting);
}

#[test]
fn each_of_many_callers_is_served() {
    let serving = serving();
    let _server = serving.start();
    let mut callers: Vec<_> = (0..200).map(|_| serving.call()).collect();
    for (n, caller) in callers.iter_mut().enumerate() {
        caller
            .write_all(format!("/nix/store/{n:032}-n\n").as_bytes())
            .unwrap();
    }
    for (n, caller) in callers.iter_mut().enumerate() {
        let mut answer = [0];
        caller.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"1");
        assert!(serving.keeps(&format!("{n:032}-n")));
    }
}

#[test]
fn two_deletions_of_one_hash_part_are_both_waited_for() {
    let protected = Protected::new([]).unwrap();
    let first = protected.begin_delete(&object(OBJECT)).unwrap();
    let second = protected.begin_delete(&object(OBJECT)).unwrap();
    assert!(!protected.keep(HashPart::of(&object(OBJECT))));
    drop(first);
    assert!(protected.is_pending(HashPart::of(&object(OBJECT))));
    drop(second);
    assert!(protected.keep(HashPart::of(&object(OBJECT))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_line_is_answered_whatever_it_says(text in "[\\n/a-z\\x00\\u{e9}]{0,400}") {
        let serving = serving();
        let _server = serving.start();
        let lines = text.bytes().filter(|&byte| byte == b'\n').count();
        prop_assert_eq!(answers(serving.call(), text.as_bytes()), vec![b'1'; lines]);
    }
}
