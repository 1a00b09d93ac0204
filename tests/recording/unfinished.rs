// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is not complete, not the recorder's, or not alone is left as it is.

use crate::common::check::{mode_of, set_mtime, within};
use crate::common::for_each_mode;
use crate::common::mode::Mode;
use crate::common::mount::MountGuard;
use crate::world::{PATIENCE, Sure, World, name, seal};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Has another object recorded: whatever was completed before has had its turn then.
fn something_later(world: &World, view: &MountGuard, number: usize) {
    let later = name(number, "later");
    world.file(&later, "z");
    world.recorded(view, &later);
}

for_each_mode!(
    /// Each of these is complete but for one thing, and recorded once that is mended.
    what_is_not_complete_waits,
    |fx| {
        let world = World::new(fx);
        let view = world.mount();
        let at = |name: &str| world.merged.join(name);
        let [writable, dated, inside, locked] =
            [(1, "writable"), (2, "dated"), (3, "inside"), (4, "locked")].map(|(n, t)| name(n, t));
        let (refers, unfinished) = (name(5, "refers"), name(6, "unfinished"));
        fs::write(at(&writable), "w").sure();
        set_mtime(&at(&writable), 1).sure();
        fs::write(at(&dated), "d").sure();
        fs::set_permissions(at(&dated), Permissions::from_mode(0o444)).sure();
        fs::create_dir(at(&inside)).sure();
        fs::write(at(&inside).join("file"), "f").sure();
        set_mtime(&at(&inside), 1).sure();
        fs::set_permissions(at(&inside), Permissions::from_mode(0o555)).sure();
        let lock_path = at(&format!("{locked}.lock"));
        let mut lock = File::create(&lock_path).sure();
        flock(&lock, FlockOperation::LockExclusive).sure();
        world.file(&locked, "l");
        fs::write(at(&unfinished), "u").sure();
        world.file(&refers, &unfinished);
        // Later than all of them, so they have had their turn.
        something_later(&world, &view, 7);
        for open in [&writable, &dated, &inside, &locked, &refers, &unfinished] {
            assert_eq!(world.row(open), None, "{open}\n{}", view.said());
        }
        // Nothing of them was changed.
        assert_eq!(mode_of(&at(&writable)), 0o644);
        assert_eq!(mode_of(&at(&inside).join("file")), 0o644);
        // A descriptor that is still open makes the time another one when it is written through.
        let mut open = File::options().append(true).open(at(&unfinished)).sure();
        seal(&at(&unfinished));
        std::io::Write::write_all(&mut open, b"more").sure();
        something_later(&world, &view, 8);
        assert_eq!(world.row(&unfinished), None, "it was written after it was sealed");
        drop(open);
        for object in [&writable, &dated, &inside, &unfinished] {
            seal(&at(object));
        }
        fs::remove_file(&lock_path).sure();
        std::io::Write::write_all(&mut lock, b"d").sure();
        drop(lock);
        for object in [&writable, &dated, &inside, &locked, &unfinished] {
            let row = world.recorded(&view, object);
            assert_eq!(row, world.expected(object, &[]), "{object}");
        }
        let row = world.recorded(&view, &refers);
        assert_eq!(row, world.expected(&refers, &[&unfinished]));
    }
);

for_each_mode!(
    /// An object of the lower is not recorded again, nor is one that is seen merged with the lower's.
    what_the_lower_has_is_left_to_it,
    |fx| {
        let world = World::new(fx);
        let (valid, garbage, later) = (name(1, "valid"), name(2, "garbage"), name(3, "later"));
        world.below(&valid, "v");
        fs::create_dir(world.lower.join(&garbage)).sure();
        fs::write(world.lower.join(&garbage).join("below"), "g").sure();
        fs::write(world.upper.join(&valid), "v").sure();
        fs::create_dir(world.upper.join(&garbage)).sure();
        for object in [&valid, &garbage] {
            seal(&world.upper.join(object));
        }
        let view = world.mount();
        world.file(&later, "z");
        world.recorded(&view, &later);
        for object in [&valid, &garbage] {
            assert_eq!(world.row(object), None, "{object}");
            let why = format!("record /nix/store/{object}: the lower has an object of this name");
            assert_eq!(view.said().matches(&why).count(), 1, "{}", view.said());
        }
        assert_eq!(fs::read_to_string(world.upper.join(&valid)).sure(), "v");
    }
);

for_each_mode!(
    /// A database that cannot be written is no trouble of the mount: it is told once, and what was
    /// completed meanwhile is recorded when it can be.
    a_state_that_cannot_be_written_is_waited_for,
    |fx| {
        let world = World::new(fx);
        let view = world.mount();
        let (db, away) = (world.state.join("db"), world.state.join("away"));
        match fx.mode() {
            // Whom permissions hold.
            Mode::user => fs::set_permissions(&db, Permissions::from_mode(0o555)).sure(),
            Mode::root | Mode::userns => {
                fs::rename(&db, &away).sure();
                fs::write(&db, "not a directory").sure();
            }
        }
        let object = name(1, "object");
        world.file(&object, "o");
        let told = || view.said().contains("WARN  overstore::operations::record");
        assert!(within(PATIENCE, told), "{}", view.said());
        assert_eq!(fs::read_to_string(world.merged.join(&object)).sure(), "o");
        match fx.mode() {
            Mode::user => fs::set_permissions(&db, Permissions::from_mode(0o755)).sure(),
            Mode::root | Mode::userns => {
                fs::remove_file(&db).sure();
                fs::rename(&away, &db).sure();
            }
        }
        assert_eq!(world.recorded(&view, &object), world.expected(&object, &[]));
        let said = view.said();
        assert_eq!(said.matches("WARN  overstore::operations::record").count(), 1, "{said}");
    }
);

for_each_mode!(
    /// Objects in a circle cannot be valid; the others of their batch can.
    circles_are_left_out,
    [userns],
    |fx| {
        let world = World::new(fx);
        let [one, two, fine] = [(1, "one"), (2, "two"), (3, "fine")].map(|(n, t)| name(n, t));
        fs::write(world.upper.join(&one), &two).sure();
        fs::write(world.upper.join(&two), &one).sure();
        fs::write(world.upper.join(&fine), "fine").sure();
        for object in [&one, &two, &fine] {
            seal(&world.upper.join(object));
        }
        let view = world.mount();
        assert_eq!(world.recorded(&view, &fine), world.expected(&fine, &[]));
        assert!(within(PATIENCE, || view.said().contains("closes a cycle")), "{}", view.said());
        assert_eq!((world.row(&one), world.row(&two)), (None, None));
    }
);

for_each_mode!(
    /// Objects of somebody else are not the store's: in a store directory that others may write,
    /// anybody could have made them.
    what_belongs_to_somebody_else_is_not_recorded,
    [root],
    |fx| {
        let world = World::new(fx);
        let view = world.mount();
        let (foreign, later) = (name(1, "foreign"), name(2, "later"));
        fs::write(world.merged.join(&foreign), "f").sure();
        std::os::unix::fs::chown(world.merged.join(&foreign), Some(12345), None).sure();
        seal(&world.merged.join(&foreign));
        world.file(&later, "z");
        world.recorded(&view, &later);
        assert_eq!(world.row(&foreign), None);
        std::os::unix::fs::chown(world.merged.join(&foreign), Some(0), None).sure();
        assert_eq!(world.recorded(&view, &foreign), world.expected(&foreign, &[]));
    }
);
