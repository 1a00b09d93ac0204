// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walks both trees in step, in the order of names.
//!
//! Invariant: memory and descriptors are bounded by the depth and the listings on the way; however
//! deep a tree is, no more than [`OPEN`] of its directories are open on each side.

use super::side::{At, Both, DIRECTORY, Got, Listed, Sides, list};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::vec::IntoIter;

/// Directories that one walk keeps open on each side.
const OPEN: usize = 64;

/// One name of a directory, with what each listing says of it.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    pub(super) listed: Both<Option<Listed>>,
}

/// One name in a directory that both sides have.
#[derive(Debug)]
pub(super) struct Meeting<'a> {
    /// From the top; empty for the top directory.
    pub(super) path: &'a [u8],
    /// Below the top: 0 for names in the top directory.
    pub(super) depth: usize,
    pub(super) at: Both<At<'a>>,
    /// `None` where the listing was not asked (the names at the top, the top itself).
    pub(super) listed: Option<Both<Option<Listed>>>,
}

/// Who looks at what is met.
pub(super) trait Visit {
    /// Looks at one name; tells whether it is a directory on both sides that is to be entered.
    fn meet(&mut self, meeting: &Meeting<'_>) -> bool;
    /// Is told what became of listing a directory, if one side could not do it.
    fn unlisted(&mut self, path: &[u8], errors: Both<Option<Errno>>);
}

/// One directory on the way down.
struct Level {
    dirs: Option<Both<OwnedFd>>,
    names: IntoIter<Name>,
    /// How long the path of the directory is.
    path: usize,
}

/// Pairs two sorted listings by name.
pub(super) fn merge(both: Both<Vec<(Vec<u8>, Listed)>>) -> Vec<Name> {
    let mut names = Vec::with_capacity(both.fuse.len().max(both.kernel.len()));
    let mut kernel = both.kernel.into_iter().peekable();
    for (name, fuse) in both.fuse {
        while let Some((name, listed)) = kernel.next_if(|(other, _)| *other < name) {
            names.push(of_kernel(name, listed));
        }
        let same = kernel.next_if(|(other, _)| *other == name);
        let listed = Both {
            fuse: Some(fuse),
            kernel: same.map(|(_, listed)| listed),
        };
        names.push(Name { name, listed });
    }
    names.extend(kernel.map(|(name, listed)| of_kernel(name, listed)));
    names
}

fn of_kernel(name: Vec<u8>, listed: Listed) -> Name {
    let listed = Both {
        fuse: None,
        kernel: Some(listed),
    };
    Name { name, listed }
}

/// Walks everything below the name `top` of the top directories, itself included. What the top
/// listings say of it is in `listed`.
pub(super) fn walk(
    sides: &Sides,
    top: &[u8],
    listed: Option<Both<Option<Listed>>>,
    visitor: &mut impl Visit,
) {
    let mut path = top.to_vec();
    let at = Both {
        fuse: At::new(&sides.tops.fuse, top),
        kernel: At::new(&sides.tops.kernel, top),
    };
    let meeting = Meeting {
        path: &path,
        depth: 0,
        at,
        listed,
    };
    let mut levels = Vec::new();
    if visitor.meet(&meeting) {
        levels.extend(enter(at, &path, visitor));
    }
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else {
            return;
        };
        let Some(next) = level.names.next() else {
            levels.pop();
            continue;
        };
        path.truncate(level.path);
        if level.dirs.is_none() {
            match reopen(sides, &path) {
                Ok(dirs) => level.dirs = Some(dirs),
                Err(errors) => {
                    visitor.unlisted(&path, errors);
                    levels.pop();
                    continue;
                }
            }
        }
        if let Some(below) = step(level, &next, &mut path, depth, visitor) {
            levels.push(below);
            if let Some(above) = levels.len().checked_sub(OPEN + 1) {
                levels[above].dirs = None;
            }
        }
    }
}

/// Meets one name; returns its level if it is entered.
fn step(
    level: &Level,
    next: &Name,
    path: &mut Vec<u8>,
    depth: usize,
    visitor: &mut impl Visit,
) -> Option<Level> {
    let dirs = level.dirs.as_ref()?;
    path.push(b'/');
    path.extend(&next.name);
    let at = Both {
        fuse: At::new(&dirs.fuse, &next.name),
        kernel: At::new(&dirs.kernel, &next.name),
    };
    let meeting = Meeting {
        path,
        depth,
        at,
        listed: Some(next.listed),
    };
    if visitor.meet(&meeting) {
        enter(at, path, visitor)
    } else {
        None
    }
}

/// Opens and lists a directory on both sides.
fn enter(at: Both<At<'_>>, path: &[u8], visitor: &mut impl Visit) -> Option<Level> {
    let opened = at.map(|at| {
        let dir = at.open(DIRECTORY)?;
        let names = list(dir.as_fd())?;
        Ok((dir, names))
    });
    match opened {
        Both {
            fuse: Ok((fuse, fuse_names)),
            kernel: Ok((kernel, kernel_names)),
        } => {
            let names = merge(Both {
                fuse: fuse_names,
                kernel: kernel_names,
            });
            Some(Level {
                dirs: Some(Both { fuse, kernel }),
                names: names.into_iter(),
                path: path.len(),
            })
        }
        failed => {
            visitor.unlisted(path, failed.map(|got: Got<_>| got.err()));
            None
        }
    }
}

/// Opens a directory again that was closed because too many were open.
fn reopen(sides: &Sides, path: &[u8]) -> Result<Both<OwnedFd>, Both<Option<Errno>>> {
    let down = |top: &OwnedFd| -> Got<OwnedFd> {
        let mut dir = At::new(top, b".").open(DIRECTORY)?;
        for name in path.split(|&byte| byte == b'/') {
            dir = At::new(&dir, name).open(DIRECTORY)?;
        }
        Ok(dir)
    };
    match sides.tops.as_ref().map(down) {
        Both {
            fuse: Ok(fuse),
            kernel: Ok(kernel),
        } => Ok(Both { fuse, kernel }),
        failed => Err(failed.map(|got| got.err())),
    }
}
