// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounting and unmounting for a plain user, through the setuid program `fusermount3`.
//!
//! Invariant: its options mean the same bytes as [`super::direct`] gives the kernel; what it
//! complains about reaches the user as one line.

use super::MountSpec;
use crate::error::{Error, Result};
use crate::layout::fusermount_value;
use rustix::fs::{Access, access};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use rustix::process::geteuid;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The names it goes by, newest first.
const PROGRAMS: [&str; 2] = ["fusermount3", "fusermount"];

/// Where the system's administrator says what plain users may do.
const CONFIGURATION: &str = "/etc/fuse.conf";

/// Mounts as `spec` says and returns the descriptor to serve.
pub fn mount(spec: &MountSpec) -> Result<OwnedFd> {
    let what = || format!("mount on {}", spec.merged.display());
    let allow_other = may_allow_other(spec)?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|why| Error::environment(what(), why))?;
    let output = call(|command| {
        // The socket travels as standard input, which every child inherits.
        let theirs = theirs.try_clone()?;
        command
            .env("_FUSE_COMMFD", "0")
            .arg("-o")
            .arg(options(spec, allow_other))
            .arg("--")
            .arg(&spec.merged)
            .stdin(Stdio::from(theirs))
            .output()
    })?;
    drop(theirs);
    if !output.status.success() {
        return Err(explain(what(), &output));
    }
    receive(&ours)
        .map_err(|why| Error::environment(what(), format!("no descriptor from fusermount3: {why}")))
}

/// Unmounts what this user has mounted at `merged`.
pub fn unmount(merged: &Path, lazy: bool) -> Result<()> {
    let output = call(|command| {
        command.arg("-u");
        if lazy {
            command.arg("-z");
        }
        command.arg("--").arg(merged).stdin(Stdio::null()).output()
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(explain(format!("unmount {}", merged.display()), &output))
}

/// Finds the program and what it needs, without running it.
pub fn installed() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = PROGRAMS.iter().find_map(|program| {
        std::env::split_paths(&path)
            .map(|directory| directory.join(program))
            .find(|file| access(file, Access::EXEC_OK).is_ok())
    });
    let program = found.ok_or_else(missing)?;
    let what = || format!("use {}", program.display());
    let file = std::fs::metadata(&program).map_err(|why| {
        let errno = why.raw_os_error().unwrap_or_default();
        Error::environment(what(), why).caused_by(errno)
    })?;
    let powerful = file.uid() == 0 && file.mode() & libc::S_ISUID != 0;
    if !powerful && !geteuid().is_root() {
        return Err(Error::environment(what(), "it is not set-user-id root")
            .hint(format!("as root run `chmod u+s {}`", program.display())));
    }
    if !geteuid().is_root() && rustix::thread::no_new_privs() == Ok(true) {
        return Err(
            Error::environment(what(), "this process may gain no privilege")
                .hint("a sandbox forbids it (no_new_privs): use `overstore run`"),
        );
    }
    Ok(program)
}

/// Runs the first of the programs that is installed.
fn call(mut run: impl FnMut(&mut Command) -> io::Result<Output>) -> Result<Output> {
    for program in PROGRAMS {
        // Its messages are read by us: in the language they were written in.
        match run(Command::new(program).env("LC_ALL", "C")) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(Error::environment(format!("run {program}"), why)),
            Ok(output) => return Ok(output),
        }
    }
    Err(missing())
}

fn missing() -> Error {
    Error::environment("run fusermount3", "not installed").hint(
        "install it (Debian: `apt install fuse3`), be root, or use `overstore run`, which \
             needs neither",
    )
}

/// Decides `allow_other`: asked for, it must be permitted; not asked for, it is taken if it is.
fn may_allow_other(spec: &MountSpec) -> Result<bool> {
    let wanted = spec.options.allow_other;
    if wanted == Some(false) || rustix::process::getuid().is_root() {
        return Ok(wanted != Some(false));
    }
    let permitted = std::fs::read(CONFIGURATION).is_ok_and(|text| permits_allow_other(&text));
    if wanted == Some(true) && !permitted {
        return Err(Error::environment(
            "mount with allow_other",
            format!("{CONFIGURATION} does not permit it to plain users"),
        )
        .hint("add the line `user_allow_other` there, or leave the option out"));
    }
    Ok(permitted)
}

