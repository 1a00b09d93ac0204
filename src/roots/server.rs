// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector's server, `STATE/gc-socket/socket`: processes tell it of new roots.
//!
//! One thread serves every caller, so their number is bounded by descriptors alone. Invariant: a
//! line is answered when its object is kept and not being deleted any more; a caller that never
//! ends its line, or never reads, costs a bounded piece of memory.

use super::gc_lock::GcLock;
use super::protected::Protected;
use super::{HashPart, socket};
use crate::error::{Error, Result};
use crate::store::StoreDir;
use crate::wait::nap;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const BACKLOG: i32 = 100;
/// Longer than every path.
pub(super) const LINE_MAX_BYTES: usize = 4096 + 256;
/// When no further caller can be served.
const FULL: Duration = Duration::from_millis(20);

/// The server, which ends with this. It cannot outlive the lock: a later collector's socket has the
/// same name.
#[derive(Debug)]
pub struct GcServer<'lock> {
    stop: Arc<AtomicBool>,
    protected: Protected,
    thread: Option<JoinHandle<()>>,
    _lock: &'lock GcLock,
}

impl<'lock> GcServer<'lock> {
    /// Begins to serve, for the collector that holds `lock`.
    pub fn start(
        lock: &'lock GcLock,
        store: &StoreDir,
        protected: &Protected,
    ) -> Result<GcServer<'lock>> {
        let refused = "the garbage collector's lock is not held exclusively";
        let state = lock
            .collecting()
            .ok_or_else(|| Error::environment("serve new roots", refused))?;
        let listener = listen(state)?;
        let stop = Arc::new(AtomicBool::new(false));
        let service = Service {
            listener,
            store: store.clone(),
            protected: protected.clone(),
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name("gc-server".to_owned())
            .spawn(move || service.run())
            .map_err(|why| Error::environment("start the server of new roots", why))?;
        Ok(GcServer {
            stop,
            protected: protected.clone(),
            thread: Some(thread),
            _lock: lock,
        })
    }
}

impl Drop for GcServer<'_> {
    /// Hangs up on every caller, who then asks for the lock again.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.protected.ring();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            log::error!("the server of new roots panicked");
        }
    }
}

fn listen(state: &Path) -> Result<UnixListener> {
    let directory = state.join("gc-socket");
    let path = directory.join("socket");
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)
        .and_then(|()| socket::serve(&path, BACKLOG))
        .map_err(|why| Error::on("serve new roots at", path, why))
}

/// What the thread has.
#[derive(Debug)]
struct Service {
    listener: UnixListener,
    store: StoreDir,
    protected: Protected,
    stop: Arc<AtomicBool>,
}

/// One caller.
#[derive(Debug)]
struct Caller {
    stream: UnixStream,
    /// What was read and not yet understood.
    text: Vec<u8>,
    /// The line that is being read is too long for a path.
    overlong: bool,
    /// What was asked for and is still being deleted.
    waits_for: Option<HashPart>,
}

/// Whether a caller stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Yes,
    No,
}

impl Service {
    fn run(self) {
        let mut callers = Vec::new();
        loop {
            let (accept, ready) = match self.wait(&callers) {
                Ok(news) => news,
                Err(why) => {
                    log::warn!("wait for new roots: {why}");
                    nap(FULL);
                    continue;
                }
            };
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            self.protected.heard();
            let mut ready = ready.into_iter();
            callers.retain_mut(|caller| {
                let ready = ready.next().unwrap_or(PollFlags::empty());
                self.attend(caller, ready) == Stay::Yes
            });
            if accept {
                self.accept(&mut callers);
            }
        }
    }

    /// Waits for news: whether somebody calls, and what every caller does.
    fn wait(&self, callers: &[Caller]) -> std::result::Result<(bool, Vec<PollFlags>), Errno> {
        let bell = self.protected.bell();
        let mut fds = Vec::with_capacity(callers.len() + 2);
        fds.push(PollFd::new(&bell, PollFlags::IN));
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        fds.extend(callers.iter().map(|caller| {
            // Who waits says nothing meanwhile; that it hung up is told anyway.
            let events = match caller.waits_for {
                Some(_) => PollFlags::empty(),
                None => PollFlags::IN,
            };
            PollFd::new(&caller.stream, events)
        }));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(why) => return Err(why),
        }
        let accept = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        Ok((accept, fds.iter().skip(2).map(PollFd::revents).collect()))
    }

    fn accept(&self, callers: &mut Vec<Caller>) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(why) if why.kind() == ErrorKind::WouldBlock => return,
                Err(why) => {
                    // Mostly: no descriptor is free. Who is not served waits in the queue.
                    log::debug!("accept a caller: {why}");
                    return nap(FULL);
                }
            };
            match stream.set_nonblocking(true) {
                Ok(()) => callers.push(Caller::new(stream)),
                Err(why) => log::debug!("accept a caller: {why}"),
            }
        }
    }

    fn attend(&self, caller: &mut Caller, ready: PollFlags) -> Stay {
        if let Some(hash_part) = caller.waits_for {
            if self.protected.is_pending(hash_part) {
                let gone = ready.intersects(PollFlags::HUP | PollFlags::ERR);
                return if gone { Stay::No } else { Stay::Yes };
            }
            caller.waits_for = None;
            if caller.answer() == Stay::No || self.understand(caller) == Stay::No {
                return Stay::No;
            }
        }
        if ready.is_empty() || caller.waits_for.is_some() {
            return Stay::Yes;
        }
        let mut buffer = [0; LINE_MAX_BYTES];
        match caller.stream.read(&mut buffer) {
            Ok(0) => Stay::No,
            Ok(read) => {
                caller
                    .text
                    .extend_from_slice(buffer.get(..read).unwrap_or_default());
                self.understand(caller)
            }
            Err(why) => match why.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Stay::Yes,
                _ => Stay::No,
            },
        }
    }

    /// Handles every whole line, up to one whose answer must wait.
    fn understand(&self, caller: &mut Caller) -> Stay {
        while caller.waits_for.is_none() {
            let Some(end) = caller.text.iter().position(|&byte| byte == b'\n') else {
                if caller.text.len() > LINE_MAX_BYTES {
                    caller.overlong = true;
                    caller.text.clear();
                }
                return Stay::Yes;
            };
            let line: Vec<u8> = caller.text.drain(..=end).collect();
            let overlong = std::mem::take(&mut caller.overlong);
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            match self.store.parse(Path::new(OsStr::from_bytes(line))) {
                Some(Ok(name)) if !overlong => {
                    let hash_part = HashPart::of(&name);
                    if !self.protected.keep(hash_part) {
                        log::debug!("{name} is being deleted; who asks for it waits");
                        caller.waits_for = Some(hash_part);
                        continue;
                    }
                }
                _ => {
                    log::warn!("a process told the garbage collector of something that is no root")
                }
            }
            if caller.answer() == Stay::No {
                return Stay::No;
            }
        }
        Stay::Yes
    }
}

impl Caller {
    fn new(stream: UnixStream) -> Caller {
        Caller {
            stream,
            text: Vec::new(),
            overlong: false,
            waits_for: None,
        }
    }

    /// Says that a line was understood. One byte always finds room, unless nobody reads.
    fn answer(&mut self) -> Stay {
        loop {
            return match self.stream.write(b"1") {
                Ok(1) => Stay::Yes,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => Stay::No,
            };
        }
    }
}
