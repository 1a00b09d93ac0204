// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the view is mounted, and as the layout says.
//!
//! Invariant: the mount itself is asked by a process of its own only; its driver may hang.

use super::Subject;
use super::command::{self, quoted};
use super::fault::{Fault, Findings};
use crate::backend::mountinfo::{self, Backend, Entry, Layers};
use crate::backend::{mountid, status};
use crate::error::Result;
use crate::layout::Layout;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What stands at the merged directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The layout's view, alive.
    View(Backend),
    /// Something else, or a view that does not answer: it is not touched.
    Other,
    /// Nothing.
    Nothing,
}

/// Checks the mount of `subject`.
pub(super) fn check(subject: &Subject, found: &mut Findings) -> Result<Standing> {
    let layout = &subject.request.layout;
    let mounts = mountinfo::read()?;
    let (fault, standing) = match mountinfo::find(&mounts, &layout.merged) {
        None => (Some(not_mounted(subject)), Standing::Nothing),
        Some(entry) => at(subject, &mounts, entry, found),
    };
    fault.into_iter().for_each(|fault| found.fault(fault));
    if layout.lower == layout.merged && standing != Standing::Nothing {
        const UNSEEN: &[&str] = &["whiteout", "opaque", "row-without-files"];
        let why = "the view is mounted over the lower itself";
        found.not_checked(UNSEEN, &layout.lower, why);
    }
    Ok(standing)
}

/// Tells whether the view of `layout`, a lower store, is mounted.
pub(super) fn is_mounted(layout: &Layout) -> Result<bool> {
    let mounts = mountinfo::read()?;
    let entry = mountinfo::find(&mounts, &layout.merged);
    let view = entry.and_then(Entry::merged_view);
    Ok(view.is_some_and(|(_, layers)| same_layers(layout, &layers)))
}

fn not_mounted(subject: &Subject) -> Fault {
    let merged = &subject.request.layout.merged;
    Fault::new("not-mounted", merged, "no merged view is mounted there")
        .means("Nix refuses the store, or with check-mount=false takes the directory for it")
        .mend(command::mount(subject, None))
}

/// Judges the mount `entry` at the merged directory.
fn at(
    subject: &Subject,
    mounts: &[Entry],
    entry: &Entry,
    found: &mut Findings,
) -> (Option<Fault>, Standing) {
    let layout = &subject.request.layout;
    let point = &entry.mount_point;
    if let Some(cover) = cover(mounts, entry) {
        return (Some(hidden(layout, cover)), Standing::Other);
    }
    let Some((backend, layers)) = entry.merged_view() else {
        let ours = |other: &&Entry| other.mount_point == *point && other.merged_view().is_some();
        let fault = match mounts.iter().find(ours) {
            Some(_) => hidden(layout, entry),
            None => other_mount(subject, entry),
        };
        return (Some(fault), Standing::Other);
    };
    if !same_layers(layout, &layers) {
        return (Some(other_layers(subject, &layers)), Standing::Other);
    }
    if backend == Backend::Fuse
        && let Some(fault) = driver(subject, point, found)
    {
        return (Some(fault), Standing::Other);
    }
    let spelled = spelled_otherwise(subject, &layers, point)
        .or_else(|| escaped_colon(subject, backend, entry));
    let fault = spelled.or_else(|| kernel_options(subject, entry));
    (fault, Standing::View(backend))
}

/// Returns the mount that covers `entry` by standing on a directory above it.
fn cover<'a>(mounts: &'a [Entry], entry: &Entry) -> Option<&'a Entry> {
    // In the other mount the mountpoint may not even exist.
    let reached =
        entry
            .mount_point
            .ancestors()
            .find_map(|path| match mountid::listed(path) {
                Err(why) if why.kind() == ErrorKind::NotFound => None,
                other => Some(other.ok()),
            })??;
    if reached == entry.id {
        return None;
    }
    mounts.iter().find(|other| other.id == reached)
}

fn hidden(layout: &Layout, cover: &Entry) -> Fault {
    let what = format!(
        "the view is hidden under another mount ({}) on {}",
        cover.fs_type.display(),
        cover.mount_point.display()
    );
    Fault::new("hidden", &layout.merged, what)
        .means("programs see the other mount, and Nix's check does not notice")
        .mend(format!("umount {}", quoted(&cover.mount_point)))
}

fn other_mount(subject: &Subject, entry: &Entry) -> Fault {
    let what = format!(
        "what is mounted there is no merged view, but {} from {}",
        entry.fs_type.display(),
        entry.source.display()
    );
    let merged = &subject.request.layout.merged;
    let mount = command::mount(subject, None);
    Fault::new("other-mount", merged, what)
        .means("Nix refuses the store: its mount has another type, source or number of layers")
        .mend(format!("umount {} && {mount}", quoted(&entry.mount_point)))
}

