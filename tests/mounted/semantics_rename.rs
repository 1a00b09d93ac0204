// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving and linking.

use crate::common::check::{Must, absent, fails, lists, reads, stat};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
}

fn layers(fx: &Fixture) {
    fx.lower()
        .file("f-low", "lower")
        .file("f-both", "lower")
        .file("g-both", "lower g");
    fx.lower()
        .file("low/f", "lower")
        .file("both/low", "lower")
        .symlink("s-low", "x")
        .dir("e-low");
    fx.upper()
        .file("f-up", "upper")
        .file("g-up", "upper g")
        .file("f-both", "upper");
    fx.upper()
        .file("g-both", "upper g")
        .file("up/f", "upper")
        .file("both/up", "upper");
    fx.upper().symlink("s-up", "x").dir("e-up");
}

for_each_mode!(
    /// "rename away: upper only: atomic, never EXDEV": files, links and whole directories, within
    /// a directory and across the top, merged and upper directories; the inode is the same one.
    upper_only_moves,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for name in ["f-up", "s-up", "up"] {
            let number = stat(&m.path(name)).ino();
            let mut from = name.to_owned();
            for to in ["new", "both/new", "e-up/new", "both/newer", "new2"] {
                fs::rename(m.path(&from), m.path(to)).must();
                absent(&m.path(&from));
                absent(&fx.upper().path(&from));
                assert_eq!(stat(&m.path(to)).ino(), number, "{name} as {to}");
                assert_eq!(stat(&fx.upper().path(to)).ino(), number, "{name} as {to}");
                to.clone_into(&mut from);
            }
            fs::rename(m.path("new2"), m.path(name)).must();
        }
        reads(&m.path("up/f"), "upper");
        lists(&m.path("both"), &["low", "up"]);
        lists(&m.path("e-up"), &[]);
    }
);

for_each_mode!(
    /// "rename away: lower only: EROFS", for every kind, with and without flags.
    lower_only_does_not_move,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for name in ["f-low", "s-low", "low", "low/f", "both/low"] {
            for to in ["new", "both/new", "f-up"] {
                if stat(&m.path(name)).is_dir() && to == "f-up" {
                    continue;
                }
                fails(Errno::ROFS, &format!("{name} to {to}"), fs::rename(m.path(name), m.path(to)));
            }
            let noreplace = rename_with(&m.path(name), &m.path("new"), RenameFlags::NOREPLACE);
            fails(Errno::ROFS, &format!("{name} with NOREPLACE"), noreplace);
            let exchange = rename_with(&m.path(name), &m.path("f-up"), RenameFlags::EXCHANGE);
            fails(Errno::ROFS, &format!("{name} with EXCHANGE"), exchange);
            stat(&m.path(name));
        }
        absent(&m.path("new"));
        reads(&m.path("f-up"), "upper");
    }
);

for_each_mode!(
    /// "rename away: in both: file: upper copy moves, lower shows again".
    the_upper_copy_moves,
    |fx| {
        layers(fx);
        let m = fx.mount();
        fs::rename(m.path("f-both"), m.path("moved")).must();
        reads(&m.path("moved"), "upper");
        reads(&m.path("f-both"), "lower");
        assert_eq!(stat(&m.path("f-both")).ino(), stat(&fx.lower().path("f-both")).ino());
        absent(&fx.upper().path("f-both"));
        fs::rename(m.path("g-both"), m.path("both/moved")).must();
        reads(&m.path("both/moved"), "upper g");
        reads(&m.path("g-both"), "lower g");
    }
);

for_each_mode!(
    /// "rename away: in both: directory: EXDEV", and nothing has moved.
    a_merged_directory_is_another_device,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for to in ["new", "up/new", "e-up"] {
            fails(Errno::XDEV, &format!("to {to}"), fs::rename(m.path("both"), m.path(to)));
        }
        let noreplace = rename_with(&m.path("both"), &m.path("new"), RenameFlags::NOREPLACE);
        fails(Errno::XDEV, "NOREPLACE", noreplace);
        lists(&m.path("both"), &["low", "up"]);
        lists(&fx.upper().path("both"), &["up"]);
        absent(&m.path("new"));
    }
);

for_each_mode!(
    /// Rename onto a lower-only name: EROFS (it would hide a lower name without its removal).
    onto_a_lower_only_name,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for to in ["f-low", "both/low", "s-low"] {
            fails(Errno::ROFS, &format!("f-up to {to}"), fs::rename(m.path("f-up"), m.path(to)));
            fails(Errno::ROFS, &format!("f-both to {to}"), fs::rename(m.path("f-both"), m.path(to)));
            absent(&fx.upper().path(to));
        }
        fails(Errno::ROFS, "onto an empty directory", fs::rename(m.path("e-up"), m.path("e-low")));
        reads(&m.path("f-up"), "upper");
        reads(&m.path("f-both"), "upper");
        reads(&m.path("f-low"), "lower");
    }
);

for_each_mode!(
    /// Moving into a directory of the lower alone is making a name in it: EROFS.
    into_a_lower_only_directory,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for from in ["f-up", "f-both", "up", "s-up"] {
            fails(Errno::ROFS, from, fs::rename(m.path(from), m.path("low/new")));
            stat(&fx.upper().path(from));
        }
        absent(&m.path("low/new"));
        absent(&fx.upper().path("low"));
    }
);

