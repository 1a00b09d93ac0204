// SPDX-License-Identifier: MIT OR Apache-2.0
//! Permanent roots, runtime roots and the roots daemon, without Nix.

use super::roots_daemon::Answer;
use super::runtime::look;
use super::shared_tests::{OBJECT, OTHER, World, object, root};
use super::spelling::{object_of, scan};
use super::*;
use crate::error::Result;
use crate::store::StoreDir;
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

fn valid(name: &ObjectName) -> Result<bool> {
    Ok(name.as_str() != OTHER)
}

impl World {
    fn link(&self, place: &str, target: impl AsRef<Path>) -> PathBuf {
        let link = self.state.join(place);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, &link).unwrap();
        link
    }

    fn permanent(&self, stale: Stale) -> Permanent {
        find_permanent_roots(&self.state, &self.store, stale, &valid, &Interrupt::never()).unwrap()
    }
}

#[test]
fn permanent_roots_are_found_as_nix_finds_them() {
    let world = World::new();
    assert_eq!(world.permanent(Stale::Remove), Permanent::default());
    let path = format!("/nix/store/{OBJECT}");
    let direct = world.link("gcroots/direct", &path);
    let inside = world.link("gcroots/a/b/inside", format!("{path}/bin/sh"));
    let profile = world.link("profiles/p-1-link", &path);
    let outside = world.link("outside", &path);
    world.link("gcroots/relative", "../outside");
    world.link("gcroots/auto/x", &outside);
    let file = world.state.join("gcroots/a").join(OBJECT);
    fs::write(&file, "").unwrap();
    // None of these is one.
    world.link("gcroots/invalid", format!("/nix/store/{OTHER}"));
    world.link("gcroots/store", "/nix/store");
    world.link("gcroots/above", "/nix/store/../x");
    world.link("gcroots/twice", world.state.join("gcroots/auto/x"));
    world.link("gcroots/loop", "loop");
    world.link("gcroots/directory", &world.state);
    world.link("gcroots/dangling", "/nowhere");
    fs::write(world.state.join("gcroots/file"), "").unwrap();
    let stale = world.link("gcroots/auto/stale", "/nowhere/at/all");

    let found = world.permanent(Stale::Keep);
    let expected = [direct, inside, profile, outside, file];
    assert_eq!(
        found.roots,
        expected.iter().map(|link| root(link, OBJECT)).collect()
    );
    assert_eq!(found.stale, std::slice::from_ref(&stale));
    assert!(stale.symlink_metadata().is_ok());
    assert_eq!(world.permanent(Stale::Remove), found);
    assert!(stale.symlink_metadata().is_err());
    assert!(world.permanent(Stale::Remove).stale.is_empty());
    assert!(
        world
            .state
            .join("gcroots/dangling")
            .symlink_metadata()
            .is_ok()
    );
}

#[test]
fn deep_directories_are_read_to_the_end() {
    let world = World::new();
    let mut place = "gcroots".to_owned();
    for _ in 0..900 {
        place.push_str("/d");
    }
    let link = world.link(&format!("{place}/l"), format!("/nix/store/{OBJECT}"));
    assert_eq!(
        world.permanent(Stale::Keep).roots,
        [root(&link, OBJECT)].into()
    );
}

#[test]
fn a_question_that_fails_is_no_answer() {
    let world = World::new();
    world.link("gcroots/direct", format!("/nix/store/{OBJECT}"));
    let fails = |_: &ObjectName| Err(crate::error::Error::environment("ask", "no"));
    let never = Interrupt::never();
    let found = find_permanent_roots(&world.state, &world.store, Stale::Keep, &fails, &never);
    assert!(found.is_err());
}

#[test]
fn what_is_made_is_found() {
    let world = World::new();
    let temp = TempRoots::none();
    let link = world.state.join("result");
    let make = |link: &Path, name: &str| {
        add_permanent_root(&world.state, &world.store, &temp, link, &object(name))
    };
    make(&link, OTHER).unwrap();
    make(&link, OBJECT).unwrap();
    assert_eq!(
        fs::read_link(&link).unwrap(),
        Path::new(&format!("/nix/store/{OBJECT}"))
    );
    let found = world.permanent(Stale::Remove);
    assert_eq!(found.roots, [root(&link, OBJECT)].into());
    assert_eq!(
        fs::read_dir(world.state.join("gcroots/auto"))
            .unwrap()
            .count(),
        1
    );
    add_indirect_root(&world.state, Path::new("/home/u//./result")).unwrap();
    let hash = crate::store::Hash::of(crate::store::Algorithm::Sha1, b"/home/u/result");
    let auto = world.state.join("gcroots/auto").join(hash.base32());
    assert_eq!(fs::read_link(auto).unwrap(), Path::new("/home/u/result"));

    fs::write(world.state.join("file"), "").unwrap();
    symlink("/elsewhere", world.state.join("link")).unwrap();
    for bad in [
        world.state.join("file"),
        world.state.join("link"),
        world.state.join("file/below"),
        "/nix/store/x".into(),
        "relative".into(),
        "/".into(),
    ] {
        assert!(make(&bad, OBJECT).is_err(), "{}", bad.display());
    }
    assert_eq!(fs::read(world.state.join("file")).unwrap(), b"");
}

