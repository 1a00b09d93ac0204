// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore gc`, `delete` and `optimise` without Nix: what a dry run leaves alone, who may add
//! meanwhile, what others do in the middle, and what is asked where something cannot be done.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails where a step does"
)]
#![expect(clippy::too_many_lines, reason = "one story from end to end")]

#[path = "../common/mod.rs"]
mod common;
#[expect(dead_code, reason = "verification uses more of it")]
#[path = "../verifying/world.rs"]
mod world;

mod beside;
mod daemon;
mod dry;
mod hindered;
mod views;

use crate::common::check::{Must, text};
use crate::common::mode::program;
use crate::world::World;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a command on the store of `world`, whose URL gets `settings` behind it.
fn command(world: &World, settings: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program());
    let (first, rest) = words.split_first().expect("there is a command");
    let url = world.url() + settings;
    command.args([first, "--store", &url]).args(rest);
    command
}

fn run(world: &World, settings: &str, words: &[&str]) -> Output {
    command(world, settings, words).output().must()
}

/// Runs what must end with `code`; returns what it printed.
#[track_caller]
fn ends(world: &World, code: i32, words: &[&str]) -> String {
    let output = run(world, "", words);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    text(&output.stdout)
}

#[track_caller]
fn json(world: &World, code: i32, words: &[&str]) -> serde_json::Value {
    let printed = ends(world, code, words);
    serde_json::from_str(&printed).unwrap_or_else(|why| panic!("{why}: {printed}"))
}

/// The store path of an object.
fn path(name: &str) -> String {
    format!("/nix/store/{name}")
}

/// Keeps an object alive by a link.
fn rooted(world: &World, name: &str) -> PathBuf {
    let link = world.path("state/gcroots").join(name);
    fs::create_dir_all(link.parent().unwrap()).must();
    std::os::unix::fs::symlink(path(name), &link).must();
    link
}

/// Adds the tree `name` below `src`; returns the name of the object.
fn add(world: &World, name: &str) -> String {
    let src = world.path("src").join(name);
    let printed = ends(world, 0, &["add", src.to_str().expect("ASCII")]);
    let printed = printed.trim().trim_start_matches("/nix/store/");
    printed.to_owned()
}

/// A file below `src`.
fn write(world: &World, name: &str, content: &[u8]) {
    let file = world.path("src").join(name);
    fs::create_dir_all(file.parent().unwrap()).must();
    fs::write(file, content).must();
}

fn sync(world: &World) {
    let merged = world.path("m/nix/store");
    world.run(&["sync", merged.to_str().expect("ASCII")]);
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
