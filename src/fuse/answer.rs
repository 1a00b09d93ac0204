// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the terms of `merged` to those of the protocol, and the guard around every request.
//!
//! Invariant: a panic in a handler is EIO for its caller and nothing more.

use crate::merged::{
    self, Attributes, Entry, Kind, ListItem, Looked, NodeId, Stat, TimeChange, Timestamp,
};
use fuser::{
    Errno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyStatfs, ReplyWrite, ReplyXattr, TimeOrNow,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Runs one operation; its errno, or EIO after a panic, is the answer.
pub(super) fn guarded<T>(
    operation: &str,
    node: INodeNo,
    run: impl FnOnce() -> Result<T, merged::Errno>,
) -> Result<T, Errno> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(errno)) => {
            log::debug!("{operation} {node:?}: {errno}");
            Err(self::errno(errno))
        }
        Err(_) => {
            log::error!("{operation} {node:?}: the driver panicked; please report it");
            Err(Errno::EIO)
        }
    }
}

/// The errno as the library wants it.
pub(super) fn errno(errno: merged::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

/// Answers a lookup or the making of a name.
pub(super) fn entry(reply: ReplyEntry, result: Result<Looked, Errno>) {
    match result {
        Ok(Looked::Found(entry)) => {
            let attr = node_attr(&entry);
            let attr_ttl = attr_ttl(&entry);
            reply.entry_with_ttls(&attr_ttl, &entry.entry_ttl, &attr, generation(&entry));
        }
        Ok(Looked::Absent(ttl)) => {
            // Node number 0: the kernel remembers that there is nothing.
            let nothing = FileAttr {
                ino: INodeNo(0),
                ..NO_ATTR
            };
            reply.entry_with_ttls(&Duration::ZERO, &ttl, &nothing, Generation(0));
        }
        Err(errno) => reply.error(errno),
    }
}

/// Answers with the attributes of `node` and their lifetime.
///
/// Where number and node differ, the next stat must ask again: entries carry the node's number
/// (see [`node_attr`]), and one that arrives while another thread reads kept attributes would be
/// told to it. What a stat itself asked for is taken from its own answer.
pub(super) fn attributes(reply: ReplyAttr, node: INodeNo, result: Result<Attributes, Errno>) {
    match result {
        Ok(found) => {
            let ttl = lifetime(found.ttl, NodeId(node.0), &found.stat);
            reply.attr(&ttl, &attr(&found.stat));
        }
        Err(errno) => reply.error(errno),
    }
}

/// Answers a request that has no result but its success.
pub(super) fn done(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with a count of bytes.
pub(super) fn written(reply: ReplyWrite, result: Result<usize, Errno>) {
    match result.map(u32::try_from) {
        Ok(Ok(count)) => reply.written(count),
        Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with the bytes of an attribute or a list, or with their number if `size` is 0.
pub(super) fn xattr(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Errno>) {
    match result {
        Err(errno) => reply.error(errno),
        Ok(data) => match u32::try_from(data.len()) {
            Ok(length) if size == 0 => reply.size(length),
            Ok(length) if length <= size => reply.data(&data),
            _ => reply.error(Errno::ERANGE),
        },
    }
}

/// Adds one entry with its attributes; returns whether it did not fit any more.
pub(super) fn add_plus(
    reply: &mut ReplyDirectoryPlus,
    item: &ListItem<'_>,
    entry: Option<&Entry>,
) -> bool {
    let name = OsStr::from_bytes(item.name);
    match entry {
        Some(entry) => {
            let ttl = attr_ttl(entry).min(entry.entry_ttl);
            let attr = node_attr(entry);
            reply.add(attr.ino, item.next, name, &ttl, &attr, generation(entry))
        }
        // `.` and `..`: the kernel takes number and kind only.
        None => {
            let ino = INodeNo(item.ino.0);
            let attr = FileAttr {
                ino,
                kind: file_type(item.kind),
                ..NO_ATTR
            };
            reply.add(ino, item.next, name, &Duration::ZERO, &attr, Generation(0))
        }
    }
}

/// Answers with the state of a filesystem.
pub(super) fn statfs(reply: ReplyStatfs, vfs: &rustix::fs::StatVfs) {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    reply.statfs(
        vfs.f_blocks,
        vfs.f_bfree,
        vfs.f_bavail,
        vfs.f_files,
        vfs.f_ffree,
        narrow(vfs.f_bsize),
        narrow(vfs.f_namemax),
        narrow(vfs.f_frsize),
    );
}

/// The attributes in an entry. The library sends their number as the node number; where the two
/// differ, a lifetime of zero makes the kernel ask again, and GETATTR tells the true one.
pub(super) fn node_attr(entry: &Entry) -> FileAttr {
    FileAttr {
        ino: INodeNo(entry.node.0),
        ..attr(&entry.attr)
    }
}

/// How long the attributes in an entry may be trusted.
pub(super) fn attr_ttl(entry: &Entry) -> Duration {
    lifetime(entry.attr_ttl, entry.node, &entry.attr)
}

/// Attributes may be kept for `ttl` if their number is the node's.
fn lifetime(ttl: Duration, node: NodeId, stat: &Stat) -> Duration {
    if stat.ino.0 == node.0 {
        ttl
    } else {
        Duration::ZERO
    }
}

pub(super) fn generation(entry: &Entry) -> Generation {
    Generation(entry.generation)
}

const NO_ATTR: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

pub(super) fn attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.ino.0),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        kind: file_type(stat.kind),
        perm: stat.mode,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: device(stat.rdev),
        blksize: stat.blksize,
        ..NO_ATTR
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Regular => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Socket => FileType::Socket,
    }
}

/// The kernel's own 32-bit form: 12 bits of major, 20 of minor.
fn device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// The `makedev` form of a device number as the kernel sends it.
pub(super) fn makedev(device: u32) -> u64 {
    let (major, minor) = (
        (device & 0xfff00) >> 8,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    rustix::fs::makedev(major, minor)
}

fn system_time(time: Timestamp) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(nanoseconds))
        .unwrap_or(UNIX_EPOCH)
}

