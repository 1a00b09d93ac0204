// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounts the merged view with kernel OverlayFS: validates one request, makes one mount.
//!
//! Invariant: paths are absolute and reach the kernel as the bytes they are; the mount shows the
//! options that keep it equal to the FUSE driver (no index, no redirects, no metadata copies).

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};
use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest value that the new mount API takes for one option.
const VALUE_BYTES: usize = 255;

/// One overlay to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The lower directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
    /// The work directory, on the upper's filesystem.
    pub work: PathBuf,
    /// The mountpoint.
    pub merged: PathBuf,
    /// Where the kernel keeps its markers.
    pub markers: Markers,
    /// Whether the mount refuses every change.
    pub read_only: bool,
    /// Whether set-user-id bits and device files have no effect.
    pub nosuid_nodev: bool,
}

/// Which extended attributes hold the kernel's markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markers {
    /// `trusted.overlay.*`, for real root.
    Trusted,
    /// `user.overlay.*`, all that a user namespace may write.
    User,
}

/// Why an overlay was not mounted, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountError {
    /// What the kernel answered.
    pub errno: Errno,
    /// What it said about it, if it said anything.
    pub message: Option<String>,
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", self.errno),
            None => write!(f, "{}", self.errno),
        }
    }
}

impl std::error::Error for MountError {}

impl From<Errno> for MountError {
    fn from(errno: Errno) -> Self {
        MountError {
            errno,
            message: None,
        }
    }
}

/// Mounts `overlay`.
///
/// Uses the new mount API, which takes paths as they are, and mount(2) where the kernel or the
/// length of a path does not allow that.
pub fn overlay(overlay: &Overlay) -> Result<(), MountError> {
    for path in [
        &overlay.lower,
        &overlay.upper,
        &overlay.work,
        &overlay.merged,
    ] {
        if !path.is_absolute() {
            return Err(MountError {
                errno: Errno::INVAL,
                message: Some(format!("{} is not an absolute path", path.display())),
            });
        }
    }
    let long = |path: &PathBuf| path.as_os_str().len() > VALUE_BYTES;
    if [&overlay.lower, &overlay.upper, &overlay.work]
        .into_iter()
        .any(long)
    {
        return Ok(classic(overlay)?);
    }
    match configure(overlay) {
        Ok(detached) => Ok(move_mount(
            detached,
            "",
            CWD,
            &overlay.merged,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?),
        Err(error) if matches!(error.errno, Errno::NOSYS | Errno::INVAL) => {
            // Kernels before 6.7 take no `lowerdir+`; if it was something else, its message is
            // better than what mount(2) would say.
            classic(overlay).map_err(|_| error)
        }
        Err(error) => Err(error),
    }
}

fn configure(overlay: &Overlay) -> Result<OwnedFd, MountError> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let told = |errno| MountError {
        errno,
        message: kernel_message(&context),
    };
    let fs = context.as_fd();
    fsconfig_set_string(fs, "source", "overlay").map_err(told)?;
    fsconfig_set_string(fs, "lowerdir+", &overlay.lower).map_err(told)?;
    fsconfig_set_string(fs, "upperdir", &overlay.upper).map_err(told)?;
    fsconfig_set_string(fs, "workdir", &overlay.work).map_err(told)?;
    for (name, value) in settings(overlay.markers) {
        match value {
            Some(value) => fsconfig_set_string(fs, *name, *value),
            None => fsconfig_set_flag(fs, *name),
        }
        .map_err(told)?;
    }
    fsconfig_create(fs).map_err(told)?;
    let mut attributes = MountAttrFlags::empty();
    if overlay.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    if overlay.nosuid_nodev {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    Ok(fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The options besides the directories. `userxattr` implies the missing ones, and refuses them.
fn settings(markers: Markers) -> &'static [(&'static str, Option<&'static str>)] {
    match markers {
        Markers::Trusted => &[
            ("index", Some("off")),
            ("redirect_dir", Some("off")),
            ("metacopy", Some("off")),
            ("xino", Some("auto")),
        ],
        Markers::User => &[
            ("index", Some("off")),
            ("xino", Some("auto")),
            ("userxattr", None),
        ],
    }
}

/// Reads the first line the kernel has written about this mount (`e message`).
fn kernel_message(context: &OwnedFd) -> Option<String> {
    let mut text = [0_u8; 512];
    let length = rustix::io::read(context, &mut text).ok()?;
    let line = text.get(..length)?.trim_ascii();
    let line = line.strip_prefix(b"e ").unwrap_or(line);
    Some(line.escape_ascii().to_string())
}

fn classic(overlay: &Overlay) -> Result<(), Errno> {
    let mut flags = MountFlags::empty();
    if overlay.read_only {
        flags |= MountFlags::RDONLY;
    }
    if overlay.nosuid_nodev {
        flags |= MountFlags::NOSUID | MountFlags::NODEV;
    }
    let data = CString::new(option_string(overlay)).map_err(|_| Errno::INVAL)?;
    mount(
        "overlay",
        &overlay.merged,
        "overlay",
        flags,
        data.as_c_str(),
    )
}

/// Writes the option string of mount(2), where `:` parts lowers, `,` options and `\` escapes.
fn option_string(overlay: &Overlay) -> Vec<u8> {
    let mut text = b"lowerdir=".to_vec();
    escape(&overlay.lower, b":,\\", &mut text);
    text.extend_from_slice(b",upperdir=");
    escape(&overlay.upper, b",\\", &mut text);
    text.extend_from_slice(b",workdir=");
    escape(&overlay.work, b",\\", &mut text);
    for (name, value) in settings(overlay.markers) {
        text.push(b',');
        text.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            text.push(b'=');
            text.extend_from_slice(value.as_bytes());
        }
    }
    text
}

fn escape(path: &Path, special: &[u8], text: &mut Vec<u8>) {
    let path: &OsStr = path.as_os_str();
    for &byte in path.as_bytes() {
        if special.contains(&byte) {
            text.push(b'\\');
        }
        text.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Overlay {
        Overlay {
            lower: r"/a:b,c\d".into(),
            upper: "/u:v".into(),
            work: "/w".into(),
            merged: "/m".into(),
            markers: Markers::User,
            read_only: false,
            nosuid_nodev: false,
        }
    }

    #[test]
    fn option_string_escapes_what_the_kernel_unescapes() {
        assert_eq!(
            option_string(&sample()),
            br"lowerdir=/a\:b\,c\\d,upperdir=/u:v,workdir=/w,index=off,xino=auto,userxattr"
        );
    }

    #[test]
    fn relative_paths_are_refused() {
        let mut relative = sample();
        relative.work = "w".into();
        let error = overlay(&relative).expect_err("refused");
        assert!(
            error.to_string().contains("w is not an absolute path"),
            "{error}"
        );
    }
}
