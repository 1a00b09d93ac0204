// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done to the layers behind the mount.
//!
//! Invariant: afterwards the view must know; the driver through the barrier, the kernel because it
//! mounts the layers again.

use super::{Backend, Mounted, under};
use crate::common::check::{self, Must};
use crate::common::layer::LayerBuilder;
use crate::common::manifest;
use crate::model::outside::{LATER_INSIDE, LATER_LENGTH};
use crate::op::{LATER_TIME, Op, Place, pattern};
use crate::outcome::Outcome;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Mounted<'_> {
    /// Changes the layers behind the mount; afterwards the view must know.
    pub(super) fn outside(&mut self, op: &Op) -> Outcome {
        self.slots = Default::default();
        if self.backend == Backend::Kernel {
            self.unmount();
        }
        let outcome = self.change_outside(op);
        self.lower = manifest::of(&self.root.join("lower"));
        match self.backend {
            Backend::Kernel => self.mount(Backend::Kernel),
            Backend::Fuse => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let top = rustix::fs::open(self.root.join("merged"), flags, Mode::empty()).must();
                overstore::sys::control::barrier(top.as_fd()).must();
            }
        }
        outcome
    }

    fn change_outside(&mut self, op: &Op) -> Outcome {
        let [at] = op.places()[..] else {
            return Outcome::Nothing;
        };
        let lower = LayerBuilder::new(self.root.join("lower"), self.yard.family);
        let name = under(Path::new(""), at);
        let (below, above) = (lower.path(&name), under(&self.root.join("upper"), at));
        let (below_kind, above_kind) = (check::kind_of(&below), check::kind_of(&above));
        match (op, below_kind, above_kind) {
            (Op::OutsideAddLower(_, true), None, _) => {
                let staged = LayerBuilder::new(self.root.join("staged"), self.yard.family);
                let inside = OsStr::from_bytes(LATER_INSIDE);
                staged
                    .file(inside, pattern(LATER_LENGTH, 0))
                    .mtime(inside, LATER_TIME)
                    .mtime("", LATER_TIME);
                fs::rename(staged.path(""), below).must();
            }
            (Op::OutsideAddLower(_, false), None, _) => {
                lower
                    .file(&name, pattern(LATER_LENGTH, 0))
                    .mtime(&name, LATER_TIME);
            }
            (Op::OutsideRemoveDuplicate(_), Some(_), Some(kind)) if kind != "char" => {
                self.goes(at, &above);
                match kind {
                    "dir" => fs::remove_dir_all(above).must(),
                    _ => fs::remove_file(above).must(),
                }
            }
            (Op::OutsideReplaceLower(_), Some("file"), _) => {
                self.goes(at, &below);
                let staged = LayerBuilder::new(self.root.clone(), self.yard.family);
                staged
                    .file("staged", pattern(LATER_LENGTH, 1))
                    .mtime("staged", LATER_TIME);
                fs::rename(staged.path("staged"), below).must();
            }
            _ => return Outcome::Nothing,
        }
        Outcome::Done
    }

    /// Remembers the numbers that what is at `path` gives back.
    fn goes(&mut self, at: &Place, path: &Path) {
        self.gone.0.push(at.clone());
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let found = fs::symlink_metadata(&path).must();
            self.gone.1.insert(found.ino());
            if found.is_dir() {
                left.extend(fs::read_dir(path).must().map(|entry| entry.must().path()));
            }
        }
    }
}