/// Reads a time of a SETATTR.
pub(super) fn time_change(time: Option<TimeOrNow>) -> TimeChange {
    match time {
        None => TimeChange::Keep,
        Some(TimeOrNow::Now) => TimeChange::Now,
        Some(TimeOrNow::SpecificTime(time)) => TimeChange::To(timestamp(time)),
    }
}

/// The library subtracts the nanoseconds of a time before 1970 where they should be added: so
/// the distance from the epoch, taken apart, gives seconds and nanoseconds as the kernel sent them.
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: after.subsec_nanos(),
        },
        Err(before) => Timestamp {
            seconds: i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
            nanoseconds: before.duration().subsec_nanos(),
        },
    }
}

/// The node behind a number that the kernel sent; any number is allowed, also an unknown one.
pub(super) fn node(ino: INodeNo) -> NodeId {
    NodeId(ino.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_way_to_the_kernel_and_back() {
        for (major, minor) in [(0, 0), (1, 3), (10, 229), (259, 0), (4095, 0xfffff)] {
            assert_eq!(
                makedev(device((major, minor))),
                rustix::fs::makedev(major, minor)
            );
        }
    }

    #[test]
    fn times_before_the_epoch() {
        let time = Timestamp {
            seconds: -2,
            nanoseconds: 800_000_000,
        };
        assert_eq!(system_time(time), UNIX_EPOCH - Duration::from_millis(1200));
        // What the library makes of (-2 s, 0.8 s) that the kernel sends:
        let received = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(timestamp(received), time);
    }

    #[test]
    fn a_panic_is_an_io_error() {
        let result = guarded::<()>("test", INodeNo(1), || panic!("expected in this test"));
        assert_eq!(result, Err(Errno::EIO));
    }
}