#[test]
fn paths_lead_into_objects_by_their_text() {
    let store = Path::new("/nix/store");
    let table = [
        (format!("/nix/store/{OBJECT}"), true),
        (format!("/nix/store/{OBJECT}/a/b"), true),
        (format!("/nix/store//{OBJECT}"), false),
        (format!("/nix/stores/{OBJECT}"), false),
        (format!("/nix/store/{OBJECT}~"), false),
        ("/nix/store/".to_owned(), false),
        ("/nix/store".to_owned(), false),
    ];
    for (path, leads) in table {
        assert_eq!(
            object_of(Path::new(&path), store).is_some(),
            leads,
            "{path}"
        );
    }
}

/// A process as `/proc` shows it.
fn process(world: &World, pid: &str) -> PathBuf {
    let process = world.state.join("proc").join(pid);
    fs::create_dir_all(process.join("fd")).unwrap();
    process
}

#[test]
fn what_processes_use_is_found() {
    let world = World::new();
    let at = |n: u32| format!("/nix/store/{n:032}-n");
    let first = process(&world, "1");
    symlink(format!("{}/bin/sh (deleted)", at(0)), first.join("exe")).unwrap();
    symlink(at(1), first.join("cwd")).unwrap();
    symlink(format!("{}/f", at(2)), first.join("fd/3")).unwrap();
    symlink("socket:[1]", first.join("fd/4")).unwrap();
    let maps = format!(
        "0-1 r--p 0 fe:01 2  {}/lib.so\n0-1 r--p 0 0:0 0 [heap]\n",
        at(3)
    );
    fs::write(first.join("maps"), maps).unwrap();
    let environ = format!("A=x{}/bin:{}\0B=/mnt/m/{:032}-n", at(4), at(5), 6);
    fs::write(first.join("environ"), environ).unwrap();
    // Gone in the middle, or of others.
    process(&world, "2");
    fs::create_dir_all(world.state.join("proc/self")).unwrap();
    symlink(at(9), world.state.join("proc/self/exe")).unwrap();
    let kernel = world.state.join("proc/sys/kernel");
    fs::create_dir_all(&kernel).unwrap();
    fs::write(kernel.join("modprobe"), format!("{}/bin/modprobe\n", at(7))).unwrap();

    let dirs = StoreDirs::new(&world.store, [PathBuf::from("/mnt/m")]);
    let used = look(&world.state.join("proc"), &dirs.0, &Interrupt::never()).unwrap();
    let names: Vec<_> = used.keys().map(|name| name.as_str().to_owned()).collect();
    let expected: Vec<_> = (0..8).map(|n| format!("{n:032}-n")).collect();
    assert_eq!(names, expected);
    let only = StoreDirs::new(&world.store, []);
    let used = look(&world.state.join("proc"), &only.0, &Interrupt::never()).unwrap();
    assert_eq!(used.len(), 7);
}

#[test]
fn without_proc_nothing_is_known() {
    let world = World::new();
    let proc = world.state.join("proc");
    assert!(look(&proc, &[], &Interrupt::never()).is_err());
    fs::create_dir(&proc).unwrap();
    assert!(look(&proc, &[], &Interrupt::never()).is_err());
}

#[test]
fn this_process_is_seen_too() {
    let world = World::new();
    let path = world.state.join("store").join(OBJECT);
    fs::create_dir_all(&path).unwrap();
    let _open = fs::File::open(&path).unwrap();
    let dirs = StoreDirs::new(&world.store, [world.state.join("store")]);
    let roots = find_runtime_roots(&dirs, &valid, &Interrupt::never()).unwrap();
    let fd = format!("/proc/{}/fd/", std::process::id());
    let links: Vec<_> = roots
        .iter()
        .filter(|root| root.object == object(OBJECT))
        .collect();
    assert!(
        links
            .iter()
            .any(|root| root.link.to_str().unwrap().starts_with(&fd)),
        "{links:?}"
    );
    let none = |_: &ObjectName| Ok(false);
    assert!(
        find_runtime_roots(&dirs, &none, &Interrupt::never())
            .unwrap()
            .is_empty()
    );
}

/// Asks a roots daemon that answers `text`.
fn answered(world: &World, text: &[u8]) -> Result<usize> {
    let directory = world.state.join("gc-roots-socket");
    fs::create_dir_all(&directory).unwrap();
    fs::remove_file(directory.join("socket")).ok();
    let listener = UnixListener::bind(directory.join("socket")).unwrap();
    let limit = Duration::from_secs(60);
    thread::scope(|scope| {
        // Who has heard enough hangs up.
        scope.spawn(|| listener.accept().unwrap().0.write_all(text).ok());
        let found = ask_roots_daemon(&world.state, &world.store, limit, &Interrupt::never());
        found.map(|found| found.len())
    })
}

