// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lower that fails on command: what fails once succeeds, what fails always is told as what it
//! is, and nothing of it is kept.

use super::scripted::{Op, Scripted};
use super::world;
use crate::common::check::{Must, absent, reads};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::common::mount::MountGuard;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::Path;

/// For ever.
const ALWAYS: usize = usize::MAX;

/// A filesystem that fails, and the merged view on it.
struct Scene {
    view: MountGuard,
    lower: Scripted,
}

/// One operation of the user, with the request that is to fail, about the object of that name.
struct Case {
    what: &'static str,
    op: Op,
    about: &'static str,
    run: fn(&Path) -> io::Result<()>,
}

/// Every request that reaches a lower in the course of plain reading. The names are used once
/// each, so that nothing is known of them before.
const CASES: [Case; 8] = [
    Case {
        what: "stat of a file at the top",
        op: Op::Lookup,
        about: "f",
        run: |view| fs::symlink_metadata(view.join("f")).map(drop),
    },
    Case {
        what: "stat of a file below",
        op: Op::Lookup,
        about: "x",
        run: |view| fs::symlink_metadata(view.join("d/x")).map(drop),
    },
    Case {
        what: "lookup of a directory on the way",
        op: Op::Lookup,
        about: "sub",
        run: |view| whole(&view.join("d/sub/y"), "lower"),
    },
    Case {
        what: "open of a file",
        op: Op::Open,
        about: "f",
        run: |view| whole(&view.join("f"), "lower"),
    },
    Case {
        what: "read of a file",
        op: Op::Read,
        about: "f",
        run: |view| whole(&view.join("f"), "lower"),
    },
    Case {
        what: "read of a symbolic link",
        op: Op::Readlink,
        about: "s",
        run: |view| {
            let target = fs::read_link(view.join("s"))?;
            assert_eq!(target, Path::new("f"));
            Ok(())
        },
    },
    Case {
        what: "lookup in a merged directory",
        op: Op::Lookup,
        about: "low",
        run: |view| whole(&view.join("mm/low"), "lower"),
    },
    Case {
        what: "lookup of a merged directory",
        op: Op::Lookup,
        about: "mm",
        run: |view| whole(&view.join("mm/low"), "lower"),
    },
];

fn whole(path: &Path, content: &str) -> io::Result<()> {
    let read = fs::read(path)?;
    assert!(
        read == content.as_bytes(),
        "{}: {}",
        path.display(),
        read.escape_ascii()
    );
    Ok(())
}

fn scene(fx: &Fixture) -> Scene {
    let lower = fx.scratch("low");
    let objects = [
        ("f", "lower"),
        ("s@", "f"),
        ("d/", ""),
        ("d/x", "lower"),
        ("d/sub/", ""),
        ("d/sub/y", "lower"),
        ("mm/", ""),
        ("mm/low", "lower"),
    ];
    let objects = objects.map(|(name, content)| (name.to_owned(), content.to_owned()));
    let scripted = Scripted::mount(&lower, &objects);
    fx.upper().file("mm/up", "upper").file("own/f", "upper");
    Scene {
        view: world::mount(fx, &lower, ",lower-ttl=50ms"),
        lower: scripted,
    }
}

fn errno(result: &io::Result<()>) -> Option<i32> {
    result.as_ref().err().and_then(io::Error::raw_os_error)
}

for_each_mode!(
    /// "EIO and ESTALE from a network lower are retried once by path": what fails once succeeds.
    what_fails_once,
    |fx| {
        for case in &CASES {
            for failure in [Errno::IO, Errno::STALE] {
                let scene = scene(fx);
                scene.lower.fail(case.op, case.about, failure, 1);
                let result = (case.run)(&scene.view.path(""));
                assert!(scene.lower.all_failed(), "{}: was not asked", case.what);
                assert!(result.is_ok(), "{}: {failure} once gave {result:?}", case.what);
            }
        }
    }
);

for_each_mode!(
    /// "then reported as what they are, never as "does not exist", never cached": what fails always
    /// is that error, and right as soon as it stops.
    what_fails_always,
    |fx| {
        for case in &CASES {
            for failure in [Errno::IO, Errno::STALE, Errno::TIMEDOUT, Errno::ACCESS] {
                let scene = scene(fx);
                scene.lower.fail(case.op, case.about, failure, ALWAYS);
                for _ in 0..3 {
                    let result = (case.run)(&scene.view.path(""));
                    let what = format!("{}: {failure} always gave {result:?}", case.what);
                    assert_eq!(errno(&result), Some(failure.raw_os_error()), "{what}");
                }
                scene.lower.heal();
                let result = (case.run)(&scene.view.path(""));
                assert!(result.is_ok(), "{}: after {failure}: {result:?}", case.what);
            }
        }
    }
);

