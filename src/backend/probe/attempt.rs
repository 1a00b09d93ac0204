// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trying itself, in a process that does nothing else.
//!
//! Invariant: whatever is mounted here is mounted in a namespace of this process's own and goes with
//! it, but for the one mount of `fusermount3`, which cannot work there.

use super::super::places;
use super::super::run::namespace;
use super::super::{MountSpec, direct, fusermount};
use super::trial::Trial;
use super::{Space, refusal};
use crate::error::{Error, Result};
use crate::fuse::Offer;
use crate::layer::{Lower, Upper, Watch};
use crate::layout::{MountOptions, fuse_type};
use overstore_mount::{Attributes, Markers, NO_OVERLAYFS};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    unmount,
};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// How the trial of FUSE tells of passthrough.
pub(super) const PASSTHROUGH: &str = "passthrough";

/// Tries what `word` (of a [`Trial`]) says with `paths`; returns what was seen.
pub fn attempt(word: &str, paths: &[PathBuf]) -> Result<String> {
    let first = paths.first().map_or(Path::new("/"), PathBuf::as_path);
    let second = paths.get(1).map_or(Path::new("/"), PathBuf::as_path);
    let trials = [
        Trial::Namespace,
        Trial::Privilege,
        Trial::Fuse(Space::Own),
        Trial::Fuse(Space::Run),
        Trial::Fusermount(first),
        Trial::Overlay(Space::Own),
        Trial::Overlay(Space::Run),
        Trial::Lower(Space::Own, first),
        Trial::Lower(Space::Run, first),
        Trial::Upper(Space::Own, first),
        Trial::Upper(Space::Run, first),
        Trial::Watch(first, second),
        Trial::Look(first),
    ];
    let trial = trials.into_iter().find(|trial| trial.word() == word);
    match trial.ok_or_else(|| Error::usage(format!("try {word}"), "there is no such trial"))? {
        Trial::Namespace => {
            let user = || fs::read_link("/proc/self/ns/user").ok();
            let before = user();
            namespace::enter()?;
            Ok(match before == user() {
                true => "a mount namespace can be made, which is all that this user needs",
                false => "a user and a mount namespace can be made",
            }
            .to_owned())
        }
        Trial::Privilege => {
            enter(Space::Own)?;
            Ok("this process may mount".to_owned())
        }
        Trial::Fuse(space) => enter(space).and_then(|()| fuse()),
        Trial::Fusermount(directory) => by_fusermount(directory),
        Trial::Overlay(space) => enter(space).and_then(|()| lowers(None)),
        Trial::Lower(space, lower) => enter(space).and_then(|()| lowers(Some(lower))),
        Trial::Upper(space, scratch) => enter(space).and_then(|()| upper(scratch)),
        Trial::Watch(upper, lower) => watch(upper, lower),
        Trial::Look(directory) => look(directory),
    }
}

/// Moves this process into namespaces that end with it.
fn enter(space: Space) -> Result<()> {
    if space == Space::Run {
        return namespace::enter();
    }
    let failed = |why: io::Error| {
        let error = Error::environment("make a mount namespace", &why);
        refusal::answered(error, &why)
    };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|why| {
        failed(why.into()).hint("only root, and root of a user namespace, may mount")
    })?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|why| failed(why.into()).hint("/ is no mount: in chroot(8)"))
}

fn fuse() -> Result<String> {
    let device = direct::open_device()?;
    let spec = MountSpec {
        fs_type: fuse_type(Path::new("/l"), Path::new("/u"))?,
        merged: place(&[])?.to_owned(),
        options: MountOptions::default(),
    };
    direct::mount(&device, &spec).map_err(|why| direct::mount_error(&spec, why))?;
    let offer = Offer::read(&device)
        .map_err(|why| Error::environment("read the kernel's first FUSE request", why))?;
    if !offer.no_open() {
        return Err(refusal::no(
            "use FUSE",
            format!("{offer} cannot keep opens in the kernel"),
        )
        .hint("Linux 5.1 can"));
    }
    let mut seen = offer.to_string();
    for (has, word) in [
        (offer.expires(), "single names can be expired"),
        (offer.passthrough(), PASSTHROUGH),
    ] {
        if has {
            seen = format!("{seen}, {word}");
        }
    }
    Ok(seen)
}

fn by_fusermount(directory: &Path) -> Result<String> {
    let spec = MountSpec {
        fs_type: fuse_type(Path::new("/l"), Path::new("/u"))?,
        merged: directory.to_owned(),
        options: MountOptions::default(),
    };
    let device = fusermount::mount(&spec).map_err(refusal::of_program)?;
    let unmounted = fusermount::unmount(directory, true);
    drop(device);
    unmounted?;
    Ok("it mounts and unmounts".to_owned())
}

