// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small filesystem in memory that fails when the test tells it to, and counts what it is asked.
//!
//! Nothing that it tells may be kept (lifetimes are 0), so that every question reaches it. Invariant: a rule fails as many requests as it says, and no other ones.

use crate::common::check::Must;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEntry, ReplyOpen, ReplyStatfs, Request,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// What can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Lookup,
    Getattr,
    Readlink,
    Open,
    Read,
    /// A read that is answered with nothing, as at the end of the file.
    CutRead,
    Opendir,
    /// A listing, once this many entries were told.
    ReaddirAfter(usize),
    Statfs,
}

/// One object.
#[derive(Debug)]
struct Object {
    parent: usize,
    name: String,
    kind: FileType,
    /// The content of a file, the target of a link.
    content: String,
    /// What is in a directory, in the order of its listing.
    children: Vec<usize>,
}

/// Fails the requests of one kind about one object.
#[derive(Debug)]
struct Rule {
    op: Op,
    name: String,
    errno: Errno,
    left: usize,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    asked: HashMap<(Op, String), usize>,
}

impl Script {
    /// Counts a request, and tells how it is to fail.
    fn ask(&mut self, op: Op, name: &str) -> Option<Errno> {
        *self.asked.entry((op, name.to_owned())).or_default() += 1;
        let concerned = |rule: &&mut Rule| rule.op == op && rule.name == name && rule.left > 0;
        let rule = self.rules.iter_mut().find(concerned)?;
        rule.left -= 1;
        Some(rule.errno)
    }

    /// Tells whether the next such request is to fail.
    fn is_ordered(&self, op: Op, name: &str) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.op == op && rule.name == name && rule.left > 0)
    }
}

/// The filesystem, mounted. Dropping it unmounts it; its threads end when nobody uses it any more,
/// which a driver on it may do for longer.
#[derive(Debug)]
pub(crate) struct Scripted {
    script: Arc<Mutex<Script>>,
    _session: BackgroundSession,
}

impl Scripted {
    /// Mounts a filesystem with `objects` at `at`: `("d/", "")` is a directory, `("f", "text")` a
    /// file, `("s@", "f")` a symbolic link.
    pub(crate) fn mount(at: &Path, objects: &[(String, String)]) -> Scripted {
        std::fs::create_dir_all(at).must();
        let script = Arc::new(Mutex::new(Script::default()));
        let serving = Serving {
            objects: build(objects),
            script: Arc::clone(&script),
        };
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::FSName("scripted".to_owned()),
            MountOption::Subtype("scripted".to_owned()),
        ];
        let session = fuser::spawn_mount(serving, at, &config).must();
        Scripted {
            script,
            _session: session,
        }
    }

    /// From now on the next `times` requests `op` about the object of that name fail.
    pub(crate) fn fail(&self, op: Op, name: &str, errno: rustix::io::Errno, times: usize) {
        self.script.lock().rules.push(Rule {
            op,
            name: name.to_owned(),
            errno: Errno::from_i32(errno.raw_os_error()),
            left: times,
        });
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.script.lock().rules.clear();
    }

    /// Tells whether every failure that was ordered has happened.
    pub(crate) fn all_failed(&self) -> bool {
        self.script.lock().rules.iter().all(|rule| rule.left == 0)
    }

    /// Returns how often `op` was asked about the object of that name.
    pub(crate) fn asked(&self, op: Op, name: &str) -> usize {
        let asked = &self.script.lock().asked;
        asked
            .get(&(op, name.to_owned()))
            .copied()
            .unwrap_or_default()
    }
}