#[test]
fn the_roots_daemon_answers_whole_lists_only() {
    let world = World::new();
    let never = Interrupt::never();
    let limit = Duration::from_secs(60);
    assert!(ask_roots_daemon(&world.state, &world.store, limit, &never).is_err());
    let path = format!("/nix/store/{OBJECT}\0");
    assert_eq!(answered(&world, b"").unwrap(), 0);
    assert_eq!(answered(&world, path.repeat(3).as_bytes()).unwrap(), 1);
    for bad in ["x\0".to_owned(), path.clone() + "/nix", "a".repeat(100_000)] {
        assert!(answered(&world, bad.as_bytes()).is_err());
    }
}

#[test]
fn a_roots_daemon_that_hangs_is_left() {
    let world = World::new();
    let directory = world.state.join("gc-roots-socket");
    fs::create_dir_all(&directory).unwrap();
    let _listener = UnixListener::bind(directory.join("socket")).unwrap();
    let limit = Duration::from_millis(20);
    let error = ask_roots_daemon(&world.state, &world.store, limit, &Interrupt::never());
    assert!(error.unwrap_err().to_string().contains("timed out"));
}

proptest! {
    #[test]
    fn spellings_are_found_wherever_a_chunk_ends(
        before in 65_000usize..66_000,
        between in prop::collection::vec(prop::sample::select(b"/nixstore\0=x".to_vec()), 0..30),
    ) {
        let mut text = vec![b'/'; before];
        text.extend_from_slice(format!("/nix/store/{OBJECT}:").as_bytes());
        text.extend_from_slice(&between);
        text.push(b':');
        text.extend_from_slice(format!("/nix/store/{OTHER}").as_bytes());
        let mut found = Vec::new();
        scan(text.as_slice(), &["/nix/store".into()], |name| found.push(name)).unwrap();
        prop_assert_eq!(found, vec![object(OBJECT), object(OTHER)]);
    }

    #[test]
    fn any_bytes_are_scanned(text in prop::collection::vec(any::<u8>(), 0..500)) {
        scan(text.as_slice(), &["/".into(), "".into()], drop).unwrap();
        let store = StoreDir::new(Path::new("/nix/store")).unwrap();
        let mut answer = Answer::default();
        if answer.take(&text, &store).is_ok() {
            drop(answer.finish());
        }
    }
}

/// Has a process work and hold a file below `path` that is deeper than a link can tell.
fn deep(path: &Path, hold_file: bool) -> std::process::Child {
    let name = "d".repeat(250);
    let enter = format!(
        "cd \"$1\"; for n in $(seq 20); do mkdir -p {name}; cd -P -- {name} || exit; done; {} echo; read -r _",
        if hold_file {
            ": >file; exec 3<file; cd /;"
        } else {
            ""
        }
    );
    let mut child = std::process::Command::new("bash")
        .args(["-c", &enter, "bash"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    child
}

fn end(mut child: std::process::Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_path_too_long_for_proc_is_still_in_its_object() {
    let world = World::new();
    let [inside, outside] = [format!("store/{OBJECT}"), "else".to_owned()];
    for top in [&inside, &outside] {
        fs::create_dir_all(world.state.join(top)).unwrap();
    }
    let dirs = StoreDirs::new(&world.store, [world.state.join("store")]);
    let look = |child: &std::process::Child| {
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        assert!(fs::read_link(proc.join("cwd")).is_err());
        let all = find_runtime_roots(&dirs, &valid, &Interrupt::never()).unwrap();
        all.into_iter().any(|root| root.link == proc.join("cwd"))
    };
    let child = deep(&world.state.join(&inside), false);
    assert!(look(&child), "the object is in use");
    end(child);
    let child = deep(&world.state.join(&outside), false);
    assert!(!look(&child), "no object is in use");
    end(child);
}

#[test]
fn a_file_with_a_path_too_long_for_proc_stops_nobody_but_in_the_store() {
    let world = World::new();
    // Everybody who collects on the filesystem meanwhile is stopped: on one where no store is.
    let here = tempfile::tempdir_in("/dev/shm").unwrap();
    let child = deep(here.path(), true);
    let of = |directory: &Path| {
        let dirs = StoreDirs::new(&world.store, [directory.to_owned()]);
        find_runtime_roots(&dirs, &valid, &Interrupt::never())
    };
    // Another filesystem, or none at all.
    assert!(of(Path::new("/proc")).is_ok());
    assert!(of(&world.state.join("nowhere")).is_ok());
    assert!(of(&world.state).is_ok());
    let why = of(here.path()).unwrap_err().to_string();
    assert!(why.contains("too long"), "{why}");
    end(child);
}
