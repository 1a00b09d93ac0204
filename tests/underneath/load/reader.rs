// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walks the merged store, and has every answer checked.

use super::judge::{Answer, Question};
use super::world::{INSIDE, World};
use super::writer::Dice;
use crate::common::check::{Must, kind};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// Asks one question about one name, or for the listing of the top.
pub(crate) fn ask(world: &World, dice: &mut Dice) {
    if dice.below(40) == 0 {
        let t0 = Instant::now();
        let listed = open(&world.merged, OFlags::DIRECTORY).and_then(|dir| names(&dir, dice));
        return world.check_top((t0, Instant::now()), &listed.must());
    }
    let name = &world.names[dice.below(world.names.len())];
    let inside = [None, None, Some(INSIDE[dice.below(INSIDE.len())])][dice.below(3)];
    let mut path = world.merged.join(&name.name);
    path.extend(inside);
    let questions = [
        Question::Stat,
        Question::Read,
        Question::Target,
        Question::Names,
    ];
    let question = questions[dice.below(questions.len())];
    let t0 = Instant::now();
    let answer = match question {
        Question::Stat => stat(&path),
        Question::Read => read(&path),
        Question::Target => target(&path),
        Question::Names => listing(&path, dice),
    };
    let times = (t0, Instant::now());
    let answer = answer.unwrap_or_else(|errno| panic!("{question:?} {}: {errno}", path.display()));
    world.check(name, times, inside, question, &answer);
}

/// Takes the errors that are answers for answers.
fn or_else<T>(result: Result<T, Errno>, other: &[Errno]) -> Result<Result<T, Answer>, Errno> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Errno::NOENT) => Ok(Err(Answer::Absent)),
        Err(Errno::NOTDIR) => Ok(Err(Answer::NotDir)),
        Err(errno) if other.contains(&errno) => Ok(Err(Answer::OtherKind)),
        Err(errno) => Err(errno),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).expect("an error of the system")
}

fn stat(path: &Path) -> Result<Answer, Errno> {
    let found = fs::symlink_metadata(path).map_err(|error| errno(&error));
    let answer =
        |found: fs::Metadata| Answer::Stat(kind(found.file_type()), found.len(), found.ino());
    Ok(or_else(found, &[])?.map_or_else(|answer| answer, answer))
}

fn target(path: &Path) -> Result<Answer, Errno> {
    let found = fs::read_link(path).map_err(|error| errno(&error));
    let answer =
        |found: std::path::PathBuf| Answer::Target(found.to_str().expect("ASCII").to_owned());
    Ok(or_else(found, &[Errno::INVAL])?.map_or_else(|answer| answer, answer))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
}

/// What was opened can be removed behind the mount before it is read, or a directory get or lose
/// one of its sides; then a position in it may be none any more (EINVAL).
fn gone_since(result: Result<Answer, Errno>) -> Result<Answer, Errno> {
    match result {
        Err(Errno::STALE | Errno::NOENT | Errno::INVAL) => Ok(Answer::GoneSince),
        Err(Errno::ISDIR) => Ok(Answer::OtherKind),
        other => other,
    }
}

fn read(path: &Path) -> Result<Answer, Errno> {
    let file = match or_else(open(path, OFlags::empty()), &[Errno::LOOP])? {
        Ok(file) => fs::File::from(file),
        Err(answer) => return Ok(answer),
    };
    let mut content = Vec::new();
    let got = std::io::Read::read_to_end(&mut { file }, &mut content);
    gone_since(
        got.map(|_| Answer::Content(content))
            .map_err(|error| errno(&error)),
    )
}

fn listing(path: &Path, dice: &mut Dice) -> Result<Answer, Errno> {
    match or_else(open(path, OFlags::DIRECTORY), &[Errno::LOOP])? {
        Ok(directory) => gone_since(names(&directory, dice).map(Answer::Names)),
        Err(answer) => Ok(answer),
    }
}

/// Lists in parts of a size that is different each time.
fn names(directory: &OwnedFd, dice: &mut Dice) -> Result<Vec<String>, Errno> {
    let mut buffer = vec![MaybeUninit::uninit(); 512 << dice.below(5)];
    let mut entries = RawDir::new(directory.as_fd(), &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_owned().into_string().expect("ASCII");
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}