fn build(objects: &[(String, String)]) -> Vec<Object> {
    let object = |parent, name: &str, kind, content: &str| Object {
        parent,
        name: name.to_owned(),
        kind,
        content: content.to_owned(),
        children: Vec::new(),
    };
    let mut all = vec![object(0, "", FileType::Directory, "")];
    for (path, content) in objects {
        let (path, kind) = match path.strip_suffix('/') {
            Some(path) => (path, FileType::Directory),
            None => match path.strip_suffix('@') {
                Some(path) => (path, FileType::Symlink),
                None => (path.as_str(), FileType::RegularFile),
            },
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = 0;
        for part in parent.split('/').filter(|part| !part.is_empty()) {
            at = find(&all, at, part).expect("a directory comes before what is in it");
        }
        let index = all.len();
        all[at].children.push(index);
        all.push(object(at, name, kind, content));
    }
    all
}

fn find(objects: &[Object], parent: usize, name: &str) -> Option<usize> {
    let children = &objects.get(parent)?.children;
    children
        .iter()
        .copied()
        .find(|&index| objects[index].name == name)
}

struct Serving {
    objects: Vec<Object>,
    script: Arc<Mutex<Script>>,
}

impl Serving {
    /// Counts a request about an object.
    fn ask(&self, op: Op, ino: INodeNo) -> Result<usize, Errno> {
        let index = usize::try_from(ino.0 - 1).map_err(|_| Errno::ENOENT)?;
        let object = self.objects.get(index).ok_or(Errno::ENOENT)?;
        match self.script.lock().ask(op, &object.name) {
            Some(errno) => Err(errno),
            None => Ok(index),
        }
    }

    fn attr(&self, index: usize) -> FileAttr {
        let object = &self.objects[index];
        let time = UNIX_EPOCH + Duration::from_secs(1);
        FileAttr {
            ino: number(index),
            size: object.content.len() as u64,
            blocks: 1,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: object.kind,
            perm: if object.kind == FileType::Directory {
                0o555
            } else {
                0o444
            },
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// The entries of a directory: number, kind and name.
    fn entries(&self, dir: usize) -> Vec<(INodeNo, FileType, &str)> {
        let dots = [(dir, "."), (self.objects[dir].parent, "..")];
        let dots = dots.map(|(index, name)| (number(index), FileType::Directory, name));
        let inside = self.objects[dir].children.iter().map(|&index| {
            let object = &self.objects[index];
            (number(index), object.kind, &*object.name)
        });
        dots.into_iter().chain(inside).collect()
    }
}

fn number(index: usize) -> INodeNo {
    INodeNo(index as u64 + 1)
}

impl Filesystem for Serving {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_str().unwrap_or_default();
        if let Some(errno) = self.script.lock().ask(Op::Lookup, name) {
            return reply.error(errno);
        }
        let parent = usize::try_from(parent.0 - 1).unwrap_or_default();
        match find(&self.objects, parent, name) {
            Some(index) => reply.entry(&Duration::ZERO, &self.attr(index), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.ask(Op::Getattr, ino) {
            Ok(index) => reply.attr(&Duration::ZERO, &self.attr(index)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.ask(Op::Readlink, ino) {
            Ok(index) => reply.data(self.objects[index].content.as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.ask(Op::Open, ino) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // The errno of that rule means nothing.
        let cut = self.ask(Op::CutRead, ino).is_err();
        match self.ask(Op::Read, ino) {
            Ok(_) if cut => reply.data(&[]),
            Ok(index) => {
                let content = self.objects[index].content.as_bytes();
                let start = content.len().min(offset as usize);
                let end = content.len().min(start + size as usize);
                reply.data(&content[start..end]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.ask(Op::Opendir, ino) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let dir = usize::try_from(ino.0 - 1).unwrap_or_default();
        let name = &self.objects[dir].name;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut script = self.script.lock();
        if let Some(errno) = script.ask(Op::ReaddirAfter(start), name) {
            return reply.error(errno);
        }
        for (told, (ino, kind, entry)) in self.entries(dir).into_iter().enumerate().skip(start) {
            // Where a failure is ordered the next request starts.
            if told > start && script.is_ordered(Op::ReaddirAfter(told), name) {
                break;
            }
            if reply.add(ino, told as u64 + 1, kind, entry) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.ask(Op::Statfs, ino) {
            Ok(_) => reply.statfs(1, 0, 0, 1, 0, 4096, 255, 4096),
            Err(errno) => reply.error(errno),
        }
    }
}
