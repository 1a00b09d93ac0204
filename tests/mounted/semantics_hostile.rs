// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user may try on purpose: odd arguments, and changes underneath at the worst moment.

use crate::common::check::{
    Must, absent, attributes, fails, kind_of, lists, reads, set_mtime, stat,
};
use crate::common::for_each_mode;
use crate::common::mode::PLAIN_ID;
use crate::common::mount::run;
use rustix::fs::{CWD, FileType, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

for_each_mode!(
    /// The smallest and the largest time that can be asked for are answered like any other, and
    /// the driver answers afterwards.
    times_at_the_ends,
    |fx| {
        let m = fx.mount();
        fs::write(m.path("f"), "x").must();
        for seconds in [i64::MIN, i64::MIN + 1, i64::MAX, -1] {
            set_mtime(&fx.upper().path("f"), seconds).must();
            let kept = stat(&fx.upper().path("f")).mtime();
            set_mtime(&m.path("f"), 7).must();
            set_mtime(&m.path("f"), seconds).must();
            assert_eq!(stat(&fx.upper().path("f")).mtime(), kept, "{seconds}");
            assert_eq!(stat(&m.path("f")).mtime(), kept, "{seconds}");
        }
        fs::write(m.path("g"), "more").must();
        reads(&m.path("g"), "more");
    }
);

for_each_mode!(
    /// "`trusted.*` are listed for root alone": as everywhere else.
    trusted_attributes,
    [root],
    |fx| {
        fx.lower().file("low", "l").xattr("low", "trusted.note", "x").xattr("low", "user.note", "x");
        fx.upper().file("up", "u").xattr("up", "trusted.note", "x").xattr("up", "user.note", "x");
        let m = fx.mount_with("xattr");
        for name in ["low", "up"] {
            let mut all = attributes(&m.path(name)).must();
            all.sort();
            assert_eq!(all, ["trusted.note", "user.note"], "{name}");
            nix::unistd::setfsuid(PLAIN_ID.into());
            let seen = attributes(&m.path(name));
            nix::unistd::setfsuid(0.into());
            assert_eq!(seen.must(), ["user.note"], "{name}");
        }
    }
);

for_each_mode!(
    /// "What is made belongs to the caller from the first moment": a user who owns the directory
    /// underneath cannot have the driver give him root's file by swapping it in.
    swapped_while_made,
    [root],
    |fx| {
        fx.upper().dir("his").owner("his", PLAIN_ID, PLAIN_ID);
        let m = fx.mount();
        let upper = fx.upper();
        let (round, over) = (AtomicU32::new(0), AtomicBool::new(false));
        let name = |what: &str, number: u32| format!("his/{what}-{number}");
        let swapped = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                let (mut at, mut swapped) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    let number = round.load(Ordering::Acquire);
                    let paths = ["roots", "new"].map(|what| upper.path(name(what, number)));
                    let swap = || renameat_with(CWD, &paths[0], CWD, &paths[1], RenameFlags::EXCHANGE);
                    if number != at && swap().is_ok() {
                        (at, swapped) = (number, swapped + 1);
                    }
                }
                swapped
            });
            let lost = (1..2000).find(|&number| {
                let roots = fs::File::create(fx.upper().path(name("roots", number))).must();
                round.store(number, Ordering::Release);
                nix::unistd::setfsuid(PLAIN_ID.into());
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                let new = m.path(name("new", number));
                let made = rustix::fs::mknodat(CWD, new, FileType::Fifo, mode, 0);
                nix::unistd::setfsuid(0.into());
                // It may have been taken away again: only the owner of the other one counts.
                let _made = made;
                roots.metadata().must().uid() != 0
            });
            over.store(true, Ordering::Relaxed);
            assert_eq!(lost, None, "root's file was given away");
            attacker.join().expect("the attacker does not panic")
        });
        println!("swapped {swapped} times");
        assert!(swapped > 0, "the point of this test");
    }
);

for_each_mode!(
    /// A directory over a whiteout needs a mark, or the hidden lower contents would show in it:
    /// where no mark can be set the call fails, and the name stays hidden.
    no_mark_no_directory,
    [root],
    |fx| {
        fx.lower().file("d/hidden", "l").file("f", "l");
        let up = fx.scratch("up");
        fs::create_dir_all(&up).must();
        run(Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(up));
        fx.upper().whiteout("d").whiteout("f");
        let m = fx.mount();
        fails(Errno::OPNOTSUPP, "mkdir", fs::create_dir(m.path("d")));
        absent(&m.path("d"));
        assert_eq!(kind_of(&fx.upper().path("d")), Some("char"));
        lists(&m.path(""), &[]);
        fs::create_dir(m.path("f")).must();
        lists(&m.path("f"), &[]);
    }
);
