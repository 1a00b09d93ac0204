// SPDX-License-Identifier: MIT OR Apache-2.0
//! Temporary roots among several processes and collectors. Locks belong to open files, so threads
//! that open for themselves stand for processes.

use super::Stale;
use super::protected::Protected;
use super::shared_tests::{OBJECT, OTHER, World, held, object, until};
use super::*;
use crate::store::StoreDir;
use proptest::prelude::*;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn own_file(world: &World) -> PathBuf {
    world
        .state
        .join(format!("temproots/{}", std::process::id()))
}

fn open(world: &World) -> TempRoots {
    TempRoots::open(&world.state, &world.store, Interrupt::never()).unwrap()
}

#[test]
fn records_are_written_while_they_are_needed() {
    let world = World::new();
    let roots = open(&world);
    let file = own_file(&world);
    assert!(!file.try_exists().unwrap());
    roots.add(&object(OBJECT)).unwrap();
    roots.add(&object(OTHER)).unwrap();
    roots.add(&object(OBJECT)).unwrap();
    let expected = format!("/nix/store/{OBJECT}\0/nix/store/{OTHER}\0");
    assert_eq!(fs::read(&file).unwrap(), expected.as_bytes());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        world.temp_roots(),
        [OBJECT, OTHER].map(|one| HashPart::of(&object(one))).into()
    );
    drop(roots);
    assert!(!file.try_exists().unwrap());
    assert!(world.temp_roots().is_empty());
}

#[test]
fn a_process_has_one_instance_for_each_state() {
    let (world, elsewhere) = (World::new(), World::new());
    let roots = open(&world);
    let second = TempRoots::open(&world.state, &world.store, Interrupt::never()).unwrap_err();
    assert!(second.to_string().contains("already"), "{second}");
    drop(open(&elsewhere));
    drop(roots);
    open(&world).add(&object(OBJECT)).unwrap();
}

#[test]
fn a_dead_namesake_is_replaced() {
    let world = World::new();
    let path = own_file(&world);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("/nix/store/{OTHER}\0")).unwrap();
    let mut old = File::open(&path).unwrap();
    let roots = open(&world);
    roots.add(&object(OBJECT)).unwrap();
    assert_eq!(world.temp_roots(), [HashPart::of(&object(OBJECT))].into());
    // Who waits for the old file is told.
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert!(text.starts_with('d') || text.ends_with('d'), "{text}");
}

#[test]
fn a_living_namesake_of_another_namespace_keeps_its_file() {
    let world = World::new();
    let path = own_file(&world);
    let record = format!("/nix/store/{OTHER}\0");
    let _living = held(&path, record.as_bytes());
    let roots = open(&world);
    roots.add(&object(OBJECT)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), record.as_bytes());
    let both = [OBJECT, OTHER].map(|one| HashPart::of(&object(one)));
    assert_eq!(world.temp_roots(), both.into());
}

#[test]
fn a_file_that_was_removed_is_made_again_with_everything() {
    let world = World::new();
    let roots = open(&world);
    roots.add(&object(OBJECT)).unwrap();
    fs::remove_file(own_file(&world)).unwrap();
    assert!(world.temp_roots().is_empty());
    roots.add(&object(OTHER)).unwrap();
    let both = [OBJECT, OTHER].map(|one| HashPart::of(&object(one)));
    assert_eq!(world.temp_roots(), both.into());
}

#[test]
fn a_file_of_somebody_else_stays_at_the_end() {
    let world = World::new();
    let roots = open(&world);
    roots.add(&object(OBJECT)).unwrap();
    fs::remove_file(own_file(&world)).unwrap();
    let _other = held(&own_file(&world), b"");
    drop(roots);
    assert!(own_file(&world).try_exists().unwrap());
}

