// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing: append-only and whiteout-free. What is made, and what is changed in place.

use crate::common::check::set_mtime;
use crate::common::check::{Must, absent, fails, kind_of, lists, mode_of, overwrite, reads, stat};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

/// Every way to make a name; `link` links the upper file `source`.
const MAKERS: [&str; 7] = [
    "create",
    "create-new",
    "mkdir",
    "symlink",
    "fifo",
    "socket",
    "link",
];

fn make(how: &str, path: &Path, source: &Path) -> io::Result<()> {
    let node = |kind| {
        Ok(rustix::fs::mknodat(
            CWD,
            path,
            kind,
            Mode::from_raw_mode(0o600),
            0,
        )?)
    };
    match how {
        "create" => File::create(path).map(drop),
        "create-new" => OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map(drop),
        "mkdir" => fs::create_dir(path),
        "symlink" => symlink("target", path),
        "fifo" => node(FileType::Fifo),
        "socket" => node(FileType::Socket),
        _ => fs::hard_link(source, path),
    }
}

fn made(how: &str) -> &'static str {
    match how {
        "mkdir" => "dir",
        "symlink" => "symlink",
        "fifo" => "fifo",
        "socket" => "socket",
        _ => "file",
    }
}

/// Three directories, three files: of the upper alone, of the lower alone, and in both.
fn layers(fx: &Fixture) {
    fx.lower()
        .file("low/f", "lower")
        .file("both/low-f", "lower")
        .file("both/f", "lower");
    fx.lower()
        .file("f-low", "lower")
        .file("f-both", "lower")
        .symlink("s-low", "lower");
    fx.upper()
        .file("up/f", "upper")
        .file("both/up-f", "upper")
        .file("both/f", "upper");
    fx.upper()
        .file("f-up", "upper")
        .file("f-both", "upper")
        .symlink("s-up", "upper");
}

for_each_mode!(
    /// "create, mkdir, symlink, mknod, link inside directory D: D has an upper side, or is the
    /// store directory: done in the upper".
    makers_where_there_is_an_upper_side,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for (parent, how) in ["", "up", "both"].iter().flat_map(|d| MAKERS.map(|how| (*d, how))) {
            let name = Path::new(parent).join(format!("new-{how}"));
            make(how, &m.path(&name), &m.path("f-up")).must();
            assert_eq!(kind_of(&m.path(&name)), Some(made(how)), "{name:?} in the merged view");
            assert_eq!(kind_of(&fx.upper().path(&name)), Some(made(how)), "{name:?} in the upper");
            assert_eq!(kind_of(&fx.lower().path(&name)), None, "{name:?} in the lower");
            fails(Errno::EXIST, how, make("mkdir", &m.path(&name), &m.path("f-up")));
        }
        fs::create_dir_all(m.path("up/a/b/c")).must();
        fs::write(m.path("up/a/b/c/f"), "deep").must();
        reads(&fx.upper().path("up/a/b/c/f"), "deep");
    }
);

for_each_mode!(
    /// "or is the store directory": an empty upper takes everything at the top.
    an_empty_upper_takes_new_objects,
    |fx| {
        fx.lower().file("object/f", "lower");
        let m = fx.mount();
        fs::create_dir(m.path("new")).must();
        fs::write(m.path("new/f"), "one").must();
        fs::write(m.path("flat"), "two").must();
        lists(&m.path(""), &["flat", "new", "object"]);
        lists(&fx.upper().path(""), &["flat", "new"]);
        reads(&fx.upper().path("new/f"), "one");
    }
);

for_each_mode!(
    /// "create, mkdir, symlink, mknod, link inside directory D: D is lower only: EROFS".
    makers_where_the_lower_is_alone,
    |fx| {
        layers(fx);
        fx.lower().dir("both/low/deep");
        let m = fx.mount();
        for (parent, how) in ["low", "both/low", "both/low/deep"].iter().flat_map(|d| MAKERS.map(|how| (*d, how))) {
            let name = Path::new(parent).join("new");
            let what = format!("{how} in {parent}");
            fails(Errno::ROFS, &what, make(how, &m.path(&name), &m.path("f-up")));
            absent(&m.path(&name));
        }
        absent(&fx.upper().path("low"));
        absent(&fx.upper().path("both/low"));
    }
);

for_each_mode!(
    /// A name that exists, in whichever layer, is EEXIST to every exclusive maker, also right
    /// after the name was first looked up, and is never shadowed.
    makers_over_existing_names,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for name in ["f-low", "f-both", "f-up", "low", "both", "up", "s-low", "low/f", "both/low-f"] {
            for how in ["create-new", "mkdir", "symlink", "fifo", "socket", "link"] {
                let what = format!("{how} over {name}");
                fails(Errno::EXIST, &what, make(how, &m.path(name), &m.path("f-up")));
            }
        }
        absent(&fx.upper().path("f-low"));
        absent(&fx.upper().path("low"));
        // Without O_EXCL an existing file is opened, not shadowed.
        let open = OpenOptions::new().read(true).append(true).create(true).open(m.path("f-up"));
        drop(open.must());
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CREATE;
        let low = rustix::fs::open(m.path("f-low"), flags, Mode::RUSR).must();
        assert_eq!(io::read_to_string(File::from(low)).must(), "lower");
        reads(&m.path("f-low"), "lower");
    }
);