fn other_layers(subject: &Subject, layers: &Layers) -> Fault {
    let what = format!(
        "the view that is mounted has lower {} and upper {}",
        layers.lower.display(),
        layers.upper.display()
    );
    Fault::new("other-layers", &subject.request.layout.merged, what)
        .means("Nix refuses the store; its database and its files would not belong together")
        .mend(again(subject, ""))
}

/// The command that mounts anew.
fn again(subject: &Subject, flag: &str) -> String {
    let merged = quoted(&subject.request.layout.merged);
    let mount = command::mount(subject, None);
    format!("overstore umount{flag} {merged} && {mount}")
}

/// Whether the mount has the layers of the layout, by name or by what the names lead to.
fn same_layers(layout: &Layout, layers: &Layers) -> bool {
    let same = |one: &Path, other: &Path| {
        one == other
            || match (one.canonicalize(), other.canonicalize()) {
                (Ok(one), Ok(other)) => one == other,
                _ => false,
            }
    };
    same(&layout.lower, &layers.lower) && same(&layout.upper, &layers.upper)
}

fn driver(subject: &Subject, point: &Path, found: &mut Findings) -> Option<Fault> {
    use status::State;
    const DRIVER: &[&str] = &["driver-dead", "driver-hung"];
    let merged = &subject.request.layout.merged;
    let state = match status::one(point) {
        Ok(Some(view)) => view.state,
        Ok(None) => {
            found.not_checked(DRIVER, merged, "it was unmounted meanwhile");
            return None;
        }
        Err(why) => {
            found.not_checked(DRIVER, merged, why);
            return None;
        }
    };
    match state {
        State::Alive => None,
        State::Unknown => {
            found.not_checked(DRIVER, merged, "its driver could not be asked by this user");
            None
        }
        State::Dead => Some(
            Fault::new("driver-dead", merged, "its driver is gone")
                .means("every access fails (ENOTCONN)")
                .mend(again(subject, "")),
        ),
        State::Hung => Some(
            Fault::new("driver-hung", merged, "its driver does not answer")
                .means("programs that use the store wait")
                .mend(again(subject, " --force")),
        ),
    }
}

/// Nix compares the paths of its URL with those of the mount letter by letter.
fn spelled_otherwise(subject: &Subject, layers: &Layers, point: &Path) -> Option<Fault> {
    let layout = &subject.request.layout;
    if !layout.check_mount {
        return None;
    }
    let pairs = [
        (layout.lower.as_path(), layers.lower.as_path()),
        (&layout.upper, &layers.upper),
        (&layout.merged, point),
    ];
    let (asked, mounted) = pairs
        .into_iter()
        .find(|(asked, mounted)| asked != mounted)?;
    let what = format!(
        "the layout says {}, the list of mounts says {}",
        asked.display(),
        mounted.display()
    );
    Some(spelled_by_fuse(subject, mounted, what))
}

/// The kernel lists a colon of the lower with a backslash, of which Nix does not know.
fn escaped_colon(subject: &Subject, backend: Backend, entry: &Entry) -> Option<Fault> {
    let layout = &subject.request.layout;
    let lower = layout.lower.as_os_str().as_bytes();
    if !layout.check_mount || backend != Backend::Kernel || !lower.contains(&b':') {
        return None;
    }
    let plain = [b"lowerdir=", lower].concat();
    let mut options = entry.super_options.as_bytes().split(|&byte| byte == b',');
    if options.any(|option| option == plain) {
        return None;
    }
    let what = format!(
        "the list of mounts spells {} with a backslash before the colon",
        layout.lower.display()
    );
    Some(spelled_by_fuse(subject, &layout.lower, what))
}

fn spelled_by_fuse(subject: &Subject, path: &Path, what: String) -> Fault {
    let merged = quoted(&subject.request.layout.merged);
    let mut mount = command::mount(subject, None);
    // The kernel lists real paths only, and escapes some.
    mount.insert_str("overstore mount".len(), " --backend fuse");
    Fault::new("check-mount", path, what)
        .means("Nix's check-mount compares the words, and refuses the store")
        .mend(format!("overstore umount {merged} && {mount}"))
}

/// Options of the kernel by which its view differs from that of the driver.
fn kernel_options(subject: &Subject, entry: &Entry) -> Option<Fault> {
    const DIFFERENT: [&[u8]; 3] = [b"redirect_dir=on", b"metacopy=on", b"index=on"];
    let options = entry.super_options.as_bytes();
    let option = options
        .split(|&byte| byte == b',')
        .find(|option| DIFFERENT.contains(option))?;
    let what = format!("the kernel mounted it with {}", option.escape_ascii());
    let merged = quoted(&subject.request.layout.merged);
    let mount = command::mount(subject, Some(Backend::Kernel));
    Some(
        Fault::new("kernel-options", &subject.request.layout.merged, what)
            .means("the upper may get marks that the FUSE driver refuses")
            .mend(format!("overstore umount {merged} && {mount}")),
    )
}
