// SPDX-License-Identifier: MIT OR Apache-2.0
//! A store of every kind of object, and what must be seen of it in the merged view.

use crate::common::check::{Must, kind, text};
use crate::common::fixture::Fixture;
use crate::common::layer::LayerBuilder;
use crate::common::mode::program;
use crate::common::mount::MountGuard;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many names `many` has: more than one answer to the kernel holds.
pub(crate) const MANY: usize = 700;
/// The length of `big`: several reads of the largest size.
const BIG: u32 = 3 << 20;

/// Errors that a lower which fails may give; "does not exist" is none of them.
pub(crate) const FAILURES: [Errno; 8] = [
    Errno::IO,
    Errno::STALE,
    Errno::NOTCONN,
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::TIMEDOUT,
    Errno::HOSTDOWN,
    Errno::NODEV,
];

/// Tells whether `error` is one of [`FAILURES`].
pub(crate) fn is_failure(error: &io::Error) -> bool {
    let failure = |errno: &Errno| error.raw_os_error() == Some(errno.raw_os_error());
    FAILURES.iter().any(failure)
}

/// Writes the store `dir` of `fx`, sealed as Nix seals it, and an upper that goes with it.
pub(crate) fn store(fx: &Fixture) -> LayerBuilder {
    let store = LayerBuilder::new(fx.scratch("store"), fx.family());
    store
        .file("flat", "flat")
        .file("aaa/f", "lower")
        .hard_link("aaa/f", "aaa/g");
    store
        .symlink("aaa/s", "f")
        .file("aaa/sub/x", "deep")
        .symlink("link", "aaa");
    store
        .file("mm/low", "in the lower")
        .file("mm/both", "lower")
        .file("big", big());
    for number in 0..MANY {
        store.file(format!("many/some-name-{number:04}"), number.to_string());
    }
    seal(&store.path(""));
    fx.upper()
        .file("mm/up", "in the upper")
        .file("mm/both", "upper");
    fx.upper().file("own/f", "own").file("own-flat", "own");
    store
}

/// Returns the content of `big`: no two of its pages are alike.
pub(crate) fn big() -> Vec<u8> {
    (0..BIG / 4)
        .flat_map(|word| word.wrapping_mul(0x9E37_79B9).to_le_bytes())
        .collect()
}

/// Takes the write bits away and sets every time to 1, from the leaves up.
fn seal(path: &Path) {
    let found = fs::symlink_metadata(path).must();
    if found.is_dir() {
        for entry in fs::read_dir(path).must() {
            seal(&entry.must().path());
        }
    }
    if !found.is_symlink() {
        let bits = if found.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).must();
    }
    crate::common::check::set_mtime(path, 1).must();
}

/// Mounts the merged view of what is served at `lower` and the fixture's upper.
pub(crate) fn mount(fx: &Fixture, lower: &Path, more: &str) -> MountGuard {
    if fx.on_kernel() {
        fx.skip("the kernel's OverlayFS forbids its layers to change");
    }
    let merged = fx.scratch("merged");
    fs::create_dir_all(&merged).must();
    let upper = fx.scratch("up/upper");
    let layers = format!(
        "lowerdir={},upperdir={}{more}",
        lower.display(),
        upper.display()
    );
    MountGuard::driver(fx.mode(), &merged, &layers, None)
}

/// Returns what `status` tells of the view.
pub(crate) fn status(view: &MountGuard) -> serde_json::Value {
    let mut command = Command::new(program());
    command
        .args(["status", "--json"])
        .arg(view.path(""))
        .stdin(Stdio::null());
    let output = command.output().must();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}", text(&output.stderr)));
    told.get(0).unwrap_or(&told).clone()
}

/// Describes everything below `root` by its path; `links` adds the link counts.
pub(crate) fn describe(root: &Path, links: bool) -> BTreeMap<PathBuf, String> {
    let mut tree = BTreeMap::new();
    walk(root, Path::new(""), links, &mut tree);
    tree
}

fn walk(root: &Path, name: &Path, links: bool, tree: &mut BTreeMap<PathBuf, String>) {
    let path = root.join(name);
    let found = fs::symlink_metadata(&path).must();
    let mut line = format!("{} {:o}", kind(found.file_type()), found.mode() & 0o7777);
    if found.is_file() {
        let content = fs::read(&path).must();
        line += &format!(" {} bytes, digest {:016x}", found.len(), digest(&content));
        if links {
            line += &format!(" {} links", found.nlink());
        }
    } else if found.is_symlink() {
        line += &format!(" to {:?}", fs::read_link(&path).must());
    } else {
        for entry in fs::read_dir(&path).must() {
            walk(root, &name.join(entry.must().file_name()), links, tree);
        }
    }
    if found.is_file() || found.is_symlink() {
        line += &format!(" time {}", found.mtime());
    }
    assert!(
        tree.insert(name.to_owned(), line).is_none(),
        "{name:?} is listed twice"
    );
}

fn digest(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Requires that the merged view is complete and right: the store, and the upper over it.
#[track_caller]
pub(crate) fn is_whole(fx: &Fixture, view: &MountGuard) {
    let mut want = describe(&fx.scratch("store"), false);
    want.extend(describe(&fx.scratch("up/upper"), false));
    let seen = describe(&view.path(""), false);
    let wrong: Vec<_> = want
        .iter()
        .filter(|(name, line)| seen.get(*name) != Some(*line))
        .map(|(name, line)| format!("{name:?}: {:?}, not {line}", seen.get(name)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let more: Vec<_> = seen
        .keys()
        .filter(|name| !want.contains_key(*name))
        .collect();
    assert!(more.is_empty(), "shown and nowhere: {more:?}");
}
