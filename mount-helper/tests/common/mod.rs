// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directories of one test and the helper in a place of its own, without `overstore` beside it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "every test binary uses its own part of the harness, and ends at the first surprise"
)]

#[path = "../../../tests/common/skip.rs"]
pub(crate) mod skip;

pub(crate) use skip::skip;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Gone with the test.
#[derive(Debug)]
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        let place = Place(
            tempfile::Builder::new()
                .prefix("overstore-helper-")
                .tempdir()
                .unwrap(),
        );
        std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["l", "u", "m", "bin"] {
            std::fs::create_dir(place.path(name)).unwrap();
        }
        std::fs::write(place.path("l/low"), "from the lower\n").unwrap();
        // Not by this process: a test that forks meanwhile would hold it open for writing.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_mount-overstore"))
            .arg(place.program())
            .status();
        assert!(copied.unwrap().success());
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name).components().collect()
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.path("bin/mount.overstore")
    }

    pub(crate) fn layers(&self) -> String {
        let (lower, upper) = (self.path("l"), self.path("u"));
        format!("lowerdir={},upperdir={}", lower.display(), upper.display())
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.stdin(Stdio::null()).env("LC_ALL", "C");
        command
    }

    pub(crate) fn helper(&self, words: &[&str]) -> Output {
        self.command().args(words).output().unwrap()
    }

    /// Asks whether the kernel backend would mount these.
    pub(crate) fn check(&self, lower: &Path, upper: &Path, merged: &Path, more: &str) -> Output {
        let mut options = b"backend=kernel,lowerdir=".to_vec();
        options.extend(escaped(lower));
        options.extend(b",upperdir=");
        options.extend(escaped(upper));
        options.push(b',');
        options.extend(more.as_bytes());
        self.command()
            .arg("overlay")
            .arg(merged)
            .arg("-fo")
            .arg(OsString::from_vec(options))
            .output()
            .unwrap()
    }
}

/// Writes a path as an option value.
pub(crate) fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if b",:\\".contains(&byte) {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) const USAGE: i32 = 1;
pub(crate) const SYSTEM: i32 = 2;
pub(crate) const REFUSED: i32 = 32;

/// Holds a refusal to its exit code and one line with these parts.
#[track_caller]
pub(crate) fn refused(output: &Output, code: i32, parts: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(said.starts_with("mount.overstore: error: "), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

/// Whether this is root; a test that needs root is skipped without.
pub(crate) fn needs_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("only root can do this");
    }
    root
}

/// Runs a script in a private mount namespace, in which the helper is found by mount(8).
pub(crate) fn in_namespace(place: &Place, flags: &str, script: &str) -> Output {
    // A place for helpers that is this namespace's own.
    let prologue = r#"
        mkdir sbin && cp bin/mount.overstore sbin && mount --bind sbin "$(readlink -f /sbin)" || exit 8
    "#;
    Command::new("unshare")
        .args([flags, "--propagation", "private", "--", "sh", "-c"])
        .arg(format!("{prologue}{script}"))
        .current_dir(place.path(""))
        .env("D", place.path(""))
        .env("O", place.layers())
        .env("LC_ALL", "C")
        .output()
        .unwrap()
}

/// Whether this kernel mounts an overlay in such namespaces at all.
pub(crate) fn can(place: &Place, flags: &str) -> bool {
    let script = "mkdir -p c/l c/u c/w c/m && mount -t overlay overlay c/m -o \
                  userxattr,lowerdir=c/l,upperdir=c/u,workdir=c/w";
    let output = Command::new("unshare")
        .args([flags, "--propagation", "private", "--", "sh", "-c", script])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let able = output.status.success();
    if !able {
        skip(&format!(
            "no overlay with unshare {flags}: {}",
            text(&output.stderr)
        ));
    }
    able
}

#[track_caller]
pub(crate) fn said(output: &Output, expected: &str) {
    let err = text(&output.stderr);
    assert_eq!(text(&output.stdout), expected, "{err}");
}