#[test]
fn a_collector_that_looks_all_the_time_loses_no_root() {
    let world = World::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                world.temp_roots();
            }
        });
        for _ in 0..300 {
            let roots = open(&world);
            roots.add(&object(OBJECT)).unwrap();
            let found = world.temp_roots();
            if !found.contains(&HashPart::of(&object(OBJECT))) {
                over.store(true, Ordering::Relaxed);
                panic!("lost");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_state_that_is_only_read_has_no_roots() {
    TempRoots::none().add(&object(OBJECT)).unwrap();
}

#[test]
fn a_running_collector_is_told() {
    for deep in [false, true] {
        let mut world = World::new();
        if deep {
            world.deepen();
        }
        let lock = GcLock::exclusive(&world.state, &Interrupt::never()).unwrap();
        let protected = Protected::new([]).unwrap();
        let server = GcServer::start(&lock, &world.store, &protected).unwrap();
        let roots = open(&world);
        for one in [OBJECT, OTHER] {
            roots.add(&object(one)).unwrap();
            assert!(protected.is_protected(HashPart::of(&object(one))));
            assert!(protected.begin_delete(&object(one)).is_none());
        }
        drop(server);
        drop(lock);
        // The next collector finds them in the file.
        assert_eq!(world.temp_roots().len(), 2);
    }
}

#[test]
fn who_adds_what_is_being_deleted_waits() {
    let world = World::new();
    let lock = GcLock::exclusive(&world.state, &Interrupt::never()).unwrap();
    let protected = Protected::new([]).unwrap();
    let _server = GcServer::start(&lock, &world.store, &protected).unwrap();
    let roots = open(&world);
    let deleting = protected.begin_delete(&object(OBJECT)).unwrap();
    let deleted = AtomicBool::new(false);
    thread::scope(|scope| {
        let adding = scope.spawn(|| {
            roots.add(&object(OBJECT)).unwrap();
            deleted.load(Ordering::SeqCst)
        });
        until(|| protected.is_protected(HashPart::of(&object(OBJECT))));
        // Others are served meanwhile, and other deletions ring as well.
        drop(protected.begin_delete(&object(OTHER)));
        world.ask_directly(&format!("/nix/store/{OTHER}\n"), 1);
        deleted.store(true, Ordering::SeqCst);
        drop(deleting);
        assert!(adding.join().unwrap(), "answered before it was deleted");
    });
}

#[test]
fn a_collector_without_a_server_is_waited_for() {
    let world = World::new();
    let lock = GcLock::exclusive(&world.state, &Interrupt::never()).unwrap();
    let roots = open(&world);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let adding = scope.spawn(|| {
            roots.add(&object(OBJECT)).unwrap();
            over.load(Ordering::SeqCst)
        });
        until(|| fs::metadata(own_file(&world)).is_ok_and(|file| file.len() > 0));
        over.store(true, Ordering::SeqCst);
        drop(lock);
        assert!(adding.join().unwrap());
    });
}

#[test]
fn a_server_that_hangs_up_is_asked_again() {
    let world = World::new();
    let _lock = GcLock::exclusive(&world.state, &Interrupt::never()).unwrap();
    fs::create_dir(world.state.join("gc-socket")).unwrap();
    let listener = UnixListener::bind(world.state.join("gc-socket/socket")).unwrap();
    let roots = open(&world);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..3 {
                let (mut stream, _) = listener.accept().unwrap();
                if round == 0 {
                    continue;
                }
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                assert_eq!(line, format!("/nix/store/{OBJECT}\n"));
                if round == 2 {
                    stream.write_all(b"1").unwrap();
                }
            }
        });
        roots.add(&object(OBJECT)).unwrap();
    });
}

#[test]
fn an_answer_that_is_none_is_an_error() {
    let world = World::new();
    let _lock = GcLock::exclusive(&world.state, &Interrupt::never()).unwrap();
    fs::create_dir(world.state.join("gc-socket")).unwrap();
    let listener = UnixListener::bind(world.state.join("gc-socket/socket")).unwrap();
    let roots = open(&world);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream)
                .read_line(&mut String::new())
                .unwrap();
            stream.write_all(b"0").unwrap();
        });
        let error = roots.add(&object(OBJECT)).unwrap_err();
        assert!(error.to_string().contains("it answered '0'"), "{error}");
    });
}

