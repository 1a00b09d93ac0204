// SPDX-License-Identifier: MIT OR Apache-2.0
//! Anything may happen in both layers: after each step and a barrier the view is their union, worked
//! out here from the two directories.

use crate::common::check::{Must, kind};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use crate::promise::{Told, View};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const STEPS: usize = 150;
/// Few names, so that they collide.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed >> 33) % limit as u64).expect("below a limit")
    }
}

/// What stands under a name, by path.
type Tree = BTreeMap<PathBuf, String>;

fn describe(path: &Path) -> String {
    let found = fs::symlink_metadata(path).must();
    let content = match kind(found.file_type()) {
        "file" => fs::read_to_string(path).must(),
        "symlink" => format!("{:?}", fs::read_link(path).must()),
        _ => String::new(),
    };
    format!("{} {content}", kind(found.file_type()))
}

fn names(dir: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.must().file_name().into_string();
    let names = fs::read_dir(dir).must().map(name);
    names.map(|name| name.expect("ASCII")).collect()
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The union of directories, the first of which wins.
fn union(layers: &[PathBuf], below: &Path, tree: &mut Tree) {
    let all: BTreeSet<String> = layers.iter().flat_map(|layer| names(layer)).collect();
    for name in all {
        let there = |layer: &PathBuf| {
            let path = layer.join(&name);
            fs::symlink_metadata(&path).is_ok().then_some(path)
        };
        let paths: Vec<PathBuf> = layers.iter().filter_map(there).collect();
        tree.insert(below.join(&name), describe(&paths[0]));
        let dirs = paths.into_iter().take_while(|path| is_dir(path));
        let dirs: Vec<PathBuf> = dirs.collect();
        if !dirs.is_empty() {
            union(&dirs, &below.join(&name), tree);
        }
    }
}

/// Makes, removes or moves something in one layer, at the top or one level below.
fn step(random: &mut Random, fx: &Fixture, number: usize) {
    let layer = [fx.lower(), fx.upper()][random.below(2)].clone();
    let top = layer.path(NAMES[random.below(NAMES.len())]);
    // Only what is built aside and moved into place tells of changes below the top.
    let aside = layer.path("").with_file_name("aside");
    match random.below(6) {
        0 => drop(fs::remove_dir_all(&top).or_else(|_| fs::remove_file(&top))),
        1 => {
            let other = layer.path(NAMES[random.below(NAMES.len())]);
            if top != other && fs::symlink_metadata(&top).is_ok() {
                drop(fs::remove_dir_all(&other).or_else(|_| fs::remove_file(&other)));
                fs::rename(&top, &other).must();
            }
        }
        made => {
            drop(fs::remove_dir_all(&top).or_else(|_| fs::remove_file(&top)));
            match made {
                2 => fs::write(&aside, format!("file {number}")).must(),
                3 => std::os::unix::fs::symlink(format!("{number}"), &aside).must(),
                _ => {
                    for name in NAMES.iter().filter(|_| random.below(2) == 0) {
                        fs::create_dir_all(aside.join("sub")).must();
                        fs::write(aside.join(name), format!("inner {number}")).must();
                        fs::write(aside.join("sub").join(name), format!("deep {number}")).must();
                    }
                    fs::create_dir_all(&aside).must();
                }
            }
            fs::rename(&aside, &top).must();
        }
    }
}

fn look(v: &View) -> Tree {
    let mut tree = Tree::new();
    // What is not there is looked for as well, so that the kernel remembers.
    for name in NAMES {
        for below in ["", "a", "sub/a", "sub/none"] {
            let _known = fs::symlink_metadata(v.path(name).join(below));
        }
    }
    union(&[v.path("")], Path::new(""), &mut tree);
    tree
}

fn run(fx: &Fixture, told: Told) {
    let seed = 0x5EED + told as u64;
    let mut random = Random(seed);
    let v = told.mount(fx);
    let layers = [fx.upper().path(""), fx.lower().path("")];
    for number in 0..STEPS {
        step(&mut random, fx, number);
        v.barrier();
        let mut want = Tree::new();
        union(&layers, Path::new(""), &mut want);
        assert_eq!(look(&v), want, "seed {seed}, after step {number}");
    }
    fx.lower_changed_outside();
}

for_each_mode!(
    /// Where the layers are watched.
    watched,
    |fx| {
        run(fx, Told::AtOnce);
    }
);

for_each_mode!(
    /// Where they are not: the barrier is all there is.
    not_watched,
    |fx| {
        run(fx, Told::Never);
    }
);
