// SPDX-License-Identifier: MIT OR Apache-2.0
//! A roots daemon that is asked instead of `/proc`, and by which a collector is held in the middle.

use super::*;
use crate::common::for_each_mode;
use crate::world::By;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Duration;

const SETTING: &str = "&use-roots-daemon=true";
/// What waits for a lock that is never released would wait for ever.
const LIMIT: &str = "20";

/// Listens where the collectors of `world` ask.
fn listen(world: &World) -> UnixListener {
    let directory = world.path("state/gc-roots-socket");
    fs::create_dir_all(&directory).must();
    bind(&directory)
}

/// A socket's path may be too long for its address.
fn bind(directory: &Path) -> UnixListener {
    let opened = fs::File::open(directory).must();
    let short = format!("/proc/self/fd/{}/socket", opened.as_raw_fd());
    UnixListener::bind(short).must()
}

fn connect(path: &Path) -> UnixStream {
    let opened = fs::File::open(path.parent().unwrap()).must();
    let short = format!("/proc/self/fd/{}/socket", opened.as_raw_fd());
    UnixStream::connect(short).must()
}

fn answer(mut caller: UnixStream, paths: &[String]) {
    for path in paths {
        caller.write_all(path.as_bytes()).must();
        caller.write_all(b"\0").must();
    }
    caller.shutdown(Shutdown::Both).must();
}

/// Starts a command that asks the daemon, and holds it there.
fn held(
    world: &World,
    listener: &UnixListener,
    words: &[&str],
) -> (std::process::Child, UnixStream) {
    let child = command(world, SETTING, words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .must();
    let (caller, _) = listener.accept().must();
    (child, caller)
}

for_each_mode!(what_a_daemon_names_is_alive, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let listener = listen(&world);
    // What only the daemon knows, and what nobody has as valid.
    let nowhere = path(&o.up).replace("up", "no");
    for words in [&["gc", "--print-roots"][..], &["gc", "--json"]] {
        let (child, caller) = held(&world, &listener, words);
        answer(caller, &[path(&o.up), nowhere.clone()]);
        let output = child.wait_with_output().must();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        if words.contains(&"--print-roots") {
            let socket = world.path("state/gc-roots-socket/socket");
            let line = format!("{} -> {}", socket.display(), path(&o.up));
            assert_eq!(text(&output.stdout), line);
        }
    }
    assert!(is_there(&world.merged(&o.up)));
    assert!(!is_there(&world.merged(&o.user)));

    // One that names what is no store path, or that is not there, stops a collection.
    let (child, caller) = held(&world, &listener, &["gc"]);
    answer(caller, &["/etc/passwd".to_owned()]);
    let output = child.wait_with_output().must();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    drop(listener);
    let output = run(&world, SETTING, &["gc"]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("leave out use-roots-daemon"), "{said}");
    assert!(is_there(&world.merged(&o.up)));
    world.unmount();
});

for_each_mode!(who_adds_does_not_wait_for_who_asks, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    write(&world, "late", b"late");
    let listener = listen(&world);
    for (number, words) in [
        &["gc", "--dry-run", "--json"][..],
        &["gc", "--print-dead", "--json"],
        &["gc", "--print-live", "--json"],
        &["delete", "--dry-run", "--json", &path(&o.held)],
    ]
    .iter()
    .enumerate()
    {
        let (child, caller) = held(&world, &listener, words);
        write(&world, &format!("late-{number}"), &[number as u8]);
        let mut adding = Command::new("timeout");
        adding.arg(LIMIT).arg(program());
        adding.args(["add", "--store", &world.url()]);
        let added = adding
            .arg(world.path(&format!("src/late-{number}")))
            .output()
            .must();
        let said = text(&added.stderr);
        assert_eq!(added.status.code(), Some(0), "{words:?}: {said}");
        // What was told meanwhile is not called dead.
        let mut telling = connect(&world.path("state/gc-socket/socket"));
        writeln!(telling, "{}", path(&o.up)).must();
        let mut byte = [0];
        telling.read_exact(&mut byte).must();
        assert_eq!(byte, *b"1");
        answer(caller, &[path(&o.user)]);
        let output = child.wait_with_output().must();
        let printed = text(&output.stdout);
        if words[0] == "gc" {
            assert!(printed.contains(&path(&o.dup)), "{printed}");
            assert!(!dead(&printed).contains(&path(&o.up)), "{printed}");
        }
    }
    world.unmount();
});

fn dead(printed: &str) -> Vec<String> {
    let told: serde_json::Value = serde_json::from_str(printed).unwrap();
    let dead = told["dead"].as_array().unwrap().iter();
    dead.map(|one| one.as_str().unwrap().to_owned()).collect()
}

for_each_mode!(what_stays_in_use_is_a_refusal, [root], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let listener = listen(&world);
    for (words, json) in [(&["delete"][..], false), (&["delete", "--json"], true)] {
        let name = path(&o.up);
        let words: Vec<&str> = words.iter().copied().chain([name.as_str()]).collect();
        let (child, caller) = held(&world, &listener, &words);
        let mut telling = connect(&world.path("state/gc-socket/socket"));
        writeln!(telling, "{name}").must();
        telling
            .set_read_timeout(Some(Duration::from_secs(20)))
            .must();
        telling.read_exact(&mut [0]).must();
        answer(caller, &[]);
        let output = child.wait_with_output().must();
        let (printed, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{printed}{said}");
        assert!(said.contains("still alive"), "{said}");
        assert!(is_there(&world.merged(&o.up)));
        if json {
            let told: serde_json::Value = serde_json::from_str(&printed).unwrap();
            assert_eq!(told["refused"][0]["path"], name.as_str(), "{told}");
            assert_eq!(told["complete"], true);
        }
    }
    world.unmount();
});
