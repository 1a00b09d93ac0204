// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program as it is asked to compare, and layers that have something of everything.

use crate::common::check::{Must, text};
use crate::common::fixture::Fixture;
use crate::common::mode::program;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

/// Returns the command that compares the layers of `fx`.
pub(crate) fn compare(fx: &Fixture) -> Command {
    let layers = format!(
        "lowerdir={},upperdir={}",
        shown(fx, "low/lower"),
        shown(fx, "up/upper")
    );
    let mut command = Command::new(program());
    command.args(["compare", "-o", &layers]);
    for name in ["OVERSTORE_STORE", "OVERSTORE_LOG", "NIX_REMOTE"] {
        command.env_remove(name);
    }
    command
}

fn shown(fx: &Fixture, name: &str) -> String {
    let path = fx.scratch(name);
    path.to_str().expect("scratch paths are ASCII").to_owned()
}

/// Requires an exit code, and returns what was printed.
#[track_caller]
pub(crate) fn exits(command: &mut Command, code: i32) -> String {
    let output: Output = command.output().must();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    match code {
        0 | 1 => out,
        _ => err,
    }
}

/// Returns what `--json` prints, which must be with this exit code.
#[track_caller]
pub(crate) fn json(command: &mut Command, code: i32) -> Value {
    let out = exits(command.arg("--json"), code);
    serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}"))
}

/// Fills both layers with something of everything that the backends must show alike.
pub(crate) fn fill(fx: &Fixture) {
    fill_lower(fx);
    fill_upper(fx);
    let (lower, upper) = (fx.lower(), fx.upper());
    let sparse = std::fs::File::create(upper.path("sparse")).must();
    sparse.set_len(10_000_000).must();
    if rustix::fs::setxattr(
        upper.path("up/file"),
        "user.a",
        b"\x00\xff",
        rustix::fs::XattrFlags::empty(),
    )
    .is_ok()
    {
        upper.xattr("up", "user.of-directory", "v");
        lower.xattr("low/file", "user.of-lower", "v");
    }
    lower.mode("low/file", 0o444);
}

/// Returns the lines about differences, without what follows them.
pub(crate) fn difference_lines(out: &str) -> Vec<&str> {
    let ends = ["deliberate", "both refuse", "equal:", "different:"];
    out.lines()
        .take_while(|line| !ends.iter().any(|end| line.starts_with(end)))
        .collect()
}

/// Waits, for as long as a test may take, until `name` is in `text` of a file.
pub(crate) fn holds(path: &Path, name: &str) -> bool {
    std::fs::read(path).is_ok_and(|bytes| text(&bytes).contains(name))
}

fn fill_lower(fx: &Fixture) {
    let odd = OsStr::from_bytes(b"odd \n\xff\\name");
    fx.lower()
        .file("low/file", "of the lower")
        .dir("low/empty")
        .symlink("low/link", "file")
        .file("both/lower", "l")
        .file("both/same", "the lower's")
        .file("both/gone", "hidden")
        .dir("both/deep/down")
        .file("opaque/hidden", "x")
        .file("hidden", "by a whiteout")
        .file("covered/inside", "by a file")
        .file("linked", "one file")
        .hard_link("linked", "linked too")
        .hard_link("linked", "low/linked")
        .file(odd, "odd")
        .mtime("low/file", 1);
}

fn fill_upper(fx: &Fixture) {
    fx.upper()
        .file("up/file", "of the upper")
        .file("both/upper", "u")
        .file("both/same", "the upper's")
        .file("both/deep/up", "d")
        .whiteout("both/gone")
        .whiteout("hidden")
        .opaque("opaque")
        .file("opaque/shown", "y")
        .file("covered", "a file")
        .file("up/one", "1")
        .hard_link("up/one", "up/two")
        .symlink("dangling", "nowhere")
        .fifo("fifo")
        .mode("up/file", 0o755)
        .mode("both", 0o750);
}