for_each_mode!(
    /// Rename replaces what the upper has: files, empty directories, and the upper copy of a name
    /// that both layers have, which hides the lower one as before.
    replacing,
    |fx| {
        layers(fx);
        fx.upper().file("full/f", "u");
        let m = fx.mount();
        fs::rename(m.path("g-up"), m.path("f-up")).must();
        reads(&m.path("f-up"), "upper g");
        fs::rename(m.path("f-up"), m.path("f-both")).must();
        reads(&m.path("f-both"), "upper g");
        reads(&fx.upper().path("f-both"), "upper g");
        fails(Errno::NOTEMPTY, "onto a full directory", fs::rename(m.path("e-up"), m.path("full")));
        fs::rename(m.path("up"), m.path("e-up")).must();
        reads(&m.path("e-up/f"), "upper");
        fails(Errno::ISDIR, "a file onto a directory", fs::rename(m.path("f-both"), m.path("full")));
        fails(Errno::NOTDIR, "a directory onto a file", fs::rename(m.path("full"), m.path("g-both")));
        fails(Errno::INVAL, "into itself", fs::rename(m.path("full"), m.path("full/x")));
        fails(Errno::NOENT, "nothing", fs::rename(m.path("none"), m.path("none2")));
    }
);

for_each_mode!(
    /// "all flags of renameat2": NOREPLACE refuses a name that exists in either layer.
    noreplace,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for to in ["f-low", "f-both", "g-up", "low", "both", "s-low"] {
            let moved = rename_with(&m.path("f-up"), &m.path(to), RenameFlags::NOREPLACE);
            fails(Errno::EXIST, &format!("onto {to}"), moved);
        }
        rename_with(&m.path("f-up"), &m.path("both/n"), RenameFlags::NOREPLACE).must();
        reads(&m.path("both/n"), "upper");
        rename_with(&m.path("up"), &m.path("n"), RenameFlags::NOREPLACE).must();
        reads(&m.path("n/f"), "upper");
    }
);

for_each_mode!(
    /// "all flags of renameat2": EXCHANGE swaps what the upper has, also a file with a directory;
    /// a side that is the lower's alone is EROFS.
    exchange,
    |fx| {
        layers(fx);
        let m = fx.mount();
        let swap = |a: &str, b: &str| rename_with(&m.path(a), &m.path(b), RenameFlags::EXCHANGE);
        swap("f-up", "g-up").must();
        reads(&m.path("f-up"), "upper g");
        reads(&m.path("g-up"), "upper");
        swap("f-up", "up").must();
        reads(&m.path("up"), "upper g");
        reads(&m.path("f-up/f"), "upper");
        swap("up", "f-both").must();
        reads(&m.path("f-both"), "upper g");
        reads(&m.path("up"), "upper");
        for lower in ["f-low", "both/low", "low"] {
            fails(Errno::ROFS, lower, swap("g-up", lower));
            fails(Errno::ROFS, lower, swap(lower, "g-up"));
        }
        fails(Errno::NOENT, "with nothing", swap("g-up", "none"));
        lists(&fx.upper().path(""), &["both", "e-up", "f-both", "f-up", "g-both", "g-up", "s-up", "up"]);
    }
);

for_each_mode!(
    /// Nix's way to publish an object: made in a temporary directory, moved to its name.
    publish,
    |fx| {
        fx.lower().file("object/f", "lower");
        let m = fx.mount();
        fs::create_dir_all(m.path("tmp-1-0/x/bin")).must();
        fs::write(m.path("tmp-1-0/x/bin/tool"), "tool").must();
        fs::rename(m.path("tmp-1-0/x"), m.path("new-object")).must();
        fs::remove_dir(m.path("tmp-1-0")).must();
        lists(&m.path(""), &["new-object", "object"]);
        lists(&fx.upper().path(""), &["new-object"]);
        reads(&m.path("new-object/bin/tool"), "tool");
    }
);

for_each_mode!(
    /// "link(2) source: upper only: done; lower only: EXDEV; in both: upper copy".
    link_sources,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for (from, to) in [("f-up", "l1"), ("up/f", "both/l2"), ("f-both", "l3"), ("s-up", "l4")] {
            fs::hard_link(m.path(from), m.path(to)).must();
            assert_eq!(stat(&m.path(to)).ino(), stat(&m.path(from)).ino(), "{to}");
            assert_eq!(stat(&m.path(from)).nlink(), 2, "{from}");
            assert_eq!(stat(&fx.upper().path(to)).ino(), stat(&fx.upper().path(from)).ino());
        }
        reads(&m.path("l3"), "upper");
        for (from, to) in [("f-low", "n1"), ("low/f", "both/n2"), ("both/low", "n3"), ("s-low", "n4")] {
            fails(Errno::XDEV, from, fs::hard_link(m.path(from), m.path(to)));
            absent(&m.path(to));
            absent(&fx.upper().path(to));
        }
        fails(Errno::ROFS, "into the lower", fs::hard_link(m.path("f-up"), m.path("low/n")));
        fails(Errno::EXIST, "onto the lower", fs::hard_link(m.path("f-up"), m.path("f-low")));
        fails(Errno::EXIST, "onto the upper", fs::hard_link(m.path("f-up"), m.path("g-up")));
    }
);

for_each_mode!(
    /// "rename over an open file": the old file lives on for those who hold it.
    over_an_open_file,
    |fx| {
        layers(fx);
        let m = fx.mount();
        let mut old = fs::File::options().read(true).write(true).open(m.path("f-up")).must();
        fs::rename(m.path("g-up"), m.path("f-up")).must();
        reads(&m.path("f-up"), "upper g");
        assert_eq!(old.metadata().must().nlink(), 0);
        io::Write::write_all(&mut old, b"OLD").must();
        io::Seek::rewind(&mut old).must();
        assert_eq!(io::read_to_string(&old).must(), "OLDer");
        reads(&m.path("f-up"), "upper g");
        let number = old.metadata().must().ino();
        assert_ne!(stat(&m.path("f-up")).ino(), number);
    }
);
