// SPDX-License-Identifier: MIT OR Apache-2.0
//! A place for the view where the host has none: the nearest directory that exists is replaced,
//! in this namespace, by a copy that has one.
//!
//! Invariant: the copy shows everything that was there (each entry is the host's own, bound), and
//! is read-only itself, so that no new file is lost in it.

use super::super::{best_effort, places};
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, readlinkat, statat, symlink};
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where the host's root stands while its entries are bound, below the new one.
const OLD_ROOT: &str = "/.overstore-old-root";

/// What was put over the host's directories.
#[derive(Debug)]
pub(super) struct Cover {
    top: Option<PathBuf>,
}

impl Cover {
    /// Makes the copy read-only, once everything is mounted that needs a place in it.
    pub(super) fn close(self) {
        if let Some(top) = self.top {
            let flags =
                MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            best_effort("make the copy read-only", mount_remount(&top, flags, c""));
        }
    }
}

/// Makes `store` an existing directory in this namespace. Leaves the current directory anywhere.
pub(super) fn provide(store: &Path) -> Result<Cover> {
    let (exists, missing) = split(store)?;
    if missing.as_os_str().is_empty() {
        return Ok(Cover { top: None });
    }
    let skip = missing.iter().next().unwrap_or_default();
    if exists == Path::new("/") {
        replace_root(skip)?;
    } else {
        cover(&exists, skip)?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(store)
        .map_err(|why| Error::on("create", store, why))?;
    Ok(Cover { top: Some(exists) })
}

/// Parts `store` into its deepest ancestor that is a directory, and the rest.
fn split(store: &Path) -> Result<(PathBuf, PathBuf)> {
    for ancestor in store.ancestors() {
        match fs::metadata(ancestor) {
            Ok(found) if found.is_dir() => {
                let rest = store.strip_prefix(ancestor).unwrap_or(Path::new(""));
                return Ok((ancestor.to_path_buf(), rest.to_path_buf()));
            }
            Ok(_) => {
                return Err(Error::on(
                    "use store directory",
                    ancestor,
                    "not a directory",
                ));
            }
            Err(_) => {}
        }
    }
    Err(Error::usage(
        format!("store directory {}", store.display()),
        "not an absolute path",
    ))
}

/// Puts a copy of `directory` over it.
fn cover(directory: &Path, skip: &OsStr) -> Result<()> {
    let failed = |why| Error::on("replace", directory, why);
    let old = open_directory(directory)?;
    let mode = fstat(&old).map_err(failed)?.st_mode & 0o7777;
    mount_tmpfs(directory, mode)?;
    fill(&old, directory, skip)
}

/// Puts a copy of the root directory in its place.
fn replace_root(skip: &OsStr) -> Result<()> {
    let failed = |why| Error::on("replace", "/", why);
    // The new root is put together there.
    let scratch = places::apart(&[])
        .ok_or_else(|| Error::on("replace", "/", "it has none of the usual directories"))?;
    let old = open_directory(Path::new("/"))?;
    mount_tmpfs(scratch, 0o755)?;
    let below = scratch.join(OLD_ROOT.trim_start_matches('/'));
    fs::create_dir(&below).map_err(|why| Error::on("create", &below, why))?;
    pivot_root(scratch, &below).map_err(|why| {
        failed(why).hint("inside chroot(8) this is impossible: create the store directory there")
    })?;
    fill(&old, Path::new("/"), skip)?;
    chdir("/").map_err(failed)?;
    unmount(OLD_ROOT, UnmountFlags::DETACH).map_err(failed)?;
    fs::remove_dir(OLD_ROOT).map_err(|why| Error::on("remove", OLD_ROOT, why))
}

pub(in crate::backend) fn mount_tmpfs(target: &Path, mode: u32) -> Result<()> {
    let data = std::ffi::CString::new(format!("mode={mode:o}")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(c"overstore", target, c"tmpfs", flags, data.as_c_str())
        .map_err(|why| Error::on("mount tmpfs on", target, why))
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|why| Error::on("read", path, why).hint("create the store directory"))
}

/// Binds every entry of `old` but `skip` into `target`.
fn fill(old: &OwnedFd, target: &Path, skip: &OsStr) -> Result<()> {
    let failed = |why| Error::on("copy the entries of", target, why);
    // A path relative to the old directory leads there although it is covered.
    fchdir(old).map_err(failed)?;
    for entry in Dir::read_from(old).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || name == skip || target.join(name) == Path::new(OLD_ROOT) {
            continue;
        }
        // One entry that is out of order (a dead mount) is no reason to do without the others.
        best_effort(
            &format!("show {}", target.join(name).display()),
            show(old, name, target),
        );
    }
    Ok(())
}

/// Makes one entry of the current directory appear in `target`.
fn show(old: &OwnedFd, name: &OsStr, target: &Path) -> std::io::Result<()> {
    let copy = target.join(name);
    let found = statat(old, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Symlink => {
            symlink(readlinkat(old, name, Vec::new())?, &copy)?;
            return Ok(());
        }
        FileType::Directory => fs::create_dir(&copy)?,
        _ => drop(fs::File::create_new(&copy)?),
    }
    let mut source = OsString::from("./");
    source.push(name);
    mount_bind_recursive(&source, &copy)?;
    Ok(())
}