for_each_mode!(
    /// The same for objects that were in use before: by then the driver keeps descriptors of them.
    what_was_in_use_fails,
    |fx| {
        let mut failed = 0;
        for case in &CASES {
            for failure in [Errno::IO, Errno::STALE] {
                let scene = scene(fx);
                (case.run)(&scene.view.path("")).must();
                scene.lower.fail(Op::Statfs, "", failure, ALWAYS);
                for (op, about) in [(case.op, case.about), (Op::Getattr, case.about)] {
                    scene.lower.fail(op, about, failure, ALWAYS);
                }
                std::thread::park_timeout(std::time::Duration::from_millis(100));
                let result = (case.run)(&scene.view.path(""));
                let right = result.is_ok() || errno(&result) == Some(failure.raw_os_error());
                assert!(right, "{}: {failure} gave {result:?}", case.what);
                failed += usize::from(result.is_err());
                scene.lower.heal();
                let result = (case.run)(&scene.view.path(""));
                assert!(result.is_ok(), "{}: after {failure}: {result:?}", case.what);
            }
        }
        assert!(failed > 0, "nothing was asked of the lower");
    }
);

for_each_mode!(
    /// A read that ends before the file does, as sshfs answers when it loses its connection, is
    /// no end of the file: once, the rest is read; always, it is an error.
    reads_that_are_cut_short,
    |fx| {
        for times in [1, ALWAYS] {
            let scene = scene(fx);
            let path = scene.view.path("f");
            scene.lower.fail(Op::CutRead, "f", Errno::IO, times);
            let result = whole(&path, "lower");
            let want = (times == ALWAYS).then_some(Errno::IO.raw_os_error());
            assert_eq!(errno(&result), want, "{times} times: {result:?}");
            assert_eq!(fs::metadata(&path).must().len(), 5);
            scene.lower.heal();
            reads(&path, "lower");
        }
    }
);

for_each_mode!(
    /// "Absence is only ENOENT": a name that is in no layer stays absent, and is not asked for
    /// twice.
    what_is_not_there,
    |fx| {
        let scene = scene(fx);
        for (path, name) in [("none", "none"), ("d/nil", "nil"), ("mm/null", "null")] {
            absent(&scene.view.path(path));
            assert_eq!(scene.lower.asked(Op::Lookup, name), 1, "{path}");
        }
    }
);

for_each_mode!(
    /// A name that is in no layer, while the lower cannot tell so, is not told to be absent.
    what_may_be_there,
    |fx| {
        for failure in [Errno::IO, Errno::STALE] {
            let scene = scene(fx);
            for (path, name) in [("none", "none"), ("d/nil", "nil"), ("mm/null", "null")] {
                scene.lower.fail(Op::Lookup, name, failure, ALWAYS);
                let result = fs::symlink_metadata(scene.view.path(path)).map(drop);
                assert_eq!(errno(&result), Some(failure.raw_os_error()), "{path}: {result:?}");
                let made = fs::write(scene.view.path(path), "made");
                assert_eq!(errno(&made), Some(failure.raw_os_error()), "{path}: {made:?}");
                scene.lower.heal();
                absent(&scene.view.path(path));
            }
        }
    }
);

for_each_mode!(
    /// What the upper alone holds does not depend on the lower, once the directory is known.
    the_upper_goes_on,
    |fx| {
        let scene = scene(fx);
        reads(&scene.view.path("own/f"), "upper");
        reads(&scene.view.path("mm/up"), "upper");
        for name in ["own", "mm", "up", ""] {
            for op in [Op::Lookup, Op::Getattr, Op::Statfs] {
                scene.lower.fail(op, name, Errno::IO, ALWAYS);
            }
        }
        for round in 0..3 {
            std::thread::park_timeout(std::time::Duration::from_millis(100));
            reads(&scene.view.path("own/f"), "upper");
            reads(&scene.view.path("mm/up"), "upper");
            let new = scene.view.path(format!("own/new{round}"));
            fs::write(&new, "new").must();
            reads(&new, "new");
            assert_eq!(fs::read_dir(scene.view.path("own")).must().count(), 2 + round);
        }
    }
);
