// SPDX-License-Identifier: MIT OR Apache-2.0
//! A store that was made by the program itself: a lower store, an upper layer, and a store with good
//! copies of everything.

use crate::common::check::{Must, text};
use crate::common::fixture::Fixture;
use crate::common::mode::{Mode, program};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Who serves the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Fuse,
    Kernel,
    /// Nobody: a directory, for which the user vouches.
    Directory,
}

pub(crate) struct World {
    root: PathBuf,
    by: By,
    mounted: bool,
}

/// Base names of objects.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    /// Valid in the lower, with a row in the upper.
    pub(crate) low: String,
    /// In the lower alone.
    pub(crate) bare: String,
    /// In both, with a row.
    pub(crate) dup: String,
    /// In the upper.
    pub(crate) up: String,
    /// In the upper; `user` refers to it.
    pub(crate) held: String,
    pub(crate) user: String,
}

impl World {
    pub(crate) fn new(fx: &Fixture, by: By) -> World {
        if by == By::Kernel && fx.mode() == Mode::user {
            fx.skip("a plain user cannot mount the kernel's OverlayFS");
        }
        let root = fx.scratch("world");
        for dir in [
            "low/nix/store",
            "good/nix/store",
            "empty/nix/store",
            "unused",
            "up",
            "m/nix/store",
            "src",
        ] {
            fs::create_dir_all(root.join(dir)).must();
        }
        World {
            root,
            by,
            mounted: false,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn url(&self) -> String {
        let root = self.root.display();
        let check = match self.by {
            By::Directory => "&check-mount=false",
            _ => "",
        };
        format!(
            "local-overlay://?root={root}/m&lower-store={root}/low&upper-layer={root}/up&state={root}/state{check}"
        )
    }

    fn plain_url(&self, name: &str) -> String {
        let root = self.root.display();
        format!(
            "local-overlay://?root={root}/{name}&lower-store={root}/empty&upper-layer={root}/unused&check-mount=false"
        )
    }

    /// Adds an object with two files and a link, to the store `url`.
    fn add(&self, url: &str, name: &str, references: &[&str]) -> String {
        let src = self.path("src").join(name);
        fs::create_dir_all(&src).must();
        fs::write(src.join("file"), format!("content of {name}")).must();
        fs::write(src.join("run"), "#!/bin/sh\n").must();
        set_mode(&src.join("run"), 0o755);
        if fs::symlink_metadata(src.join("link")).is_err() {
            std::os::unix::fs::symlink("file", src.join("link")).must();
        }
        let mut command = Command::new(program());
        command.args(["add", "--store", url]).arg(&src);
        for reference in references {
            command.args(["--reference", &format!("/nix/store/{reference}")]);
        }
        let output = command.output().must();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let path = text(&output.stdout);
        path.trim().trim_start_matches("/nix/store/").to_owned()
    }

    /// Makes the stores, and mounts.
    pub(crate) fn fill(&mut self) -> Objects {
        let lower = self.plain_url("low");
        let low = self.add(&lower, "low", &[]);
        let bare = self.add(&lower, "bare", &[]);
        self.mount();
        let url = self.url();
        let dup = self.add(&url, "dup", &[]);
        let up = self.add(&url, "up", &[]);
        let held = self.add(&url, "held", &[]);
        let user = self.add(&url, "user", &[&held]);
        self.add(&lower, "dup", &[]);
        self.run(&["copy-up", "--store", &url, &format!("/nix/store/{low}")]);
        let good = self.plain_url("good");
        for name in ["low", "bare", "dup", "up", "held"] {
            self.add(&good, name, &[]);
        }
        self.add(&good, "user", &[&held]);
        if self.by == By::Directory {
            // What a view would show.
            for name in [&low, &bare] {
                copy(
                    &self.path("low/nix/store").join(name),
                    &self.path("m/nix/store").join(name),
                );
            }
        }
        Objects {
            low,
            bare,
            dup,
            up,
            held,
            user,
        }
    }

    pub(crate) fn mount(&mut self) {
        let backend = match self.by {
            By::Fuse => "fuse",
            By::Kernel => "kernel",
            By::Directory => return,
        };
        self.run(&["mount", "--backend", backend, &self.url()]);
        self.mounted = true;
    }

    pub(crate) fn unmount(&mut self) {
        if self.mounted {
            let merged = self.path("m/nix/store");
            self.run(&["umount", merged.to_str().expect("scratch paths are ASCII")]);
            self.mounted = false;
        }
    }

    pub(crate) fn run(&self, words: &[&str]) {
        let output = Command::new(program()).args(words).output().must();
        assert!(
            output.status.success(),
            "{words:?}: {}",
            text(&output.stderr)
        );
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(["verify", "--json", "--store", &self.url()])
            .args(words);
        command
    }

    pub(crate) fn verify(&self, words: &[&str]) -> Told {
        Told::of(&self.command(words).output().must())
    }

    /// An object's file in the upper, or where one store alone has it.
    pub(crate) fn upper(&self, name: &str) -> PathBuf {
        match self.by {
            By::Directory => self.path("m/nix/store").join(name),
            _ => self.path("up").join(name),
        }
    }

    pub(crate) fn lower(&self, name: &str) -> PathBuf {
        self.path("low/nix/store").join(name)
    }

    pub(crate) fn merged(&self, name: &str) -> PathBuf {
        self.path("m/nix/store").join(name)
    }

    pub(crate) fn sql(&self, statement: &str) {
        let database =
            Connection::open(self.path("state/db/db.sqlite")).expect("the database is there");
        let done = database.execute_batch(statement);
        done.expect("the statement is right");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.mounted {
            let merged = self.path("m/nix/store");
            let done = Command::new(program()).arg("umount").arg(merged).output();
            println!("unmounted: {:?}", done.map(|done| done.status));
        }
    }
}

/// What a verification told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
    pub(crate) said: String,
}

impl Told {
    pub(crate) fn of(output: &Output) -> Told {
        let said = text(&output.stderr);
        Told {
            code: output.status.code(),
            json: serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}")),
            said,
        }
    }

    fn those(&self, key: &str) -> BTreeSet<(String, String)> {
        let all = self.json[key].as_array().expect("a list").iter();
        all.map(|one| {
            let path = one["path"].as_str().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            (
                name.to_owned(),
                one["kind"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
    }

    /// Requires these faults, these repairs, and this exit code.
    #[track_caller]
    pub(crate) fn is(&self, faults: &[(&str, &str)], repaired: &[(&str, &str)], code: i32) {
        let set = |all: &[(&str, &str)]| -> BTreeSet<(String, String)> {
            all.iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        assert_eq!(self.those("faults"), set(faults), "{}", self.said);
        assert_eq!(self.those("repaired"), set(repaired), "{}", self.said);
        assert_eq!(self.code, Some(code), "{}", self.said);
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).must();
}

/// Has an object be writable, to damage it.
pub(crate) fn open(object: &Path) {
    let done = Command::new("chmod")
        .args(["-R", "u+w"])
        .arg(object)
        .status()
        .must();
    assert!(done.success());
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .must();
    assert!(done.success());
}

pub(crate) fn remove(object: &Path) {
    open(object);
    fs::remove_dir_all(object).must();
}