for_each_mode!(
    /// A name that the lower gained behind the mount is found by a maker, though the kernel still
    /// believes that there is none: never a silent shadow.
    makers_see_the_lowers_new_names,
    |fx| {
        fx.lower().dir("open");
        fx.upper().dir("open");
        let m = fx.mount();
        for name in ["top", "open/below"] {
            absent(&m.path(name));
        }
        fx.lower().file("top", "lower");
        fx.lower_changed_outside();
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(m.path("top"));
        if let Ok(mut file) = opened {
            fails(Errno::ROFS, "write to the lower's file", io::Write::write_all(&mut file, b"x"));
        }
        absent(&fx.upper().path("top"));
        fails(Errno::EXIST, "mkdir", fs::create_dir(m.path("top")));
        reads(&m.path("top"), "lower");
    }
);

/// Every way to change the file or directory at a path, with what it needs of the kind.
const CHANGES: [&str; 10] = [
    "write",
    "append",
    "truncate",
    "truncate-longer",
    "open-trunc",
    "chmod",
    "chown",
    "utimens",
    "chown-link",
    "utimens-now",
];

fn change(how: &str, path: &Path) -> io::Result<()> {
    let own = |path: &Path| {
        fs::symlink_metadata(path).map(|found| (Some(found.uid()), Some(found.gid())))
    };
    let open = || OpenOptions::new().write(true).open(path);
    match how {
        "write" => overwrite(path, "changed"),
        "append" => {
            let mut file = OpenOptions::new().append(true).open(path)?;
            io::Write::write_all(&mut file, b"more")
        }
        "truncate" => open()?.set_len(1),
        "truncate-longer" => open()?.set_len(10_000),
        "open-trunc" => File::create(path).map(drop),
        "chmod" => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
        "chown" => own(path).and_then(|(uid, gid)| chown(path, uid, gid)),
        "chown-link" => own(path).and_then(|(uid, gid)| lchown(path, uid, gid)),
        "utimens" => set_mtime(path, 1),
        _ => {
            let file = File::open(path)?;
            file.set_modified(std::time::SystemTime::now())
        }
    }
}

/// Directories know only the changes of attributes.
fn suits(how: &str, is_dir: bool) -> bool {
    !is_dir || ["chmod", "chown", "chown-link", "utimens", "utimens-now"].contains(&how)
}

for_each_mode!(
    /// "write, truncate, chmod, chown, utimens: upper only: done; in both: upper copy of a file:
    /// done; merged directory: its upper side".
    changes_of_the_upper,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for name in ["f-up", "f-both", "up/f", "both/up-f", "both/f", "up", "both"] {
            let is_dir = stat(&m.path(name)).is_dir();
            for how in CHANGES.iter().filter(|how| suits(how, is_dir)) {
                if let Err(error) = change(how, &m.path(name)) {
                    panic!("{how} of {name}: {error}");
                }
                let (merged, upper) = (stat(&m.path(name)), stat(&fx.upper().path(name)));
                let tell = |s: &fs::Metadata| (s.mode(), s.uid(), s.mtime(), s.mtime_nsec());
                assert_eq!(tell(&merged), tell(&upper), "{how} of {name}");
                if !is_dir {
                    let bytes = fs::read(fx.upper().path(name)).must();
                    assert!(fs::read(m.path(name)).must() == bytes, "{how} of {name}");
                }
            }
            assert_eq!(mode_of(&m.path(name)), 0o700, "{name}");
        }
        overwrite(&m.path("f-both"), "last").must();
        assert!(fs::read(fx.upper().path("f-both")).must().starts_with(b"last"));
    }
);

for_each_mode!(
    /// "write, truncate, chmod, chown, utimens: lower only: EROFS", for files, directories, and
    /// symbolic links; a plain open for writing may succeed, the first change fails.
    changes_of_the_lower,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for name in ["f-low", "low/f", "both/low-f", "low"] {
            let is_dir = stat(&m.path(name)).is_dir();
            for how in CHANGES.iter().filter(|how| suits(how, is_dir)) {
                fails(Errno::ROFS, &format!("{how} of {name}"), change(how, &m.path(name)));
            }
        }
        for how in ["chown-link", "utimens"] {
            fails(Errno::ROFS, &format!("{how} of a symlink"), change(how, &m.path("s-low")));
        }
        for name in ["f-low", "low/f", "both/low-f"] {
            reads(&m.path(name), "lower");
            absent(&fx.upper().path(name));
        }
    }
);

