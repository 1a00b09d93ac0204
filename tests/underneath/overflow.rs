// SPDX-License-Identifier: MIT OR Apache-2.0
//! More happens than the queue of events holds, because the driver was held up: everything is
//! looked at again, and nothing is lost.

use crate::common::check::{Must, stat};
use crate::common::mount::{MountGuard, Stopped};
use crate::common::trace;
use crate::look::{file, listed, names, nothing, same};
use crate::promise::Told;
use crate::quiet::alone_in_each_mode;
use std::fs;

/// More than `fs.inotify.max_queued_events`, which is the whole machine's and stays as it is.
fn more_than_the_queue() -> usize {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").must();
    limit.trim().parse::<usize>().expect("a number") + 1000
}

/// Stops the driver while `meanwhile` runs.
fn held_up(m: &MountGuard, meanwhile: impl FnOnce()) {
    let _stopped = Stopped::new(m.driver_pid());
    meanwhile();
}

alone_in_each_mode!(
    /// A name that was missing, one that was there, a duplicate, and the listing; the log says so
    /// once.
    of_the_queue,
    |fx| {
        if trace::directory().is_some() {
            // The process that was started is the tracer.
            return;
        }
        for layer in [fx.lower(), fx.upper()] {
            for tag in crate::promise::TAGS {
                layer.file(format!("{tag}.dup/f"), "dup").mtime(format!("{tag}.dup/f"), 1);
                layer.mtime(format!("{tag}.dup"), 1);
            }
        }
        for tag in crate::promise::TAGS {
            fx.lower().file(format!("{tag}.goes"), "goes");
        }
        let v = Told::AtOnce.mount(fx);
        let burst = more_than_the_queue();
        let change = |tag: &str| {
            nothing(&v.path(format!("{tag}.comes"))).expect("not there yet");
            file(&v.path(format!("{tag}.goes")), "goes").expect("before");
            same(&v.path(format!("{tag}.dup/f")), &fx.upper().path(format!("{tag}.dup/f"))).expect("before");
            listed(&v.path(""), &format!("{tag}.goes"), true).expect("before");
            held_up(&v.mount, || {
                for number in 0..burst {
                    fs::File::create(fx.lower().path(format!("{tag}.{number}"))).must();
                }
                fs::remove_dir_all(fx.upper().path(format!("{tag}.dup"))).must();
                fs::remove_file(fx.lower().path(format!("{tag}.goes"))).must();
                fx.lower().file(format!("{tag}.comes"), "comes");
            });
        };
        let seen = |tag: &str| {
            file(&v.path(format!("{tag}.comes")), "comes")?;
            nothing(&v.path(format!("{tag}.goes")))?;
            for dup in ["dup", "dup/f"] {
                same(&v.path(format!("{tag}.{dup}")), &fx.lower().path(format!("{tag}.{dup}")))?;
            }
            Ok(())
        };
        v.both_ways(change, seen);
        for number in 0..burst {
            stat(&v.path(format!("alone.{number}")));
        }
        assert_eq!(names(&v.path("")).len(), 2 * (burst + 2));
        let said = fs::read_to_string(fx.scratch("driver.log")).must();
        let times = said.matches("too many changes at once").count();
        assert_eq!(times, 2, "once each time: {said}");
        fx.lower_changed_outside();
    }
);
