// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cannot be deleted, refreshed or read: told, passed over where that is wanted, never absent.

use super::*;
use crate::common::check::within;
use crate::common::for_each_mode;
use crate::common::mode::PLAIN_ID;
use crate::world::{By, open, set_mode};
use std::time::Duration;

fn mount(words: &[&str], at: &Path) {
    let done = Command::new("mount").args(words).arg(at).output().must();
    assert!(done.status.success(), "{}", text(&done.stderr));
}

fn unmount(at: &Path) {
    let done = Command::new("umount").arg(at).output().must();
    assert!(done.status.success(), "{}", text(&done.stderr));
}

for_each_mode!(
    what_cannot_be_deleted_is_passed_over_where_that_is_wanted,
    [root, userns],
    |fx| {
        let mut world = World::new(fx, By::Fuse);
        let o = world.fill();
        write(&world, "busy/inside/file", b"x");
        let busy = add(&world, "busy");
        let inside = world.merged(&busy).join("inside");
        mount(&["-t", "tmpfs", "tmpfs"], &inside);

        let output = run(&world, "", &["gc"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("unmount it first"), "{said}");
        let output = run(&world, "&ignore-gc-delete-failure=true", &["gc", "--json"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("unmount it first"), "{said}");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&told["failed"], &told["complete"]),
            (&1.into(), &true.into())
        );
        assert!(is_there(&inside) && !is_there(&world.merged(&o.up)));
        unmount(&inside);
        let told = json(&world, 0, &["gc", "--json"]);
        assert_eq!(told["failed"], 0);
        assert!(!is_there(&world.merged(&busy)));
        world.unmount();
    }
);

for_each_mode!(
    the_hook_is_run_where_the_view_cannot_be_refreshed,
    [root],
    |fx| {
        let mut world = World::new(fx, By::Kernel);
        let o = world.fill();
        let hook = world.path("hook");
        let called = world.path("called");
        fs::write(&hook, "#!/bin/sh\necho \"$@\" >>\"${0%/*}/called\"\n").must();
        set_mode(&hook, 0o755);
        let setting = format!("&remount-hook={}", hook.display());
        // Root refreshes an OverlayFS itself.
        let delete = ["delete", &path(&o.dup)];
        let output = run(&world, &setting, &delete);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(!is_there(&called) && is_there(&world.merged(&o.dup)));

        // A plain user may remove what is his, and not refresh.
        crate::world::copy(&world.lower(&o.dup), &world.path("up").join(&o.dup));
        world.unmount();
        world.mount();
        let owner = PLAIN_ID.to_string();
        for top in ["up", "state"] {
            let words = ["-hR", &format!("{owner}:{owner}")];
            assert!(
                Command::new("chown")
                    .args(words)
                    .arg(world.path(top))
                    .status()
                    .must()
                    .success()
            );
        }
        std::os::unix::fs::chown(world.path(""), Some(PLAIN_ID), Some(PLAIN_ID)).must();
        let url = world.url() + &setting;
        let plain = |url: &str| {
            let script = format!(
                "{} delete --store '{url}' {}",
                program().display(),
                path(&o.dup)
            );
            fx.shell_as(PLAIN_ID, PLAIN_ID, &script)
        };
        let output = plain(&url);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let merged = world.path("m/nix/store").display().to_string() + "\n";
        assert_eq!(fs::read_to_string(&called).must(), merged);
        assert!(!is_there(&world.path("up").join(&o.dup)));

        // Without a hook, or with one that fails, that is told.
        crate::world::copy(&world.lower(&o.dup), &world.path("up").join(&o.dup));
        std::os::unix::fs::chown(
            world.path("up").join(&o.dup),
            Some(PLAIN_ID),
            Some(PLAIN_ID),
        )
        .must();
        open(&world.path("up").join(&o.dup));
        let output = plain(&world.url());
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        world.unmount();
    }
);

for_each_mode!(
    a_file_that_cannot_be_read_is_not_checked,
    [root, userns],
    |fx| {
        let mut world = World::new(fx, By::Fuse);
        let o = world.fill();
        let broken = Path::new("/sys/class/net/lo/speed");
        if fs::read(broken).is_ok() || !is_there(broken) {
            fx.skip("there is no file here that fails to be read");
        }
        let file = world.path("up").join(&o.up).join("file");
        // What cannot be read in the layer is read through the view.
        let shown = world.merged(&o.up).join("file");
        for at in [&file, &shown] {
            mount(&["--bind", broken.to_str().unwrap()], at);
        }
        for words in [&["--check-contents"][..], &["--check-contents", "--repair"]] {
            let told = world.verify(words);
            told.is(&[], &[], 3);
            let left = told.json["notChecked"].as_array().unwrap();
            assert_eq!(left.len(), 1, "{}", told.said);
            assert_eq!(left[0]["path"], path(&o.up).as_str(), "{}", told.said);
        }
        unmount(&file);
        unmount(&shown);
        world.verify(&["--check-contents"]).is(&[], &[], 0);
        world.unmount();
    }
);

