// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only tells changes nothing, and tells what is then done.

use super::*;
use crate::common::for_each_mode;
use crate::common::manifest;
use crate::world::By;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::io::Write;

/// What a dry run leaves as it is: files of the upper and of the state, and rows. SQLite writes its
/// files as it likes; the lock and the socket of a collector are there before.
fn state(world: &World) -> (Vec<String>, Vec<String>) {
    let mut files: Vec<String> = Vec::new();
    for top in ["up", "state"] {
        let lines = format!("{:#?}", manifest::of(&world.path(top)));
        files.extend(lines.lines().map(str::to_owned));
    }
    let output = Command::new("find")
        .args(["up", "state", "-not", "-type", "d"])
        .args(["-not", "-name", "db.sqlite*", "-not", "-name", "socket"])
        .args(["-printf", "%p %y %m %i %n %s %T@ %l\n"])
        .current_dir(world.path(""))
        .output()
        .must();
    let mut names: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    names.sort();
    let database = Connection::open(world.path("state/db/db.sqlite")).unwrap();
    for table in ["ValidPaths", "Refs"] {
        let sql = format!("SELECT * FROM {table} ORDER BY 1, 2");
        let mut query = database.prepare(&sql).unwrap();
        let columns = query.column_count();
        let rows = query.query_map([], |row| {
            let cells = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
            cells.collect::<rusqlite::Result<Vec<_>>>()
        });
        names.extend(
            rows.unwrap()
                .map(|row| format!("{table} {:?}", row.unwrap())),
        );
    }
    files.retain(|line| line.contains("up/"));
    (files, names)
}

/// Everything that a collection would change.
fn garbage(world: &World) {
    let state = world.path("state");
    fs::create_dir_all(state.join("gcroots/auto")).must();
    std::os::unix::fs::symlink("/nowhere/at/all", state.join("gcroots/auto/stale")).must();
    fs::create_dir_all(state.join("temproots")).must();
    fs::write(state.join("temproots/4000000"), "").must();
    let merged = world.path("m/nix/store");
    fs::write(merged.join("foreign"), "x").must();
    fs::create_dir(merged.join("tmp-1-1")).must();
    fs::write(merged.join(".tmp-link-4000000-1"), "x").must();
    fs::create_dir_all(world.path("up/.links")).must();
    fs::write(world.path("up/.links/unused"), "x").must();
    sync(world);
}

for_each_mode!(what_only_tells_changes_nothing, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    rooted(&world, &o.user);
    // Lock, socket and ballast are there from now on.
    ends(&world, 0, &["gc", "--max-freed", "0"]);
    fs::write(world.path("state/db/reserved"), "ballast").must();
    garbage(&world);
    let before = state(&world);
    assert!(before.1.iter().any(|line| line.contains("db/reserved")));
    let (dead, alive) = (path(&o.up), path(&o.user));
    for (code, words) in [
        (0, &["gc", "--dry-run"][..]),
        (0, &["gc", "--dry-run", "--json"]),
        (0, &["gc", "--dry-run", "--max-freed", "1"]),
        (0, &["gc", "--print-dead"]),
        (0, &["gc", "--print-live"]),
        (0, &["gc", "--print-roots"]),
        (0, &["delete", "--dry-run", &dead]),
        (1, &["delete", "--dry-run", &alive]),
        (0, &["delete", "--dry-run", "--ignore-liveness", &alive]),
        (0, &["verify", "--dry-run", "--check-contents"]),
        (0, &["query", "--roots", &alive]),
    ] {
        if words[0] == "verify" {
            // It finds the link that is named by no hash.
            let code = run(&world, "", words).status.code();
            assert_eq!(code, Some(1));
        } else {
            ends(&world, code, words);
        }
        assert_eq!(state(&world), before, "{words:?}");
    }
    ends(&world, 0, &["gc"]);
    assert_ne!(state(&world), before);
    assert!(!is_there(&world.path("state/gcroots/auto/stale")));
    assert!(!is_there(&world.path("state/temproots/4000000")));
    world.unmount();
});

