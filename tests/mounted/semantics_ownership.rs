// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owners, groups, masks and special nodes.

use crate::common::check::{Must, fails, kind_of, mode_of, reads, stat, text};
use crate::common::for_each_mode;
use crate::common::mode::{Mode, PLAIN_ID};
use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

for_each_mode!(
    /// "create in place with the caller's ids and umask": the mask of the caller, once.
    umask,
    |fx| {
        let m = fx.mount();
        for mask in [0o022, 0o077, 0o000, 0o137] {
            let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
            let (file, dir) = (m.path(format!("f{mask:o}")), m.path(format!("d{mask:o}")));
            fs::write(&file, "x").must();
            fs::create_dir(&dir).must();
            let node = m.path(format!("p{mask:o}"));
            let all = rustix::fs::Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(CWD, &node, FileType::Fifo, all, 0).must();
            rustix::process::umask(old);
            assert_eq!(mode_of(&file), 0o666 & !mask, "file under {mask:o}");
            assert_eq!(mode_of(&dir), 0o777 & !mask, "directory under {mask:o}");
            assert_eq!(mode_of(&node), 0o666 & !mask, "fifo under {mask:o}");
            let name = format!("d{mask:o}");
            assert_eq!(mode_of(&fx.upper().path(name)), 0o777 & !mask);
        }
    }
);

for_each_mode!(
    /// What is made belongs to who made it, in the mount and in the upper.
    own_ids,
    |fx| {
        let m = fx.mount();
        fs::write(m.path("f"), "x").must();
        fs::create_dir(m.path("d")).must();
        std::os::unix::fs::symlink("x", m.path("s")).must();
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        for name in ["f", "d", "s"] {
            let (merged, upper) = (stat(&m.path(name)), stat(&fx.upper().path(name)));
            assert_eq!((merged.uid(), merged.gid()), own, "{name}");
            assert_eq!((upper.uid(), upper.gid()), own, "{name}");
        }
    }
);