for_each_mode!(links_and_closures_are_verified, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    ends(&world, 0, &["optimise"]);
    let links = world.path("up/.links");
    let link = fs::read_dir(&links)
        .must()
        .next()
        .expect("there is one")
        .must()
        .path();
    let name = link.file_name().unwrap().to_str().unwrap().to_owned();
    // A file of its own, with another content.
    fs::remove_file(&link).must();
    fs::write(&link, "bad").must();
    sync(&world);
    world.verify(&[]).is(&[], &[], 0);
    world
        .verify(&["--check-contents"])
        .is(&[(&name, "link")], &[], 1);
    world
        .verify(&["--check-contents", "--repair", "--dry-run"])
        .is(&[(&name, "link")], &[], 1);
    assert!(is_there(&link));
    world
        .verify(&["--check-contents", "--repair"])
        .is(&[], &[(&name, "link")], 0);
    assert!(!is_there(&link) && !is_there(&world.merged(".links").join(&name)));

    // The lower tells of a reference that the upper's row lacks.
    let lower = rusqlite::Connection::open(world.path("low/nix/var/nix/db/db.sqlite")).unwrap();
    let sql = "INSERT INTO Refs SELECT a.id, b.id FROM ValidPaths a, ValidPaths b \
               WHERE a.path = ?1 AND b.path = ?2";
    lower.execute(sql, [path(&o.low), path(&o.bare)]).unwrap();
    drop(lower);
    world.verify(&[]).is(&[(&o.low, "closure")], &[], 1);
    world
        .verify(&["--repair", "--dry-run"])
        .is(&[(&o.low, "closure")], &[], 1);
    world
        .verify(&["--repair"])
        .is(&[], &[(&o.low, "closure")], 0);
    world.verify(&[]).is(&[], &[], 0);
    let closure = ends(&world, 0, &["query", "--requisites", &path(&o.low)]);
    assert!(closure.contains(&o.bare), "{closure}");
    world.unmount();
});

for_each_mode!(what_hides_the_lower_goes_in_one_step, [root, user], |fx| {
    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let copy = world.path("up").join(&o.dup);
    open(&copy);
    fs::write(copy.join("file"), "bad").must();
    sync(&world);
    let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    let events = WatchFlags::DELETE | WatchFlags::MOVED_FROM;
    add_watch(&watch, world.path("up"), events).unwrap();
    world
        .verify(&["--check-contents", "--repair"])
        .is(&[], &[(&o.dup, "modified")], 0);
    // An addition finds what another one left.
    let junk = world.path("up").join(&o.bare);
    fs::create_dir(&junk).must();
    fs::write(junk.join("half"), "x").must();
    sync(&world);
    assert_eq!(add(&world, "bare"), o.bare);
    assert!(!is_there(&junk));
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(&watch, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = reader.next() {
        let name = event
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let moved = event.events().contains(ReadFlags::MOVED_FROM);
        seen.extend(name.map(|name| (name, moved)));
    }
    for name in [&o.dup, &o.bare] {
        let of: Vec<bool> = seen
            .iter()
            .filter(|(seen, _)| seen == name)
            .map(|(_, moved)| *moved)
            .collect();
        assert_eq!(of, [true], "{name}: {seen:?}");
    }
    world.unmount();
});

/// What the driver says of repair.
fn repair_is_on(world: &World) -> bool {
    let merged = world.path("m/nix/store");
    let words = ["status", "--json", merged.to_str().expect("ASCII")];
    let output = Command::new(program()).args(words).output().must();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let view = told.get(0).unwrap_or(&told);
    view["repair"].as_bool().unwrap_or_else(|| panic!("{told}"))
}

for_each_mode!(repair_ends_with_who_is_killed, [root], |fx| {
    if Command::new("strace").arg("-V").output().is_err() {
        fx.skip("needs strace");
    }
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let good = world.path("good");
    let repair = |delay: &str| {
        open(&world.lower(&o.low));
        fs::write(world.lower(&o.low).join("file"), "bad").must();
        // Between hiding the lower's object and putting a good one there.
        let mut tracing = Command::new("strace");
        tracing.args(["-f", "-o", "/dev/null", "-e", "trace=renameat2"]);
        tracing.args(["-e", &format!("inject=renameat2:delay_enter={delay}")]);
        tracing
            .arg(program())
            .args(["verify", "--store", &world.url()]);
        tracing
            .args(["--check-contents", "--repair", "--from"])
            .arg(&good);
        let tracing = tracing.stderr(std::process::Stdio::null()).spawn().must();
        let began = within(Duration::from_secs(30), || repair_is_on(&world));
        assert!(began, "repair is never on");
        tracing
    };
    for keep in [false, true] {
        let mut tracing = repair("60s");
        let children = format!("/proc/{0}/task/{0}/children", tracing.id());
        let child = fs::read_to_string(children).must();
        if keep {
            // Somebody wants it on meanwhile, and keeps it.
            let merged = world.path("m/nix/store");
            world.run(&["repair", "on", merged.to_str().expect("ASCII")]);
        }
        let killed = Command::new("kill").args(["-9", child.trim()]).status();
        assert!(killed.must().success());
        // It would let the killed one end only after the delay.
        tracing.kill().must();
        tracing.wait().must();
        let limit = Duration::from_secs(if keep { 2 } else { 20 });
        let off = within(limit, || !repair_is_on(&world));
        assert_eq!(off, !keep);
        if !keep {
            // What was hidden and not replaced shows again.
            assert_eq!(
                fs::read_to_string(world.merged(&o.low).join("file")).must(),
                "bad"
            );
        }
    }
    let merged = world.path("m/nix/store");
    world.run(&["repair", "off", merged.to_str().expect("ASCII")]);
    let mut tracing = repair("1s");
    assert!(tracing.wait().must().success());
    assert!(!repair_is_on(&world));
    world.verify(&["--check-contents"]).is(&[], &[], 0);
    world.unmount();
});
