// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device 0/0 hides nothing: no whiteout can be made through the mount, in any way.

use crate::common::check::{Must, fails, kind_of, lists, reads};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::Path;

fn make_zero_device(path: &Path) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    let kind = FileType::CharacterDevice;
    Ok(rustix::fs::mknodat(CWD, path, kind, mode, 0)?)
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
}

/// Names of the lower alone, of both, hidden by an old whiteout, and of the upper alone.
fn layers(fx: &Fixture) {
    fx.lower()
        .file("both", "lower")
        .file("hidden", "lower")
        .file("low", "lower");
    fx.lower()
        .file("d/both", "lower")
        .file("d/hidden", "lower")
        .file("d/low", "lower");
    fx.upper()
        .file("both", "upper")
        .whiteout("hidden")
        .file("up", "upper");
    fx.upper()
        .file("d/both", "upper")
        .whiteout("d/hidden")
        .file("d/up", "upper");
}

for_each_mode!(
    /// "a 0/0 character device where the lower has nothing to hide is just a device": it is made,
    /// shown, listed, moved to where there is nothing below, and removed.
    a_zero_device_is_a_device,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for directory in ["", "d"] {
            let at = |name: &str| m.path(Path::new(directory).join(name));
            make_zero_device(&at("device")).must();
            assert_eq!(kind_of(&at("device")), Some("char"));
            fs::rename(at("device"), at("moved")).must();
            assert_eq!((kind_of(&at("device")), kind_of(&at("moved"))), (None, Some("char")));
            fs::rename(at("moved"), at("up")).must();
            assert_eq!((kind_of(&at("moved")), kind_of(&at("up"))), (None, Some("char")));
            fs::remove_file(at("up")).must();
        }
        lists(&m.path("d"), &["both", "low"]);
        lists(&m.path(""), &["both", "d", "low"]);
    }
);

for_each_mode!(
    /// "nothing ever leaves a whiteout": a device 0/0 is not made at, moved to or exchanged with a
    /// name that the lower has, shown or hidden.
    a_zero_device_never_covers_the_lower,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for directory in ["", "d"] {
            let at = |name: &str| m.path(Path::new(directory).join(name));
            make_zero_device(&at("device")).must();
            for name in ["both", "hidden"] {
                let moved = rename(&at("device"), &at(name), RenameFlags::empty());
                fails(Errno::XDEV, &format!("{directory}/{name}"), moved);
            }
            for (one, other) in [("device", "both"), ("both", "device")] {
                let exchanged = rename(&at(one), &at(other), RenameFlags::EXCHANGE);
                fails(Errno::XDEV, &format!("{one} for {other}"), exchanged);
            }
            assert!(rename(&at("device"), &at("low"), RenameFlags::empty()).is_err());
            assert!(make_zero_device(&at("low")).is_err());
            assert!(make_zero_device(&at("both")).is_err());
            assert_eq!(kind_of(&at("device")), Some("char"));
            fs::remove_file(at("device")).must();
            reads(&at("both"), "upper");
            reads(&at("low"), "lower");
            assert_eq!(kind_of(&at("hidden")), None);
        }
    }
);

for_each_mode!(
    /// `RENAME_WHITEOUT` is refused where the device that it leaves would hide a lower name;
    /// elsewhere it leaves a device.
    rename_with_whiteout,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for directory in ["", "d"] {
            let at = |name: &str| m.path(Path::new(directory).join(name));
            let refused = rename(&at("both"), &at("new"), RenameFlags::WHITEOUT);
            fails(Errno::INVAL, directory, refused);
            reads(&at("both"), "upper");
            assert_eq!(kind_of(&at("new")), None);
            if rename(&at("up"), &at("new"), RenameFlags::WHITEOUT).is_ok() {
                assert_eq!(kind_of(&at("up")), Some("char"));
                reads(&at("new"), "upper");
                fs::remove_file(at("up")).must();
            }
            fs::remove_file(at("both")).must();
            reads(&at("both"), "lower");
        }
    }
);
for_each_mode!(
    /// A device 0/0 made where an old whiteout hides a lower name is refused, or it hides no more
    /// than that whiteout did.
    a_zero_device_at_a_hidden_name,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for name in ["hidden", "d/hidden"] {
            let made = make_zero_device(&m.path(name));
            assert!(made.is_err(), "{name}: made what cannot be shown");
            assert_eq!(kind_of(&m.path(name)), None);
            assert_eq!(kind_of(&fx.upper().path(name)), Some("char"), "still hidden");
        }
    }
);

for_each_mode!(
    /// A whiteout that the kernel's OverlayFS left in `.links`, or of it, when a lower link was
    /// removed there: no link and no device, and in nobody's way.
    a_whiteout_of_a_lower_link,
    |fx| {
        fx.lower().file(".links/used", "l").file(".links/gone", "l");
        fx.upper().whiteout(".links/gone").file(".links/own", "u");
        let m = fx.mount();
        assert_eq!(kind_of(&m.path(".links/gone")), None);
        if !fx.on_kernel() {
            lists(&m.path(".links"), &["own"]);
            assert!(make_zero_device(&m.path(".links/device")).is_err());
            make_zero_device(&m.path("device")).must();
            let moved = rename(&m.path("device"), &m.path(".links/device"), RenameFlags::empty());
            fails(Errno::XDEV, "a device", moved);
            fs::remove_file(m.path("device")).must();
        }
        fs::hard_link(m.path(".links/own"), m.path(".links/gone")).must();
        reads(&m.path(".links/gone"), "u");
        fs::remove_file(m.path(".links/gone")).must();
        assert_eq!(kind_of(&m.path(".links/gone")), None);
    }
);

for_each_mode!(
    /// The same of all of `.links`.
    a_whiteout_of_the_lower_links,
    |fx| {
        fx.lower().file(".links/used", "l");
        fx.upper().whiteout(".links");
        let m = fx.mount();
        assert_eq!(kind_of(&m.path(".links")), None);
        lists(&m.path(""), &[]);
        fs::create_dir(m.path(".links")).must();
        fs::write(m.path(".links/new"), "new").must();
        lists(&m.path(".links"), &["new"]);
    }
);

for_each_mode!(
    /// A directory is moved to where a whiteout of the kernel's OverlayFS hides a lower name, as Nix
    /// moves what it has built: nothing of the lower shows in it, also for the next mount.
    a_directory_moved_over_a_whiteout,
    |fx| {
        fx.lower().file("tree/low", "lower").file("file", "lower");
        fx.lower().file("d/tree/low", "lower").file("d/file", "lower");
        for name in ["tree", "file", "d/tree", "d/file"] {
            fx.upper().whiteout(name);
        }
        let names = ["tree", "file", "d/tree", "d/file"];
        let m = fx.mount();
        for name in names {
            fs::create_dir(m.path("new")).must();
            fs::write(m.path("new/own"), name).must();
            let no_replace = if name == "tree" { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
            rename(&m.path("new"), &m.path(name), no_replace).must();
            assert_eq!(kind_of(&m.path("new")), None);
            lists(&m.path(name), &["own"]);
            assert_eq!(kind_of(&m.path(name).join("low")), None);
        }
        lists(&fx.upper().path(""), &["d", "file", "tree"]);
        drop(m);
        let m = fx.mount();
        for name in names {
            lists(&m.path(name), &["own"]);
            reads(&m.path(name).join("own"), name);
        }
    }
);