/// Puts `overstore` beside the helper, if it was built.
pub(crate) fn with_program(place: &Place) -> bool {
    let built = Path::new(env!("CARGO_BIN_EXE_mount-overstore")).with_file_name("overstore");
    if !built.try_exists().unwrap() {
        skip("the program overstore is not built: cargo build --workspace");
        return false;
    }
    let copied = Command::new("cp")
        .arg(built)
        .arg(place.path("bin/overstore"))
        .status();
    assert!(copied.unwrap().success());
    if !Path::new("/dev/fuse").try_exists().unwrap() {
        skip("there is no /dev/fuse");
        return false;
    }
    needs_root()
}

/// Runs a script in private namespaces, with which its drivers end.
pub(crate) fn script(place: &Place, flags: &[&str], text: &str) -> Output {
    Command::new("unshare")
        .args(flags)
        .args([
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["--", "sh", "-c", text])
        .current_dir(place.path(""))
        .env("D", place.path(""))
        .env("O", place.layers())
        .env("H", place.program())
        .env("LC_ALL", "C")
        .env_remove("NIX_REMOTE")
        .env_remove("OVERSTORE_STORE")
        .output()
        .unwrap()
}

/// What OverlayFS does not take: how it is set up, the layers, what the message must say, and what
/// shows the view that FUSE makes of them.
pub(crate) const NOT_TAKEN: [(&str, &str, &[&str], &str); 7] = [
    (
        // Names that are compared in a way of their own, as on vfat; the kernel's answer is the same
        // for virtiofs with submounts.
        "true",
        "lowerdir=/proc/sys/kernel,upperdir=$D/u",
        &[
            "filesystem on /proc/sys/kernel not supported",
            "the lower is on proc, the upper on ",
            "the FUSE backend can take it (backend=fuse)",
        ],
        "ls m | grep -q hostname",
    ),
    (
        r#"mkdir a aw b bw v d
        mount -t overlay o -o lowerdir=l,upperdir=a,workdir=aw v
        mount -t overlay o -o lowerdir=v,upperdir=b,workdir=bw d"#,
        "lowerdir=$D/d,upperdir=$D/u",
        &[
            "OverlayFS stacks two deep at most, and the lower is an overlay",
            "the lower is on overlay",
            "backend=fuse",
        ],
        "grep -q lower m/low",
    ),
    (
        r#"mkdir a aw v; mount -t overlay o -o lowerdir=l,upperdir=a,workdir=aw v; mkdir v/up"#,
        "lowerdir=$D/l,upperdir=$D/v/up",
        &[
            "v/up not supported as upperdir",
            "the upper on overlay",
            "backend=fuse",
        ],
        "grep -q lower m/low",
    ),
    (
        "mkdir a b; bindfs a b; mkdir b/up",
        "lowerdir=$D/l,upperdir=$D/b/up",
        &[
            "fuse cannot rename with whiteouts",
            "the upper on fuse",
            "backend=fuse",
        ],
        "grep -q lower m/low",
    ),
    (
        "mkdir a; mount -t ramfs r a; mkdir a/up",
        "lowerdir=$D/l,upperdir=$D/a/up",
        &[
            "has no extended attributes trusted.overlay.opaque",
            "backend=fuse",
        ],
        "grep -q lower m/low",
    ),
    (
        "mount --bind u u; mount -o remount,bind,ro u",
        "lowerdir=$D/l,upperdir=$D/u,ro",
        &[
            "Read-only file system",
            "takes no upper that is read-only",
            "backend=fuse,ro",
        ],
        "grep -q lower m/low",
    ),
    (
        "mkdir a; mount -t tmpfs t a; mkdir a/up a/up.work; mount -o remount,ro a",
        "lowerdir=$D/l,upperdir=$D/a/up,ro",
        &[
            "write to upper directory",
            "Read-only file system",
            "backend=fuse,ro",
        ],
        "grep -q lower m/low",
    ),
];