/// Runs a script as the plain user and requires that it succeeds.
fn as_user(fx: &crate::common::fixture::Fixture, script: &str) -> String {
    let output = fx.shell_as(PLAIN_ID, PLAIN_ID, script);
    let error = text(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
    text(&output.stdout)
}

for_each_mode!(
    /// A driver of root serves every user (`allow_other`), with the caller's ids and permissions.
    another_user,
    [root],
    |fx| {
        fx.lower().file("public", "l").file("secret", "l").mode("secret", 0o600);
        fx.upper().dir("open").mode("open", 0o1777).dir("closed");
        let m = fx.mount();
        as_user(fx, "cat merged/public; cd merged/open; umask 027; echo hi >f; mkdir d; ln -s f s;
            mkfifo p; ln f l; mv d e; chmod 600 f; echo more >>f; touch -d @1 f; rm l");
        for name in ["open/f", "open/e", "open/s", "open/p"] {
            for path in [m.path(name), fx.upper().path(name)] {
                assert_eq!((stat(&path).uid(), stat(&path).gid()), (PLAIN_ID, PLAIN_ID), "{name}");
            }
        }
        reads(&fx.upper().path("open/f"), "hi\nmore\n");
        assert_eq!(mode_of(&m.path("open/e")), 0o750);
        for script in ["cat merged/secret", "echo x >merged/closed/f", "mkdir merged/d",
            "rm -f merged/public", "chmod 777 merged/closed", "chown 0 merged/open/f",
            "echo x >>merged/public"] {
            let output = fx.shell_as(PLAIN_ID, PLAIN_ID, script);
            assert!(!output.status.success(), "{script} succeeded");
        }
        fs::write(m.path("open/roots"), "x").must();
        let sticky = fx.shell_as(PLAIN_ID, PLAIN_ID, "rm -f merged/open/roots");
        assert!(!sticky.status.success(), "the sticky bit does not hold");
        as_user(fx, "cd merged/open; install -m 0444 /dev/null ro; rm -rf e f s p ro");
    }
);

for_each_mode!(
    /// "setgid parents: leave the group": what is made inside takes the directory's group, and new
    /// directories the bit as well.
    setgid_directories,
    [root],
    |fx| {
        fx.upper().dir("g").owner("g", PLAIN_ID, 4321).mode("g", 0o2775);
        let m = fx.mount();
        as_user(fx, "cd merged/g; echo x >f; mkdir d; ln -s x s; mkfifo p; echo x >d/f");
        for name in ["g/f", "g/d", "g/s", "g/p", "g/d/f"] {
            let found = stat(&m.path(name));
            assert_eq!((found.uid(), found.gid()), (PLAIN_ID, 4321), "{name}");
        }
        assert_eq!(mode_of(&m.path("g/d")), 0o2755);
        fs::write(m.path("g/roots"), "x").must();
        assert_eq!((stat(&m.path("g/roots")).uid(), stat(&m.path("g/roots")).gid()), (0, 4321));
    }
);

for_each_mode!(
    /// chown by root: owner and group of the upper, links themselves, and the set-id bits go as
    /// they do in any filesystem; EROFS for the lower.
    chown_by_root,
    [root],
    |fx| {
        fx.lower().file("low", "l");
        fx.upper().file("f", "u").dir("d").symlink("s", "f").file("x", "u").mode("x", 0o6755);
        let m = fx.mount();
        for name in ["f", "d"] {
            chown(m.path(name), Some(7), Some(8)).must();
            assert_eq!((stat(&m.path(name)).uid(), stat(&m.path(name)).gid()), (7, 8));
            chown(m.path(name), None, Some(9)).must();
            assert_eq!((stat(&fx.upper().path(name)).uid(), stat(&fx.upper().path(name)).gid()), (7, 9));
        }
        std::os::unix::fs::lchown(m.path("s"), Some(5), Some(6)).must();
        assert_eq!((stat(&fx.upper().path("s")).uid(), stat(&fx.upper().path("f")).uid()), (5, 7));
        chown(m.path("x"), Some(7), Some(7)).must();
        assert_eq!(mode_of(&m.path("x")), 0o755);
        fails(Errno::ROFS, "the lower", chown(m.path("low"), Some(7), Some(8)));
    }
);

for_each_mode!(
    /// A write by a plain user takes the set-user-id bit away, as everywhere.
    writing_clears_set_id,
    [root],
    |fx| {
        fx.upper().file("f", "u").owner("f", PLAIN_ID, PLAIN_ID).mode("f", 0o4755);
        let m = fx.mount();
        assert_eq!(mode_of(&m.path("f")), 0o4755);
        as_user(fx, "echo more >>merged/f");
        assert_eq!(mode_of(&m.path("f")), 0o755);
        assert_eq!(mode_of(&fx.upper().path("f")), 0o755);
    }
);

for_each_mode!(
    /// mknod: fifos and sockets by everybody, devices by root alone (a driver without the right
    /// says EPERM), with the true device number.
    special_nodes,
    |fx| {
        fx.lower().dir("d");
        fx.upper().dir("d");
        let m = fx.mount();
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        let node = |name: &str, kind, device| rustix::fs::mknodat(CWD, m.path(name), kind, mode, device);
        node("d/fifo", FileType::Fifo, 0).must();
        node("d/socket", FileType::Socket, 0).must();
        node("d/file", FileType::RegularFile, 0).must();
        assert_eq!(kind_of(&fx.upper().path("d/fifo")), Some("fifo"));
        assert_eq!(kind_of(&m.path("d/socket")), Some("socket"));
        assert_eq!(kind_of(&m.path("d/file")), Some("file"));
        let device = rustix::fs::makedev(1, 3);
        let made = node("d/null", FileType::CharacterDevice, device);
        if fx.mode() != Mode::root {
            fails(Errno::PERM, "a device", made);
            return;
        }
        made.must();
        node("d/block", FileType::BlockDevice, rustix::fs::makedev(7, 200)).must();
        assert_eq!(stat(&m.path("d/null")).rdev(), device);
        assert_eq!(stat(&fx.upper().path("d/null")).rdev(), device);
        assert_eq!(stat(&m.path("d/block")).rdev(), rustix::fs::makedev(7, 200));
    }
);

for_each_mode!(
    /// The owner may do what the mode allows, and chmod what is its own, with all twelve bits.
    mode_bits,
    |fx| {
        let m = fx.mount();
        fs::write(m.path("f"), "x").must();
        fs::create_dir(m.path("d")).must();
        for bits in [0o000, 0o444, 0o4755, 0o2755, 0o1777, 0o700] {
            for name in ["f", "d"] {
                let path = m.path(name);
                fs::set_permissions(&path, fs::Permissions::from_mode(bits)).must();
                assert_eq!(mode_of(&path), bits, "{name}");
                assert_eq!(mode_of(&fx.upper().path(name)), bits, "{name}");
            }
        }
    }
);
