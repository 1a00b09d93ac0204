// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unix sockets in a state directory, whose path may be longer than a socket address.
//!
//! Invariant: every socket made here is closed on exec and never blocks.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Connects to the socket at `path`. `AGAIN` says that the server has too many callers.
pub(super) fn call(path: &Path) -> Result<UnixStream, Errno> {
    let socket = new()?;
    let (address, _directory) = address(path)?;
    connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

/// Listens at `path` for callers of every user; a socket file that is there is replaced.
pub(super) fn serve(path: &Path, backlog: i32) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        Ok(()) | Err(_) => {}
    }
    let socket = new()?;
    let (address, _directory) = address(path)?;
    bind(&socket, &address)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    listen(&socket, backlog)?;
    Ok(UnixListener::from(socket))
}

fn new() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Returns the address of `path`; one that is too long leads through the descriptor of its
/// directory, which is to be kept meanwhile.
fn address(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>), Errno> {
    match SocketAddrUnix::new(path) {
        Err(Errno::NAMETOOLONG) => {}
        address => return Ok((address?, None)),
    }
    let parent = path.parent().ok_or(Errno::NAMETOOLONG)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let name = path.file_name().ok_or(Errno::NAMETOOLONG)?;
    Ok((SocketAddrUnix::new(short.join(name))?, Some(directory)))
}
