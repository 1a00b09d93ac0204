// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver of one run: a process of its own that ends with the namespace it serves.
//!
//! Invariant: it holds nothing of the command's (descriptors, terminal, working directory) and no
//! copy of the view, so that the view ends with its last user; and the driver ends with the view.

use super::super::lifecycle::{merged_options, raise_file_limit};
use super::super::{Request, Way, best_effort, daemon, status};
use crate::error::{Error, Result};
use crate::fuse::{self, SessionOptions};
use crate::merged::MergedFs;
use crate::sys::process::{close_other_files, fork_detached};
use crate::sys::signals::{self, Signal};
use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The driver has its layers open and waits for the mount.
const LAYERS: u8 = b'L';
/// The device is mounted: serve.
const MOUNTED: u8 = b'M';
/// The view works.
const READY: u8 = b'R';

/// The running driver, seen from the process that will become the command.
#[derive(Debug)]
pub(in crate::backend) struct Server {
    channel: UnixStream,
}

impl Server {
    /// Starts the driver for `device` and waits until it has opened the layers. It sees the
    /// directories as they are now, whatever this process mounts later.
    pub(in crate::backend) fn start(
        device: &OwnedFd,
        request: &Request,
        left: Option<fn()>,
    ) -> Result<Server> {
        let failed = |why| Error::environment("start the driver", why);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        fork_detached(|| drive(&theirs, device, request, left)).map_err(failed)?;
        drop(theirs);
        let mut server = Server { channel: ours };
        server.expect(LAYERS)?;
        Ok(server)
    }

    /// Tells the driver that its device is mounted, and waits until the view works.
    pub(in crate::backend) fn serve(&mut self) -> Result<()> {
        self.channel
            .write_all(&[MOUNTED])
            .map_err(|why| Error::environment("talk to the driver", why))?;
        self.expect(READY)
    }

    /// Whether the driver still runs; it says nothing more once it serves.
    pub(in crate::backend) fn is_alive(&self) -> bool {
        let answer = rustix::net::recv(&self.channel, &mut [0_u8; 1], RecvFlags::DONTWAIT);
        matches!(answer, Err(Errno::AGAIN))
    }

    /// Waits until the driver has ended, `patience` at most.
    pub(in crate::backend) fn wait_for_end(&mut self, patience: Duration) {
        let bound = self.channel.set_read_timeout(Some(patience));
        let end = bound.and_then(|()| self.channel.read(&mut [0]));
        best_effort("wait for the driver's end", end.map(drop));
    }

    /// Reads one answer; anything but `wanted` is the text of the driver's error.
    fn expect(&mut self, wanted: u8) -> Result<()> {
        let mut answer = [0];
        let ended = |why| Error::environment("start the driver", why);
        match self.channel.read(&mut answer).map_err(ended)? {
            0 => Err(ended(io::Error::other("it ended before the view worked"))),
            _ if answer == [wanted] => Ok(()),
            _ => {
                let mut text = answer.to_vec();
                self.channel.read_to_end(&mut text).map_err(ended)?;
                let text = OsString::from_vec(text);
                Err(Error::environment(
                    "start the driver",
                    OsStr::display(&text),
                ))
            }
        }
    }
}

/// The whole life of the driver process.
fn drive(channel: &UnixStream, device: &OwnedFd, request: &Request, left: Option<fn()>) -> u8 {
    match settle(channel, device, left).and_then(|device| session(channel, device, request)) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("{error}");
            let mut channel = channel;
            // Error texts start with a word in lower case, which no answer does.
            let text = error.to_string();
            best_effort("report", channel.write_all(OsStr::new(&text).as_bytes()));
            error.kind().exit_code()
        }
    }
}

/// Leaves everything behind that belongs to the command.
fn settle(channel: &UnixStream, device: &OwnedFd, left: Option<fn()>) -> Result<OwnedFd> {
    let failed = |why: io::Error| Error::environment("settle the driver", why);
    let device = device.try_clone().map_err(failed)?;
    rustix::process::setsid().map_err(|why| failed(why.into()))?;
    // A copy without the view, which the other one is about to get.
    unshare(CloneFlags::CLONE_NEWNS).map_err(|why| failed(why.into()))?;
    rustix::process::chdir("/").map_err(|why| failed(why.into()))?;
    let null = daemon::null()?;
    rustix::stdio::dup2_stdin(&null).map_err(|why| failed(why.into()))?;
    rustix::stdio::dup2_stdout(&null).map_err(|why| failed(why.into()))?;
    if left.is_some() {
        rustix::stdio::dup2_stderr(&null).map_err(|why| failed(why.into()))?;
    }
    drop(null);
    close_other_files(&[channel.as_fd(), device.as_fd()]).map_err(failed)?;
    if let Some(left) = left {
        left();
    }
    // Whoever ends a whole group or service sends these to the command too, which may still
    // have something to write: the driver ends after it.
    signals::ignore(&[
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ])
    .map_err(failed)?;
    raise_file_limit();
    best_effort(
        "name the process",
        rustix::thread::set_name(c"overstore-serve"),
    );
    Ok(device)
}

fn session(mut channel: &UnixStream, device: OwnedFd, request: &Request) -> Result<()> {
    let filesystem = MergedFs::open(&merged_options(request))?;
    let failed = |why| Error::environment("talk to the command's process", why);
    channel.write_all(&[LAYERS]).map_err(failed)?;
    let mut answer = [0];
    if channel.read(&mut answer).map_err(failed)? == 0 {
        // The other one mounts something else, or has failed.
        return Ok(());
    }
    let options = SessionOptions {
        threads: request.threads,
        status: status::driver_text(request, Way::Direct, None),
    };
    fuse::serve(device, filesystem, options, || {
        best_effort("report", channel.write_all(&[READY]));
    })
}
