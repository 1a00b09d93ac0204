// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unlucky moments: what is open works on while its names are moved, made and removed, by others
//! and behind the mount, and no error of a moment reaches anybody.

use crate::common::check::{Must, absent, fails, reads, stat};
use crate::common::for_each_mode;
use crate::common::mount::run;
use rustix::fs::{Advice, AtFlags, StatxFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a race is run.
const LONG: Duration = Duration::from_secs(2);

/// Runs `one` again and again for [`LONG`], while each of `others` does the same on a thread of
/// its own; the first failure of `one` ends the race and the test.
#[track_caller]
fn race(mut one: impl FnMut(), others: &[&(dyn Fn() + Sync)]) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = Ends(&over);
        for other in others {
            let over = &over;
            scope.spawn(move || {
                let _ends = Ends(over);
                while !over.load(Ordering::Relaxed) {
                    other();
                }
            });
        }
        let end = Instant::now() + LONG;
        while Instant::now() < end && !over.load(Ordering::Relaxed) {
            one();
        }
    });
}

/// Tells everybody that the race is over, also when a thread of it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks the driver itself for the attributes.
fn true_links(file: &File) -> io::Result<u32> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    Ok(rustix::fs::statx(file, "", flags, StatxFlags::BASIC_STATS)?.stx_nlink)
}

/// Reads past the page cache.
fn true_content(file: &File) -> io::Result<Vec<u8>> {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
    let mut buffer = vec![0; 64];
    let length = file.read_at(&mut buffer, 0)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn both_ways(one: &Path, other: &Path) {
    fs::rename(one, other).must();
    fs::rename(other, one).must();
}

for_each_mode!(
    /// Whoever has a file open can stat, read and write it while its name is moved to and fro: that
    /// a name leads nowhere while it is being moved is nobody's error.
    a_file_that_is_renamed_while_open,
    |fx| {
        fx.upper().file("d/f", "upper").dir("e");
        let m = fx.mount();
        let file = OpenOptions::new().read(true).write(true).open(m.path("d/f")).must();
        race(
            || both_ways(&m.path("d/f"), &m.path("e/g")),
            &[
                &|| assert_eq!(true_links(&file).must(), 1),
                &|| assert_eq!(true_content(&file).must(), b"upper"),
                &|| file.set_len(5).must(),
            ],
        );
        reads(&m.path("d/f"), "upper");
    }
);

for_each_mode!(
    /// The same for what is below a directory that is moved.
    a_directory_that_is_renamed_while_open,
    |fx| {
        fx.upper().file("d/in/f", "upper").dir("e");
        let m = fx.mount();
        let file = File::open(m.path("d/in/f")).must();
        let directory = File::open(m.path("d/in")).must();
        race(
            || both_ways(&m.path("d/in"), &m.path("e/out")),
            &[
                &|| assert_eq!(true_links(&file).must(), 1),
                &|| assert_eq!(true_content(&file).must(), b"upper"),
                &|| assert!(true_links(&directory).must() > 0),
            ],
        );
        reads(&m.path("d/in/f"), "upper");
    }
);

for_each_mode!(
    /// A lookup that found a name just before it was removed does not take the removed file away
    /// from whoever has it open.
    a_lookup_while_a_name_is_removed,
    |fx| {
        fx.lower().file("low", "lower");
        let m = fx.mount_with("lower-ttl=0");
        let path = m.path("x");
        let look = || match fs::symlink_metadata(&path) {
            Ok(found) => assert!(found.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("lstat: {error}"),
        };
        let once = || {
            let file = File::create_new(&path).must();
            file.write_all_at(b"text", 0).must();
            fs::remove_file(&path).must();
            thread::park_timeout(Duration::from_millis(1));
            file.set_len(2).must();
            assert_eq!(file.metadata().must().nlink(), 0);
            assert_eq!(true_links(&file).must(), 0);
        };
        race(once, &[&look, &look]);
        absent(&path);
    }
);

for_each_mode!(
    /// A file whose one name went behind the mount and whose other name goes through it stays with
    /// whoever has it open.
    a_hard_link_that_went_behind_the_mount,
    |fx| {
        fx.upper().file("p", "upper").file("d/p", "upper");
        let m = fx.mount();
        for (first, second) in [("d/p", "d/q"), ("p", "q"), ("d/r", "r")] {
            if first == "d/r" {
                fs::write(m.path(first), "upper").must();
            }
            fs::hard_link(m.path(first), m.path(second)).must();
            let file = OpenOptions::new().read(true).write(true).open(m.path(first)).must();
            fs::remove_file(fx.upper().path(first)).must();
            fs::remove_file(m.path(second)).must();
            absent(&m.path(second));
            file.set_len(3).must();
            assert_eq!(true_content(&file).must(), b"upp", "{first}");
            file.write_all_at(b"er", 3).must();
            assert_eq!(true_content(&file).must(), b"upper", "{first}");
            assert_eq!(true_links(&file).must(), 0, "{first}");
        }
    }
);

for_each_mode!(
    /// "\"no space\" is not answered because of the moment" in which a removed file is still on its
    /// way out: who removes and writes again at once finds the room.
    room_of_a_removed_file,
    [root, userns],
    |fx| {
        fs::create_dir_all(fx.scratch("up")).must();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=7m", "tmpfs"])
            .arg(fx.scratch("up")));
        fx.lower().file("low", "l");
        fx.upper().dir("d");
        let m = fx.mount();
        let (all, most) = (vec![1; 8 << 20], vec![2; 6 << 20]);
        for round in 0..20 {
            fails(Errno::NOSPC, "8 MiB into 7", fs::write(m.path("d/all"), &all));
            fs::remove_file(m.path("d/all")).must();
            if let Err(error) = fs::write(m.path("d/most"), &most) {
                panic!("round {round}: {error}");
            }
            assert_eq!(stat(&m.path("d/most")).len(), most.len() as u64);
            fs::remove_file(m.path("d/most")).must();
        }
    }
);
