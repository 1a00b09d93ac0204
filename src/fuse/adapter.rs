// SPDX-License-Identifier: MIT OR Apache-2.0
//! One handler per kind of request: read the arguments, call `merged`, answer.
//!
//! Invariant: the connection is in no-open mode. OPEN and OPENDIR are answered ENOSYS, no handle
//! means anything, and no RELEASE ever comes.

use super::StatusText;
use super::answer::{self, guarded};
use super::control;
use crate::merged::{AttrChange, Listed, Looked, MergedFs, NewKind, Owner, Times};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Bytes of one WRITE; the kernel's own limit of 256 pages.
const MAX_WRITE: u32 = 1 << 20;
/// Read-ahead requests in flight.
const MAX_BACKGROUND: u16 = 64;

thread_local! {
    /// Reply memory of a request thread: populated once, then used again.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The handlers of one session.
pub(super) struct Adapter {
    fs: Arc<MergedFs>,
    status: StatusText,
    expires: Arc<AtomicBool>,
}

impl Adapter {
    /// `expires` is set to whether the kernel can forget a name without detaching mounts in it.
    pub(super) fn new(fs: Arc<MergedFs>, status: StatusText, expires: Arc<AtomicBool>) -> Adapter {
        Adapter {
            fs,
            status,
            expires,
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        config.add_capabilities(wanted).map_err(|missing| {
            io::Error::other(format!(
                "the kernel's FUSE is too old: it lacks {missing:?}"
            ))
        })?;
        let limited = |name: &str, limit: u64| log::debug!("{name} limited to {limit}");
        config
            .set_max_write(MAX_WRITE)
            .map_or_else(|l| limited("max_write", l.into()), |_| ());
        config
            .set_max_background(MAX_BACKGROUND)
            .map_or_else(|l| limited("max_background", l.into()), |_| ());
        let expires = config
            .capabilities()
            .contains(InitFlags::FUSE_HAS_EXPIRE_ONLY);
        self.expires.store(expires, Ordering::Relaxed);
        Ok(())
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        flags: IoctlFlags,
        cmd: u32,
        _in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        // First and without a lock: every open() of Python asks whether it got a terminal.
        let switch = control::repair(cmd);
        let ours = control::is_status(cmd) || control::is_barrier(cmd) || switch.is_some();
        if !ours || !flags.contains(IoctlFlags::FUSE_IOCTL_DIR) {
            return reply.error(Errno::ENOTTY);
        }
        if control::is_barrier(cmd) {
            // Answered by the thread that tells the kernel: it may wait for lookups that wait for
            // this one.
            return self.fs.barrier(Box::new(move |outcome| match outcome {
                Ok(()) => reply.ioctl(0, &[]),
                Err(errno) => reply.error(answer::errno(errno)),
            }));
        }
        if let Some(on) = switch {
            return self.switch_repair(req, ino, on, reply);
        }
        let text = (self.status)(&self.fs);
        match i32::try_from(text.len()) {
            Ok(length) if text.len() <= out_size as usize => reply.ioctl(length, text.as_bytes()),
            _ => reply.error(Errno::EOVERFLOW),
        }
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let looked = || self.fs.lookup(answer::node(parent), name.as_bytes());
        answer::entry(reply, guarded("lookup", parent, looked));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let forgotten = guarded("forget", ino, || {
            self.fs.forget(answer::node(ino), nlookup);
            Ok(())
        });
        // There is nobody to answer; a panic was logged.
        let _nobody = forgotten;
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let found = guarded("getattr", ino, || self.fs.getattr(answer::node(ino)));
        if !found.is_ok_and(|found| found.rewritten) {
            return answer::attributes(reply, ino, found);
        }
        let answered = Box::new(move || answer::attributes(reply, ino, found));
        self.fs.after_dropping(answer::node(ino), answered);
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let times = Times {
            atime: answer::time_change(atime),
            mtime: answer::time_change(mtime),
        };
        let change = AttrChange {
            mode,
            uid,
            gid,
            size,
            times,
        };
        let changed = || self.fs.setattr(answer::node(ino), &change);
        answer::attributes(reply, ino, guarded("setattr", ino, changed));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match guarded("readlink", ino, || self.fs.readlink(answer::node(ino))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let kind = NewKind::Node {
            mode,
            rdev: answer::makedev(rdev),
        };
        self.make("mknod", req, (parent, name), kind, mode, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.make(
            "mkdir",
            req,
            (parent, name),
            NewKind::Directory,
            mode,
            reply,
        );
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let kind = NewKind::Symlink(target.as_os_str().as_bytes());
        self.make("symlink", req, (parent, link_name), kind, 0o777, reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let created = || {
            self.fs
                .create(answer::node(parent), name.as_bytes(), mode, owner(req))
        };
        match guarded("create", parent, created) {
            Ok(entry) => {
                // One lifetime stands for both here: the shorter one is true for both.
                let ttl = answer::attr_ttl(&entry).min(entry.entry_ttl);
                let (attr, generation) = (answer::node_attr(&entry), answer::generation(&entry));
                reply.created(
                    &ttl,
                    &attr,
                    generation,
                    FileHandle(0),
                    FopenFlags::FOPEN_KEEP_CACHE,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let (source, parent) = (answer::node(ino), answer::node(newparent));
        let linked = || {
            self.fs
                .link(source, parent, newname.as_bytes())
                .map(Looked::Found)
        };
        answer::entry(reply, guarded("link", ino, linked));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = || {
            self.fs
                .unlink(answer::node(parent), name.as_bytes(), req.uid())
        };
        answer::done(reply, guarded("unlink", parent, removed));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = || {
            self.fs
                .rmdir(answer::node(parent), name.as_bytes(), req.uid())
        };
        answer::done(reply, guarded("rmdir", parent, removed));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from = (answer::node(parent), name.as_bytes());
        let to = (answer::node(newparent), newname.as_bytes());
        answer::done(
            reply,
            guarded("rename", parent, || {
                self.fs.rename(from, to, flags.bits(), req.uid())
            }),
        );
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: fuser::AccessFlags, reply: ReplyEmpty) {
        // Never asked under default_permissions.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let read = || self.fs.read(answer::node(ino), offset, &mut buffer[..size]);
            match guarded("read", ino, read) {
                Ok(count) => reply.data(&buffer[..count]),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let cached = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let written = || self.fs.write(answer::node(ino), offset, data, cached);
        answer::written(reply, guarded("write", ino, written));
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let synced = || self.fs.fsync(answer::node(ino), datasync);
        answer::done(reply, guarded("fsync", ino, synced));
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        answer::done(
            reply,
            guarded("fsyncdir", ino, || self.fs.fsync_dir(answer::node(ino))),
        );
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = mode.cast_unsigned();
        let allocated = || self.fs.fallocate(answer::node(ino), mode, offset, length);
        answer::done(reply, guarded("fallocate", ino, allocated));
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Ok(from) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let found = match whence {
            libc::SEEK_DATA | libc::SEEK_HOLE => guarded("lseek", ino, || {
                self.fs
                    .seek(answer::node(ino), from, whence == libc::SEEK_DATA)
            }),
            _ => Err(Errno::EINVAL),
        };
        match found.map(i64::try_from) {
            Ok(Ok(offset)) => reply.offset(offset),
            Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (source, target) = (answer::node(ino_in), answer::node(ino_out));
        // The count is answered in 32 bits; the kernel takes any part and asks for the rest.
        let length = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 30);
        let copied = || {
            self.fs
                .copy_range((source, offset_in), (target, offset_out), length)
        };
        answer::written(reply, guarded("copy_file_range", ino_out, copied));
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = guarded("readdir", ino, || {
            self.fs.list(answer::node(ino), offset, |item| {
                let kind = answer::file_type(item.kind);
                let name = OsStr::from_bytes(item.name);
                let full = reply.add(INodeNo(item.ino.0), item.next, kind, name);
                if full { Listed::Full } else { Listed::More }
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = guarded("readdirplus", ino, || {
            self.fs.list_plus(answer::node(ino), offset, |item, entry| {
                let full = answer::add_plus(&mut reply, &item, entry);
                if full { Listed::Full } else { Listed::More }
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match guarded("statfs", ino, || self.fs.statfs()) {
            Ok(vfs) => answer::statfs(reply, &vfs),
            Err(errno) => reply.error(errno),
        }
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (name, flags) = (name.as_bytes(), flags.cast_unsigned());
        let set = || self.fs.set_xattr(answer::node(ino), name, value, flags);
        answer::done(reply, guarded("setxattr", ino, set));
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = || self.fs.get_xattr(answer::node(ino), name.as_bytes());
        answer::xattr(reply, size, guarded("getxattr", ino, value));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = || self.fs.list_xattrs(answer::node(ino), req.uid());
        answer::xattr(reply, size, guarded("listxattr", ino, names));
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = || self.fs.remove_xattr(answer::node(ino), name.as_bytes());
        answer::done(reply, guarded("removexattr", ino, removed));
    }

    fn getlk(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        reply: fuser::ReplyLock,
    ) {
        // Locks are the kernel's own business as long as nobody asks for remote ones.
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _blocksize: u32,
        _idx: u64,
        reply: fuser::ReplyBmap,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: fuser::PollNotifier,
        _events: fuser::PollEvents,
        _flags: fuser::PollFlags,
        reply: fuser::ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }
}

impl Adapter {
    /// Root of the mount's user namespace and the driver's own user may; the answer comes when the
    /// kernel has been told of everything that shows again.
    fn switch_repair(&self, req: &Request, ino: INodeNo, on: bool, reply: ReplyIoctl) {
        if req.uid() != 0 && req.uid() != rustix::process::geteuid().as_raw() {
            return reply.error(Errno::EPERM);
        }
        match guarded("switch repair", ino, || self.fs.set_repair(on)) {
            Ok(()) => self.fs.after_notices(Box::new(move || reply.ioctl(0, &[]))),
            Err(errno) => reply.error(errno),
        }
    }

    fn make(
        &self,
        operation: &str,
        req: &Request,
        (parent, name): (INodeNo, &OsStr),
        kind: NewKind<'_>,
        mode: u32,
        reply: ReplyEntry,
    ) {
        let made = || {
            let (parent, name) = (answer::node(parent), name.as_bytes());
            self.fs
                .make(parent, name, kind, mode, owner(req))
                .map(Looked::Found)
        };
        answer::entry(reply, guarded(operation, parent, made));
    }
}

fn owner(req: &Request) -> Owner {
    Owner {
        uid: req.uid(),
        gid: req.gid(),
    }
}