fn permits_allow_other(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n')
        .any(|line| line.trim_ascii() == b"user_allow_other")
}

/// Writes the option string; fusermount splits it at commas and drops one level of backslashes.
fn options(spec: &MountSpec, allow_other: bool) -> OsString {
    // Fusermount adds the `fuse.` itself.
    let kind = spec.fs_type.as_bytes();
    let subtype = OsStr::from_bytes(kind.strip_prefix(b"fuse.").unwrap_or(kind));
    let mut text = OsString::from("fsname=overlay,subtype=");
    text.push(fusermount_value(subtype));
    text.push(",default_permissions");
    if allow_other {
        text.push(",allow_other");
    }
    // It forces the first two upon plain users, and does not know the third.
    let left_out = ["nosuid", "nodev", "strictatime"];
    let words = spec.options.attributes.words();
    for word in words.filter(|word| !left_out.contains(word)) {
        text.push(",");
        text.push(word);
    }
    text
}

/// Receives the one descriptor that fusermount sends.
fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// Makes one line of what fusermount wrote, with the way out where one is known.
fn explain(what: String, output: &Output) -> Error {
    let text = output.stderr.trim_ascii();
    let line = text
        .split(|&byte| byte == b'\n')
        .next_back()
        .unwrap_or(text);
    let line = OsStr::from_bytes(line).display().to_string();
    let why = match line.split_once(": ") {
        Some((program, rest)) if program.starts_with("fusermount") => rest.to_owned(),
        _ if line.is_empty() => format!("fusermount3 ended with {}", output.status),
        _ => line,
    };
    let error = Error::environment(what, format!("fusermount3: {why}"));
    match hint(&why) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn hint(why: &str) -> Option<&'static str> {
    const TABLE: [(&str, &str); 8] = [
        (
            "not found in /etc/mtab",
            "somebody else has mounted it: do it as that user, or as root",
        ),
        (
            "/dev/fuse: Permission denied",
            "the device must be open to all users (mode 0666, the udev default)",
        ),
        (
            "/dev/fuse",
            "as root run `modprobe fuse`; a container needs `--device /dev/fuse`",
        ),
        (
            "could not determine username",
            "this uid has no entry in /etc/passwd: use `overstore run`, or add one",
        ),
        (
            "user has no write access to mountpoint",
            "make the mountpoint yours, or mount as root",
        ),
        (
            "busy",
            "close what uses it, or detach it with `overstore umount --lazy`",
        ),
        (
            "Operation not permitted",
            "fusermount3 must be setuid root and outside a sandbox: use `overstore run`",
        ),
        (
            "too many FUSE filesystems",
            "raise mount_max in /etc/fuse.conf",
        ),
    ];
    TABLE
        .iter()
        .find(|(part, _)| why.contains(part))
        .map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MountOptions, fuse_type};

    #[test]
    fn options_escape_what_fusermount_unescapes() {
        let mut options_given = MountOptions::default();
        for word in [&b"ro"[..], b"noexec", b"suid", b"strictatime"] {
            assert!(options_given.attributes.apply(word));
        }
        let spec = MountSpec {
            fs_type: fuse_type(Path::new(r"/a\b"), Path::new("/u")).expect("short paths"),
            merged: "/m".into(),
            options: options_given,
        };
        assert_eq!(
            options(&spec, true),
            r"fsname=overlay,subtype=overstore\,lowerdir=/a\\\\b\,upperdir=/u,default_permissions,allow_other,ro,noexec"
        );
    }

    #[test]
    fn configuration_must_say_it_on_a_line_of_its_own() {
        assert!(permits_allow_other(b"# x\nuser_allow_other  \n"));
        assert!(!permits_allow_other(b"#user_allow_other\nmount_max = 3\n"));
    }
}
