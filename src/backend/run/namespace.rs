// SPDX-License-Identifier: MIT OR Apache-2.0
//! The private namespaces of one run.
//!
//! Invariant: nothing mounted here reaches the host; user and group ids stay what they are.

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use std::fs;
use std::io;

/// Moves this process into namespaces of its own.
pub(in crate::backend) fn enter() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => {}
        Err(Errno::EPERM) => enter_user_namespace()?,
        Err(why) => {
            let error = Error::environment("make a mount namespace", why);
            return Err(error.caused_by(why as i32));
        }
    }
    // Mounts of the host still arrive; ours do not go there.
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .map_err(|why| {
        let error = Error::environment("make the mount namespace private", why);
        let error = error.caused_by(why.raw_os_error());
        match why {
            rustix::io::Errno::INVAL => {
                error.hint("inside chroot(8) this is impossible: use `overstore mount`")
            }
            _ => refused(error),
        }
    })
}

fn enter_user_namespace() -> Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|why| {
        refused(Error::environment("make a user namespace", why).caused_by(why as i32))
    })?;
    // Without this the kernel lets no plain user write the map of groups.
    match fs::write("/proc/self/setgroups", "deny") {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            return Err(map_error("setgroups", why));
        }
        _ => {}
    }
    for (file, id) in [("uid_map", uid), ("gid_map", gid)] {
        fs::write(format!("/proc/self/{file}"), format!("{id} {id} 1"))
            .map_err(|why| map_error(file, why))?;
    }
    Ok(())
}

fn map_error(file: &str, why: io::Error) -> Error {
    let errno = why.raw_os_error().unwrap_or_default();
    refused(Error::on("write", format!("/proc/self/{file}"), why).caused_by(errno))
}

/// Adds what usually forbids user namespaces.
fn refused(error: Error) -> Error {
    const SWITCHES: [(&str, &str, &str); 3] = [
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "user.max_user_namespaces=10000",
        ),
    ];
    for (file, forbids, permit) in SWITCHES {
        if fs::read_to_string(file).is_ok_and(|value| value.trim() == forbids) {
            // However the kernel words it: it is not permitted.
            let error = error.caused_by(Errno::EPERM as i32);
            return error.hint(format!("as root run `sysctl {permit}`"));
        }
    }
    error.hint(
        "a sandbox forbids it (containers: --security-opt seccomp=unconfined, or --privileged); \
         run as root, or use `overstore mount`",
    )
}