#[test]
fn every_wait_can_be_interrupted() {
    let world = World::new();
    let flag = Arc::new(AtomicBool::new(false));
    let interrupt = Interrupt::when(Arc::clone(&flag));
    let lock = GcLock::exclusive(&world.state, &interrupt).unwrap();
    let roots = TempRoots::open(&world.state, &world.store, interrupt.clone()).unwrap();
    let objects = [object(OBJECT)].into();
    let _locks = PathLocks::take(&world.state, &objects, &interrupt).unwrap();
    flag.store(true, Ordering::Relaxed);
    for result in [
        roots.add(&object(OBJECT)),
        GcLock::shared(&world.state, &interrupt).map(drop),
        PathLocks::take(&world.state, &objects, &interrupt).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(error.to_string().ends_with("interrupted"), "{error}");
    }
    let protected = Protected::new([]).unwrap();
    let server = GcServer::start(&lock, &world.store, &protected).unwrap();
    let _deleting = protected.begin_delete(&object(OTHER)).unwrap();
    let error = roots.add(&object(OTHER)).unwrap_err();
    assert!(error.to_string().ends_with("interrupted"), "{error}");
    drop(server);
}

/// Not a test: the process that the next one starts and kills.
#[test]
fn keeps_a_root_until_it_is_killed() {
    let Some(state) = std::env::var_os("OVERSTORE_TEST_STATE") else {
        return;
    };
    let store = StoreDir::new(Path::new("/nix/store")).unwrap();
    let roots = TempRoots::open(Path::new(&state), &store, Interrupt::never()).unwrap();
    roots.add(&object(OBJECT)).unwrap();
    fs::write(Path::new(&state).join("ready"), "").unwrap();
    let mut end = String::new();
    std::io::stdin().read_to_string(&mut end).unwrap();
}

#[test]
fn the_roots_of_a_killed_process_are_forgotten() {
    let world = World::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "roots::temp_tests::keeps_a_root_until_it_is_killed",
        ])
        .env("OVERSTORE_TEST_STATE", &world.state)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until(|| world.state.join("ready").try_exists().unwrap());
    let found = world.temp_roots();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found, [HashPart::of(&object(OBJECT))].into());
    let file = world.state.join(format!("temproots/{}", child.id()));
    assert!(file.try_exists().unwrap());
    assert!(world.temp_roots().is_empty());
    assert!(!file.try_exists().unwrap());
}

#[test]
fn hidden_files_are_no_roots_and_other_kinds_are_errors() {
    let world = World::new();
    let directory = world.state.join("temproots");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(".keep"), "x").unwrap();
    assert!(world.temp_roots().is_empty());
    assert!(directory.join(".keep").try_exists().unwrap());
    nix::unistd::mkfifo(&directory.join("1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = find_temp_roots(&world.state, &world.store, Stale::Remove).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn half_a_record_waits_and_garbage_is_an_error() {
    let world = World::new();
    let file = world.state.join("temproots/1");
    let living = held(&file, format!("/nix/store/{OBJECT}\0/nix/sto").as_bytes());
    assert_eq!(world.temp_roots().len(), 1);
    drop(living);
    let long = vec![b'a'; 20_000];
    for bad in [b"\0".as_slice(), b"/nix/store/x\0", b"/elsewhere\0", &long] {
        fs::remove_file(&file).ok();
        let _living = held(&file, bad);
        let error = find_temp_roots(&world.state, &world.store, Stale::Remove).unwrap_err();
        assert!(
            error.to_string().contains("no path of this store"),
            "{error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_content_is_read_without_panic(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(format!("/nix/store/{OBJECT}\0").into_bytes()),
                prop::collection::vec(any::<u8>(), 0..40),
            ],
            0..6,
        )
    ) {
        let world = World::new();
        let content = pieces.concat();
        let _living = held(&world.state.join("temproots/1"), &content);
        let records: Vec<_> = content.split_inclusive(|&byte| byte == 0).collect();
        let whole = records.iter().filter_map(|record| record.strip_suffix(b"\0"));
        let right = whole.map(|record| record == format!("/nix/store/{OBJECT}").as_bytes()).collect::<Vec<_>>();
        match find_temp_roots(&world.state, &world.store, Stale::Remove) {
            Ok(found) => prop_assert_eq!(found.len(), usize::from(!right.is_empty())),
            Err(_) => prop_assert!(right.contains(&false)),
        }
    }
}