/// Mounts an overlay that has lowers only: it needs no upper, and changes nothing.
fn lowers(lower: Option<&Path>) -> Result<String> {
    let place = tmpfs(lower.as_slice())?;
    if let Some(lower) = lower {
        mount_bind_recursive(lower, place.join("l"))
            .map_err(|why| Error::on("bind", lower, why))?;
    }
    // In a directory of our own, so that no path needs an escape.
    let at = |name: &str| place.join(name).display().to_string();
    let options = format!("lowerdir={}:{}", at("l"), at("u"));
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let what = lower.unwrap_or(Path::new("two empty directories"));
    mount(
        c"overlay",
        place.join("m"),
        c"overlay",
        flags,
        options.as_c_str(),
    )
    .map_err(|why| {
        let error = Error::on("mount OverlayFS of", what, why).caused_by(why.raw_os_error());
        match why {
            rustix::io::Errno::NODEV => error.hint(NO_OVERLAYFS),
            rustix::io::Errno::INVAL | rustix::io::Errno::LOOP if lower.is_some() => {
                error.hint("it cannot take this filesystem as lower; FUSE can")
            }
            _ => error,
        }
    })?;
    fs::read_dir(place.join("m"))
        .and_then(|mut names| names.next().transpose())
        .map_err(|why| refusal::answered(Error::on("read OverlayFS of", what, &why), &why))?;
    Ok("OverlayFS can be mounted".to_owned())
}

/// Mounts an overlay by the same library as a real view, and has it make what views need.
fn upper(scratch: &Path) -> Result<String> {
    let place = tmpfs(&[scratch])?;
    // Held, as whoever owns what is above may put something else in its place.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::open(scratch, flags, Mode::empty())
        .map_err(|why| Error::on("open", scratch, why))?;
    let inside = place.join("u");
    mount_bind_recursive(format!("/proc/self/fd/{}", held.as_raw_fd()), &inside)
        .map_err(|why| Error::on("bind", scratch, why))?;
    let refused = |why: overstore_mount::Fault| refusal::of_library(&why, &inside, scratch);
    let low = place.join("l");
    let failed = |path: &Path, why| Error::on("prepare", path, why);
    fs::create_dir(low.join("d")).map_err(|why| failed(&low, why))?;
    fs::write(low.join("d/f"), "").map_err(|why| failed(&low, why))?;
    fs::write(low.join("f"), "").map_err(|why| failed(&low, why))?;
    let merged = place.join("m");
    let request = overstore_mount::Request {
        lower: low,
        upper: inside.join("u"),
        work: inside.join("w"),
        merged: merged.clone(),
        markers: Markers::here(),
        attributes: Attributes::default(),
    };
    let checked = request.check().map_err(refused)?;
    let way = checked.mount().map_err(refused)?;
    drop(checked);
    let tried = exercise(&merged);
    let unmounted = unmount(&merged, UnmountFlags::DETACH);
    tried.map_err(|why| {
        let error = Error::on("change OverlayFS with an upper below", scratch, &why);
        refusal::answered(error, &why)
    })?;
    unmounted.map_err(|why| Error::on("unmount", &merged, why))?;
    Ok(format!("OverlayFS can write there ({way:?})"))
}

/// A whiteout, an opaque directory, and a directory that is moved.
fn exercise(merged: &Path) -> io::Result<()> {
    fs::remove_file(merged.join("f"))?;
    fs::remove_dir_all(merged.join("d"))?;
    fs::create_dir(merged.join("d"))?;
    fs::create_dir(merged.join("new"))?;
    fs::rename(merged.join("new"), merged.join("moved"))
}

/// Mounts a tmpfs with the directories `l`, `u` and `m` in it, away from `paths`.
fn tmpfs(paths: &[&Path]) -> Result<PathBuf> {
    let place = place(paths)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(c"overstore", place, c"tmpfs", flags, c"mode=755")
        .map_err(|why| Error::on("mount tmpfs on", place, why))?;
    for name in ["l", "u", "m"] {
        let path = place.join(name);
        fs::create_dir(&path).map_err(|why| Error::on("create", &path, why))?;
    }
    Ok(place.to_owned())
}

/// Returns a directory to mount on, in a namespace that nobody else sees, apart from `paths`.
fn place(paths: &[&Path]) -> Result<&'static Path> {
    let none = || Error::environment("find a place to mount", "none of the usual directories");
    places::apart(paths).ok_or_else(none)
}

/// Watches both layers by the watch that the driver uses.
fn watch(upper: &Path, lower: &Path) -> Result<String> {
    let (upper, devices) = Upper::open(upper)?;
    let lower = Lower::open(lower, devices)?;
    for (tree, name) in [(&*upper, "upper"), (&*lower, "lower")] {
        if !tree.filesystem().is_local() {
            let why = "its filesystem is changed by others unseen";
            return Err(refusal::no(&format!("watch the {name}"), why));
        }
    }
    Watch::start(&upper, &lower).map_err(|why| {
        let error = Error::environment("watch the layers", why).caused_by(why.raw_os_error());
        match why {
            rustix::io::Errno::MFILE => {
                error.hint("as root raise sysctl fs.inotify.max_user_instances")
            }
            rustix::io::Errno::NOSPC => {
                error.hint("as root raise sysctl fs.inotify.max_user_watches")
            }
            _ => error,
        }
    })?;
    Ok("both layers can be watched".to_owned())
}

/// Reads a directory's attributes and its first name.
fn look(directory: &Path) -> Result<String> {
    let failed = |why: io::Error| {
        let error = refusal::answered(Error::on("read", directory, &why), &why);
        match refusal::is_missing(&error) {
            true => refusal::no(&format!("read {}", directory.display()), why),
            false => error,
        }
    };
    // Attributes and names may come from the kernel's memory while the filesystem hangs.
    rustix::fs::statvfs(directory).map_err(|why| failed(why.into()))?;
    fs::metadata(directory).map_err(failed)?;
    let mut names = fs::read_dir(directory).map_err(failed)?;
    names.next().transpose().map_err(failed)?;
    Ok("it answers".to_owned())
}
