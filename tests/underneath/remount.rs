// SPDX-License-Identifier: MIT OR Apache-2.0
//! MS_REMOUNT, which the kernel's OverlayFS needs to see a changed layer, is harmless here.

use crate::common::check::{Must, absent, lists, reads};
use crate::common::mount::{is_mounted, run};
use crate::look::{file, listed};
use crate::promise::{Told, status};
use crate::quiet::alone_in_each_mode;
use rustix::mount::{MountFlags, mount_remount};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

alone_in_each_mode!(
    /// By mount(2) and by mount(8) without helpers: open files, mounts inside, names that the kernel
    /// knows or knows to be missing, and watching all go on.
    remounting_is_harmless,
    [root, userns],
    |fx| {
        let content = vec![7; 4 << 20];
        fx.upper().file("big", &content).dir("x.chroot/in").file("source/bound", "bound");
        fx.lower().file("old", "old");
        let v = Told::AtOnce.mount(fx);
        let inside = v.path("x.chroot/in");
        run(Command::new("mount").arg("--bind").arg(v.path("source")).arg(&inside));
        let open = File::open(v.path("big")).must();
        let mut part = [0; 16];
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let by_call = || mount_remount(v.path(""), flags, c"").must();
        let by_program = || run(Command::new("mount").args(["-i", "-o", "remount"]).arg(v.path("")));
        for (round, remount) in [&by_call as &dyn Fn(), &by_program].into_iter().enumerate() {
            let name = format!("new{round}");
            absent(&v.path(&name));
            listed(&v.path(""), &name, false).expect("not there yet");
            remount();
            open.read_exact_at(&mut part, (2 << 20) * (1 + round as u64) - 16).must();
            assert_eq!(part, [7; 16]);
            assert!(is_mounted(&inside), "detached");
            reads(&inside.join("bound"), "bound");
            reads(&v.path("old"), "old");
            lists(&v.path("x.chroot"), &["in"]);
            absent(&v.path(&name));
            assert_eq!(status(&v.path(""))["watched"], true);
            fx.lower().file(&name, "new");
            v.soon("a new name", || file(&v.path(&name), "new").and_then(|()| listed(&v.path(""), &name, true)));
            fs::write(v.path(format!("own{round}")), "own").must();
        }
        run(Command::new("umount").arg(&inside));
        fx.lower_changed_outside();
    }
);
