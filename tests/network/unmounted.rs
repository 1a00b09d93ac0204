// SPDX-License-Identifier: MIT OR Apache-2.0
//! "A lower that is unmounted or comes back is survived": an empty mountpoint is not a lower
//! without objects.

use super::readers::{LOWER_FILES, names, not_right};
use super::server::{Server, unmount};
use super::world::{self, is_failure};
use crate::common::check::{Must, reads, within};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mode::Mode;
use crate::common::mount::{MountGuard, run};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const OPTIONS: &str = ",lower-ttl=100ms";
const RECOVERY: Duration = Duration::from_secs(8);
/// Long enough for everything that the kernel may keep for a moment to be asked anew.
const LONGER: Duration = Duration::from_millis(300);

/// While nothing is mounted at the lower's path: names of the lower are there or fail.
fn nothing_vanishes(view: &MountGuard) {
    for _ in 0..3 {
        std::thread::park_timeout(LONGER);
        for (name, want) in LOWER_FILES {
            match fs::read(view.path(name)) {
                Ok(read) => assert!(read == want.as_bytes(), "{name}: other content"),
                Err(why) => assert!(is_failure(&why), "{name}: {why}"),
            }
        }
        for dir in ["", "aaa", "mm", "many"] {
            let listed = names(&view.path(dir));
            let want = fs::read_dir(view.path("").with_file_name("store").join(dir))
                .must()
                .count();
            match listed {
                Ok(names) => assert!(names.len() >= want, "{dir:?}: {names:?}"),
                Err(why) => assert!(is_failure(&why), "{dir:?}: {why}"),
            }
        }
        reads(&view.path("own/f"), "own");
        fs::write(view.path("own/new"), "new").must();
        fs::remove_file(view.path("own/new")).must();
    }
}

fn comes_back(fx: &Fixture, view: &MountGuard) {
    let mut left = None;
    let recovered = within(RECOVERY, || {
        left = not_right(&view.path(""));
        left.is_none()
    });
    assert!(recovered, "not right after {RECOVERY:?}: {left:?}");
    world::is_whole(fx, view);
}

for_each_mode!(
    /// bindfs is unmounted lazily, and mounted again at the same path, as after a crash: the old
    /// program is dead.
    a_dead_program,
    |fx| {
        let store = world::store(fx);
        let mut server = Server::bindfs(fx.mode(), &store.path(""), &fx.scratch("low"));
        let view = world::mount(fx, &fx.scratch("low"), OPTIONS);
        assert_eq!(not_right(&view.path("")), None, "before");
        server.kill();
        nothing_vanishes(&view);
        server.unmount(true);
        nothing_vanishes(&view);
        server.start();
        comes_back(fx, &view);
    }
);

for_each_mode!(
    /// bindfs is unmounted while it works. As root and in a user namespace the driver has a mount
    /// of its own and goes on; a plain user's keeps the directory open.
    a_living_program,
    |fx| {
        let store = world::store(fx);
        let mut server = Server::bindfs(fx.mode(), &store.path(""), &fx.scratch("low"));
        let view = world::mount(fx, &fx.scratch("low"), OPTIONS);
        assert_eq!(not_right(&view.path("")), None, "before");
        // A mount in use is only taken away lazily; a mount of the driver's own does not keep it.
        server.unmount(fx.mode() == Mode::user);
        nothing_vanishes(&view);
        server.restart();
        comes_back(fx, &view);
    }
);

/// Mounts what `words` say at `at`, and copies the store into it if it is empty.
fn mount(words: &[&str], at: &Path, store: &Path) {
    fs::create_dir_all(at).must();
    run(Command::new("mount").arg("-n").args(words).arg(at));
    if fs::symlink_metadata(at.join("flat")).is_err() {
        // Only ext4 has it.
        drop(fs::remove_dir(at.join("lost+found")));
        run(Command::new("cp").arg("-a").arg(store.join(".")).arg(at));
    }
}

/// A local filesystem is unmounted, plainly and lazily, and mounted again.
fn local(fx: &Fixture, words: &[&str]) {
    let store = world::store(fx);
    let lower = fx.scratch("low");
    mount(words, &lower, &store.path(""));
    let view = world::mount(fx, &lower, OPTIONS);
    for lazily in [true, false] {
        assert_eq!(not_right(&view.path("")), None, "before");
        unmount(fx.mode(), &lower, lazily);
        nothing_vanishes(&view);
        mount(words, &lower, &store.path(""));
        comes_back(fx, &view);
    }
    drop(view);
    unmount(fx.mode(), &lower, true);
}

for_each_mode!(
    /// The same with a local filesystem, which is watched: ext4 on an image.
    ext4,
    [root],
    |fx| {
        let image = fx.scratch("image");
        fs::File::create(&image).must().set_len(64 << 20).must();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let image = image.to_str().expect("scratch paths are ASCII");
        local(fx, &["-o", "loop", image]);
    }
);

for_each_mode!(
    /// And with one that starts empty, and is filled again.
    tmpfs,
    [root, userns],
    |fx| {
        local(fx, &["-t", "tmpfs", "tmpfs"]);
    }
);

for_each_mode!(
    /// With repair: what was hidden shows when the lower has come back with other numbers, and can be
    /// hidden again.
    repair_goes_on,
    |fx| {
        let store = world::store(fx);
        let mut server = Server::bindfs(fx.mode(), &store.path(""), &fx.scratch("low"));
        let view = world::mount(fx, &fx.scratch("low"), ",repair,lower-ttl=100ms");
        let flat = view.path("flat");
        let gone = || {
            let listed = names(&view.path("")).must();
            fs::symlink_metadata(&flat).is_err() && !listed.contains("flat")
        };
        fs::remove_file(&flat).must();
        assert!(gone(), "not hidden");
        server.kill();
        server.restart();
        assert!(within(RECOVERY, || fs::read(&flat).is_ok()), "it does not show again");
        fs::remove_file(&flat).must();
        assert!(gone(), "not hidden after the lower came back");
        assert_eq!(world::status(&view)["hidden"], serde_json::json!(["flat"]));
    }
);
