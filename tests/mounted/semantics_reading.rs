// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading: exactly what kernel OverlayFS would show.

use crate::common::check::{Must, absent, fails, kind_of, listing, lists, mode_of, reads, stat};
use crate::common::for_each_mode;
use crate::common::layer::LayerBuilder;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

const UPPER: [&str; 6] = ["none", "file", "dir", "opaque", "whiteout", "symlink"];
const LOWER: [&str; 4] = ["none", "file", "dir", "symlink"];

/// Puts one object of the table into a layer; `side` goes into its content.
fn put(layer: &LayerBuilder, kind: &str, name: &Path, side: &str) {
    match kind {
        "none" => layer,
        "file" => layer.file(name, side),
        "dir" => layer
            .dir(name)
            .file(name.join(side), side)
            .file(name.join("both"), side),
        "opaque" => layer
            .opaque(name)
            .file(name.join(side), side)
            .file(name.join("both"), side),
        "whiteout" => layer.whiteout(name),
        "symlink" => layer.symlink(name, side),
        other => panic!("no kind {other}"),
    };
}

/// What the table says about one cell: the kind, and for directories the names inside.
fn expected(
    upper: &str,
    lower: &str,
) -> (Option<&'static str>, &'static [&'static str], &'static str) {
    match (upper, lower) {
        ("none", "none") => (None, &[], ""),
        ("none", "dir") => (Some("dir"), &["both", "lower"], "lower"),
        ("none", "file") => (Some("file"), &[], "lower"),
        ("none", _) => (Some("symlink"), &[], "lower"),
        ("file", _) => (Some("file"), &[], "upper"),
        ("symlink", _) => (Some("symlink"), &[], "upper"),
        ("dir", "dir") => (Some("dir"), &["both", "lower", "upper"], "upper"),
        ("dir" | "opaque", _) => (Some("dir"), &["both", "upper"], "upper"),
        _ => (None, &[], ""),
    }
}

fn check_cell(directory: &Path, name: &str, upper: &str, lower: &str) {
    let path = directory.join(name);
    let (kind, names, side) = expected(upper, lower);
    assert_eq!(kind_of(&path), kind, "{name}");
    let listed = listing(directory);
    assert_eq!(
        listed.get(OsStr::new(name)).copied(),
        kind,
        "{name} in the listing"
    );
    match kind {
        Some("file") => reads(&path, side),
        Some("symlink") => assert_eq!(fs::read_link(&path).must(), Path::new(side), "{name}"),
        Some("dir") => {
            lists(&path, names);
            reads(&path.join("both"), side);
            for inside in names.iter().filter(|inside| **inside != "both") {
                reads(&path.join(inside), inside);
            }
        }
        _ => absent(&path),
    }
}

for_each_mode!(
    /// "A name in the upper wins; directories present in both merge, recursively, unless the upper
    /// one is opaque; an upper whiteout hides the lower name": the whole table, in the store
    /// directory and in a merged directory. (A whiteout that hides nothing has its own test.)
    table_of_upper_and_lower,
    |fx| {
        for (upper, lower) in UPPER.iter().flat_map(|u| LOWER.iter().map(move |l| (u, l))) {
            for parent in ["", "merged", "merged/deep"] {
                let name = Path::new(parent).join(format!("{upper}-{lower}"));
                if (*upper, *lower) != ("whiteout", "none") {
                    put(&fx.upper(), upper, &name, "upper");
                    put(&fx.lower(), lower, &name, "lower");
                }
            }
        }
        let m = fx.mount();
        for (upper, lower) in UPPER.iter().flat_map(|u| LOWER.iter().map(move |l| (u, l))) {
            for parent in ["", "merged", "merged/deep"] {
                check_cell(&m.path(parent), &format!("{upper}-{lower}"), upper, lower);
            }
        }
    }
);

for_each_mode!(
    /// "directories present in both merge, recursively": four levels, with each side's own branch.
    nested_directories_merge,
    |fx| {
        fx.lower().file("a/b/c/d/lower", "l").file("a/b/only-lower/x/y", "l").file("a/b/c/same", "l");
        fx.upper().file("a/b/c/d/upper", "u").file("a/only-upper/x/y", "u").file("a/b/c/same", "u");
        let m = fx.mount();
        lists(&m.path("a"), &["b", "only-upper"]);
        lists(&m.path("a/b"), &["c", "only-lower"]);
        lists(&m.path("a/b/c/d"), &["lower", "upper"]);
        reads(&m.path("a/b/c/same"), "u");
        reads(&m.path("a/b/only-lower/x/y"), "l");
        reads(&m.path("a/only-upper/x/y"), "u");
    }
);

for_each_mode!(
    /// "unless the upper one is opaque": below an opaque directory nothing of the lower shows.
    opaque_hides_to_any_depth,
    |fx| {
        fx.lower().file("a/b/lower", "l").file("o/b/lower", "l");
        fx.upper().opaque("a/b").file("a/b/upper", "u").opaque("o").file("o/b/upper", "u");
        let m = fx.mount();
        lists(&m.path("a/b"), &["upper"]);
        lists(&m.path("o"), &["b"]);
        lists(&m.path("o/b"), &["upper"]);
        absent(&m.path("a/b/lower"));
        absent(&m.path("o/b/lower"));
    }
);

for_each_mode!(
    /// "`trusted.overlay.*` or `user.overlay.*` reads the same": both families mark directories
    /// as opaque when root mounts.
    opaque_markers_of_both_families,
    [root],
    |fx| {
        if fx.on_kernel() {
            fx.skip("one kernel mount reads one family");
        }
        fx.lower().file("trusted/lower", "l").file("user/lower", "l").file("neither/lower", "l");
        fx.upper().dir("trusted").xattr("trusted", "trusted.overlay.opaque", "y");
        fx.upper().dir("user").xattr("user", "user.overlay.opaque", "y");
        fx.upper().dir("neither").xattr("neither", "trusted.overlay.opaque", "n");
        let m = fx.mount();
        lists(&m.path("trusted"), &[]);
        lists(&m.path("user"), &[]);
        lists(&m.path("neither"), &["lower"]);
    }
);

for_each_mode!(
    /// "a whiteout of the upper hides the lower name" of any kind, also inside merged directories,
    /// and the names beside it stay.
    whiteouts_hide_names_alone,
    |fx| {
        fx.lower().file("d/gone", "l").file("d/kept", "l").file("d/tree/inside/f", "l");
        fx.upper().whiteout("d/gone").whiteout("d/tree");
        let m = fx.mount();
        lists(&m.path("d"), &["kept"]);
        absent(&m.path("d/gone"));
        absent(&m.path("d/tree"));
        absent(&m.path("d/tree/inside/f"));
        reads(&m.path("d/kept"), "l");
    }
);

for_each_mode!(
    /// "a 0/0 character device where the lower has nothing to hide is just a device".
    a_device_that_hides_nothing_is_a_device,
    |fx| {
        if fx.on_kernel() {
            fx.skip("a documented difference");
        }
        fx.lower().dir("merged");
        fx.upper().whiteout("alone").whiteout("merged/alone").whiteout("own/alone");
        let m = fx.mount();
        for name in ["alone", "merged/alone", "own/alone"] {
            let found = stat(&m.path(name));
            assert!(found.file_type().is_char_device() && found.rdev() == 0, "{name}");
        }
        assert_eq!(listing(&m.path("own"))[OsStr::new("alone")], "char");
        assert_eq!(listing(&m.path("merged"))[OsStr::new("alone")], "char");
    }
);

for_each_mode!(
    /// "`metacopy` and `redirect` markers, which we do not follow, are refused with a clear error,
    /// never shown wrongly": reading inside such a directory, or the data of such a file, is EIO.
    redirect_and_metacopy_are_refused,
    |fx| {
        if fx.on_kernel() {
            fx.skip("the kernel answers in its own way");
        }
        fx.lower().file("moved/f", "l").file("elsewhere/f", "l").file("data", "lower data");
        fx.upper().dir("moved").marker("moved", "redirect", "elsewhere");
        fx.upper().file("data", "          ").marker("data", "metacopy", "");
        fx.upper().dir("fresh").marker("fresh", "redirect", "/elsewhere");
        let m = fx.mount();
        fails(Errno::IO, "list a redirected directory", list(&m.path("moved")));
        fails(Errno::IO, "look into a redirected directory", fs::read(m.path("moved/f")));
        fails(Errno::IO, "list a fresh redirected directory", list(&m.path("fresh")));
        fails(Errno::IO, "read a metacopy file", fs::read(m.path("data")));
    }
);

fn list(path: &Path) -> std::io::Result<Vec<OsString>> {
    fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

for_each_mode!(
    /// Every kind of object of either layer shows as what it is, with its attributes.
    kinds_and_attributes,
    |fx| {
        for (layer, side) in [(fx.lower(), "low"), (fx.upper(), "up")] {
            let name = |kind: &str| format!("{kind}-{side}");
            layer.file(name("file"), "12345").mode(name("file"), 0o4751).mtime(name("file"), 1);
            layer.dir(name("dir")).mode(name("dir"), 0o1770).mtime(name("dir"), 77);
            layer.symlink(name("symlink"), "no/where").mtime(name("symlink"), 5);
            layer.fifo(name("fifo")).mode(name("fifo"), 0o606);
            drop(std::os::unix::net::UnixListener::bind(layer.path(name("socket"))).must());
        }
        let m = fx.mount();
        for (layer, side) in [(fx.lower(), "low"), (fx.upper(), "up")] {
            for kind in ["file", "dir", "symlink", "fifo", "socket"] {
                let name = format!("{kind}-{side}");
                let (want, got) = (stat(&layer.path(&name)), stat(&m.path(&name)));
                assert_eq!(kind_of(&m.path(&name)), Some(kind));
                let tell = |s: &fs::Metadata| {
                    let times = (s.mtime(), s.mtime_nsec(), s.ctime(), s.ctime_nsec());
                    (s.mode(), s.uid(), s.gid(), s.size(), s.blocks(), times)
                };
                assert_eq!(tell(&got), tell(&want), "{name}");
            }
            assert_eq!(fs::read_link(m.path(format!("symlink-{side}"))).must(), Path::new("no/where"));
        }
    }
);

for_each_mode!(
    /// "Root's own mode and owner belong to the upper's root directory."
    the_root_is_the_uppers,
    |fx| {
        fx.lower().mode("", 0o555).mtime("", 1);
        fx.upper().mode("", 0o750).mtime("", 4711);
        let m = fx.mount();
        assert_eq!(mode_of(&m.path("")), 0o750);
        assert_eq!(stat(&m.path("")).mtime(), 4711);
        assert_eq!(stat(&m.path("")).uid(), stat(&fx.upper().path("")).uid());
    }
);

for_each_mode!(
    /// "255-byte and non-UTF-8 names": names are bytes, of either layer, and both merge.
    names_are_bytes,
    |fx| {
        let long = OsString::from_vec(vec![b'n'; 255]);
        let wild = OsString::from_vec((1..=255).filter(|b| *b != b'/').take(200).collect());
        for name in [&long, &wild] {
            fx.lower().file(Path::new(name).join("lower"), "l");
            fx.upper().file(Path::new(name).join("upper"), "u");
        }
        let m = fx.mount();
        for name in [&long, &wild] {
            lists(&m.path(name), &["lower", "upper"]);
            assert!(listing(&m.path("")).contains_key(name));
        }
        let longer = OsStr::from_bytes(&[b'n'; 256]);
        fails(Errno::NAMETOOLONG, "256 bytes", fs::metadata(m.path(longer)));
        fails(Errno::NAMETOOLONG, "256 bytes below the lower",
            fs::metadata(m.path(&wild).join(longer)));
    }
);

for_each_mode!(
    /// "the store directory's `.links` is upper-only": a lower one is invisible, an upper one does
    /// not merge with it, and only at the top.
    links_is_upper_only,
    |fx| {
        if fx.on_kernel() {
            fx.skip("a documented difference");
        }
        fx.lower().file(".links/lower", "l").file("d/.links/lower", "l");
        fx.upper().file("d/.links/upper", "u");
        let m = fx.mount();
        absent(&m.path(".links"));
        lists(&m.path(""), &["d"]);
        lists(&m.path("d/.links"), &["lower", "upper"]);
        fs::create_dir(m.path(".links")).must();
        lists(&m.path(".links"), &[]);
        fs::write(m.path(".links/lower"), "new").must();
        reads(&fx.upper().path(".links/lower"), "new");
        fs::remove_file(m.path(".links/lower")).must();
        fs::remove_dir(m.path(".links")).must();
        absent(&m.path(".links"));
        lists(&fx.upper().path(""), &["d"]);
    }
);

for_each_mode!(
    /// A program of either layer runs, and a symlink of one layer leads to a file of the other.
    programs_and_links_across_layers,
    |fx| {
        let shell = fs::canonicalize("/bin/sh").must();
        fx.lower().file("bin/sh", fs::read(shell).must()).mode("bin/sh", 0o555);
        fx.lower().symlink("to-upper", "u/script").file("bin/data", "lower");
        fx.upper().file("u/script", "exit 7").symlink("to-lower", "bin/sh");
        let m = fx.mount();
        let mut run = std::process::Command::new(m.path("to-lower"));
        let status = run.arg(m.path("to-upper")).status().must();
        assert_eq!(status.code(), Some(7));
    }
);

for_each_mode!(
    /// Big files read right at every offset, and past the end there is nothing.
    data_of_both_layers,
    |fx| {
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fx.lower().file("lower", &bytes);
        fx.upper().file("upper", &bytes);
        let m = fx.mount();
        for name in ["lower", "upper"] {
            assert!(fs::read(m.path(name)).must() == bytes, "{name}");
            let file = fs::File::open(m.path(name)).must();
            for at in [0, 1, 4095, 131_071, 1_048_577, 2_999_999_usize, 3_000_001] {
                let mut part = [0; 5000];
                let length = file.read_at(&mut part, at as u64).must();
                let end = (at + 5000).min(bytes.len());
                assert!(part[..length] == bytes[at..end], "{name} at {at}");
            }
        }
    }
);