for_each_mode!(who_is_at_work_is_seen, [root, user], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let state = world.path("state");
    fs::create_dir_all(state.join("temproots")).must();
    let mut kept = fs::File::create(state.join("temproots/77777")).must();
    write!(kept, "{}\0", path(&o.up)).must();
    flock(&kept, FlockOperation::LockExclusive).must();
    fs::File::create(state.join("temproots/77778"))
        .must()
        .write_all(format!("{}\0", path(&o.dup)).as_bytes())
        .must();
    let merged = world.path("m/nix/store");
    let temporary = merged.join("tmp-1-1");
    fs::create_dir(&temporary).must();
    let temporary = fs::File::open(temporary).must();
    flock(&temporary, FlockOperation::LockExclusive).must();
    fs::create_dir(merged.join("tmp-2-2")).must();
    let lock = fs::File::create(merged.join(format!("{}.lock", o.held))).must();
    crate::world::set_mode(&merged.join(format!("{}.lock", o.held)), 0o600);
    flock(&lock, FlockOperation::LockExclusive).must();

    let roots = ends(&world, 0, &["gc", "--print-roots"]);
    let line = format!("{{temp:77777}} -> {}", path(&o.up));
    assert!(roots.lines().any(|root| root == line), "{roots}");
    assert!(!roots.contains("77778"), "{roots}");
    let told = json(&world, 0, &["gc", "--dry-run", "--json"]);
    let dead = |name: &str| {
        let dead = told["dead"].as_array().unwrap();
        dead.contains(&path(name).into())
    };
    assert!(dead("tmp-2-2") && !dead("tmp-1-1"), "{told}");
    assert!(!dead(&format!("{}.lock", o.held)), "{told}");
    assert!(dead(&o.dup) && dead(&o.held) && !dead(&o.up), "{told}");
    // And so does a collection.
    let done = json(&world, 0, &["gc", "--json"]);
    assert!(is_there(&merged.join("tmp-1-1")) && !is_there(&merged.join("tmp-2-2")));
    assert!(is_there(&merged.join(format!("{}.lock", o.held))), "{done}");
    drop((kept, temporary, lock));
    world.unmount();
});

/// Objects with `count` files each, some of which are equal in all of them.
fn sized(world: &World) {
    for object in 0..6_u8 {
        write(
            world,
            &format!("sized-{object}/own"),
            &vec![object; 100_000],
        );
        write(world, &format!("sized-{object}/equal"), &[9; 50_000]);
        write(world, &format!("sized-{object}/twin"), &[9; 50_000]);
        add(world, &format!("sized-{object}"));
    }
    ends(world, 0, &["optimise"]);
}

fn set(told: &serde_json::Value, key: &str) -> BTreeSet<String> {
    let all = told[key].as_array().expect("a list").iter();
    all.map(|one| one.as_str().expect("a path").to_owned())
        .collect()
}

for_each_mode!(a_dry_run_tells_what_is_done, [root], |fx| {
    let mut world = World::new(fx, By::Fuse);
    world.fill();
    sized(&world);
    let mut sizes = BTreeSet::new();
    for limit in ["0", "1", "100000", "250K", "100G"] {
        let told = json(
            &world,
            0,
            &["gc", "--dry-run", "--max-freed", limit, "--json"],
        );
        let done = json(&world, 0, &["gc", "--max-freed", limit, "--json"]);
        let mut dead = set(&told, "dead");
        let deleted = set(&done, "deleted");
        // Rows without files here are told as well.
        let rows = usize::try_from(done["rows-dropped"].as_u64().unwrap()).unwrap();
        assert_eq!(dead.len(), deleted.len() + rows, "{limit}: {told} {done}");
        dead.retain(|path| deleted.contains(path));
        assert_eq!(dead, deleted, "{limit}");
        assert_eq!(told["dead-bytes"], done["bytes-freed"], "{limit}");
        sizes.insert(deleted.len());
    }
    assert!(sizes.len() > 2, "the limits stopped nothing: {sizes:?}");
    let nothing = json(&world, 0, &["gc", "--dry-run", "--json"]);
    assert_eq!(set(&nothing, "dead"), BTreeSet::new());
    ends(&world, 2, &["gc", "--print-dead", "--max-freed", "1"]);
    world.unmount();
});

for_each_mode!(a_path_means_the_same_to_every_command, [root], |fx| {
    let mut world = World::new(fx, By::Fuse);
    let o = world.fill();
    let merged = world.merged(&o.up);
    std::os::unix::fs::symlink(path(&o.up) + "/file", world.path("direct")).must();
    std::os::unix::fs::symlink("direct", world.path("link")).must();
    std::os::unix::fs::symlink(world.path("m/nix"), world.path("way")).must();
    let spelled = [
        path(&o.up),
        path(&o.up) + "/file",
        format!("/nix/../nix/store//{}/", o.up),
        merged.display().to_string(),
        merged.join("file").display().to_string(),
        world.path("link").display().to_string(),
        world.path("way/store").join(&o.up).display().to_string(),
    ];
    for word in &spelled {
        let found = ends(&world, 0, &["query", "--hash", word]);
        assert!(found.starts_with("sha256:"), "{word}");
        let would = ends(&world, 0, &["delete", "--dry-run", word]);
        assert_eq!(would, path(&o.up), "{word}");
    }
    for word in [
        "/nix/store",
        "/nix/store/.links/x",
        "/nowhere",
        "/nix/store/x",
    ] {
        ends(&world, 2, &["query", "--hash", word]);
        ends(&world, 2, &["delete", word]);
    }
    ends(&world, 0, &["delete", &spelled[5]]);
    assert!(!is_there(&world.path("up").join(&o.up)));
    world.unmount();
});