for_each_mode!(
    /// Symbolic links of the upper take times and owners like everything else.
    changes_of_an_upper_symlink,
    |fx| {
        layers(fx);
        let m = fx.mount();
        for how in ["chown-link", "utimens"] {
            change(how, &m.path("s-up")).must();
        }
        assert_eq!(stat(&fx.upper().path("s-up")).mtime(), 1);
        assert_eq!(stat(&m.path("s-up")).mtime(), 1);
    }
);

for_each_mode!(
    /// "Root's own mode and owner belong to the upper's root directory": changing them changes the
    /// upper's directory.
    changes_of_the_root,
    |fx| {
        let m = fx.mount();
        for how in ["chmod", "chown", "utimens"] {
            change(how, &m.path("")).must();
        }
        assert_eq!(mode_of(&fx.upper().path("")), 0o700);
        assert_eq!(stat(&fx.upper().path("")).mtime(), 1);
        assert_eq!(mode_of(&m.path("")), 0o700);
    }
);

for_each_mode!(
    /// A descriptor that root or the owner opened on a lower file for writing changes nothing, by
    /// any call, and what others read stays right.
    an_open_lower_file_cannot_be_changed,
    |fx| {
        fx.lower().file("f", "lower content").mode("f", 0o644);
        let m = fx.mount();
        let path = m.path("f");
        let file = OpenOptions::new().read(true).write(true).open(&path).must();
        let write = std::os::unix::fs::FileExt::write_at(&file, b"bad", 3);
        fails(Errno::ROFS, "pwrite", write);
        fails(Errno::ROFS, "ftruncate", file.set_len(0));
        fails(Errno::ROFS, "ftruncate longer", file.set_len(1 << 20));
        fails(Errno::ROFS, "fchmod", file.set_permissions(fs::Permissions::from_mode(0o000)));
        fails(Errno::ROFS, "futimens", file.set_modified(std::time::SystemTime::now()));
        let owner = (Some(stat(&path).uid()), Some(stat(&path).gid()));
        fails(Errno::ROFS, "fchown", std::os::unix::fs::fchown(&file, owner.0, owner.1));
        reads(&path, "lower content");
        assert_eq!(io::read_to_string(&file).must(), "lower content");
    }
);

for_each_mode!(
    /// A name that an old whiteout hides may be made again: the new object is what was written,
    /// and no lower content shines through a new directory.
    makers_over_a_whiteout,
    |fx| {
        fx.lower().file("file", "lower").file("dir/inside", "lower").file("d/file", "lower");
        fx.upper().whiteout("file").whiteout("dir").whiteout("d/file");
        let m = fx.mount();
        fs::write(m.path("file"), "new").must();
        fs::write(m.path("d/file"), "new").must();
        reads(&m.path("file"), "new");
        reads(&m.path("d/file"), "new");
        reads(&fx.upper().path("d/file"), "new");
        fs::create_dir(m.path("dir")).must();
        lists(&m.path("dir"), &[]);
        fs::remove_dir(m.path("dir")).must();
    }
);

for_each_mode!(
    /// New files open with the flags that were asked for: O_CREAT | O_TRUNC | O_APPEND.
    creating_and_opening_flags,
    |fx| {
        fx.upper().file("f", "0123456789");
        let m = fx.mount();
        let path = m.path("f");
        let mut open = OpenOptions::new();
        io::Write::write_all(&mut open.append(true).open(&path).must(), b"ab").must();
        reads(&path, "0123456789ab");
        drop(OpenOptions::new().write(true).truncate(true).open(&path).must());
        reads(&path, "");
        drop(OpenOptions::new().write(true).create_new(true).mode(0o640).open(m.path("g")).must());
        assert_eq!(mode_of(&m.path("g")), 0o640);
        assert_eq!(mode_of(&fx.upper().path("g")), 0o640);
        let directory = OpenOptions::new().write(true).open(m.path(""));
        fails(Errno::ISDIR, "open a directory for writing", directory);
        fails(Errno::NOTDIR, "a file as a directory", fs::metadata(m.path("f/x")));
    }
);

for_each_mode!(
    /// "255-byte and non-UTF-8 names": what may be read may be made; 256 bytes are too long.
    names_of_any_bytes_may_be_made,
    |fx| {
        use std::os::unix::ffi::OsStrExt;
        let m = fx.mount();
        let longest = [b'n'; 255];
        for name in [&longest[..], b"\xff\xfe\x80 \n\t\\", b"..."] {
            let name = std::ffi::OsStr::from_bytes(name);
            fs::write(m.path(name), "x").must();
            assert_eq!(kind_of(&fx.upper().path(name)), Some("file"));
            fs::rename(m.path(name), m.path("other")).must();
            fs::remove_file(m.path("other")).must();
        }
        let longer = m.path(std::ffi::OsStr::from_bytes(&[b'n'; 256]));
        fails(Errno::NAMETOOLONG, "create", fs::write(&longer, "x"));
        fails(Errno::NAMETOOLONG, "mkdir", fs::create_dir(&longer));
        lists(&fx.upper().path(""), &[]);
    }
);
