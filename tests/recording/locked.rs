// SPDX-License-Identifier: MIT OR Apache-2.0
//! While somebody has the database to himself, the recorder keeps nobody from unmounting.

use crate::common::check::within;
use crate::common::for_each_mode;
use crate::world::{Sure, World, name, recorder_ended, recorders};
use rusqlite::Connection;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The recorder looks at an object two seconds after its last change; then it waits for a second, and
/// begins again five seconds later.
const LOOKED_AT: Duration = Duration::from_secs(6);

/// How long a glance of the recorder at the view may take on a busy machine.
const GLANCE: Duration = Duration::from_millis(300);

/// What the recorder has open below `directory`.
fn held(directory: &Path) -> Vec<String> {
    let mut held = Vec::new();
    for process in recorders() {
        let Ok(entries) = fs::read_dir(format!("/proc/{process}/fd")) else {
            continue;
        };
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let below = links.filter(|link| link.starts_with(directory));
        held.extend(below.map(|link| link.display().to_string()));
    }
    held
}

for_each_mode!(
    a_locked_database_holds_nothing_of_the_view,
    [userns, user],
    |fx| {
        let world = World::new(fx);
        let view = world.mount();
        let first = name(1, "first");
        world.file(&first, "first");
        world.recorded(&view, &first);
        let holder = Connection::open(world.state.join("db/db.sqlite")).sure();
        holder.execute_batch("BEGIN EXCLUSIVE").sure();
        for number in 2..6 {
            world.file(&name(number, "more"), "more");
        }
        let mut since = None;
        within(LOOKED_AT, || {
            let held = held(&world.merged);
            if held.is_empty() {
                since = None;
            } else {
                let since = *since.get_or_insert_with(Instant::now);
                assert!(since.elapsed() < GLANCE, "{held:?}");
            }
            false
        });
        drop(view);
        recorder_ended();
        holder.execute_batch("ROLLBACK").sure();
    }
);
