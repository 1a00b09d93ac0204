// SPDX-License-Identifier: MIT OR Apache-2.0
//! The merged filesystem: operations on nodes over an upper and a lower layer.
//!
//! Decides everything that the kernel asks, in terms of nodes and names; knows nothing of the
//! FUSE protocol. Invariant: a handler that works by name checks that it found the node's own
//! object, and answers ESTALE, never ENOENT, if it did not: the kernel then looks again.

mod attributes;
mod directory;
mod failing;
mod fds;
mod file;
mod hidden;
mod hold;
mod hot;
mod ids;
mod list;
mod locate;
mod lookup;
mod lower_side;
mod make;
mod node;
mod notice;
mod remove;
mod rename;
mod repair;
mod room;
mod staging;
mod table;
mod tops;
mod twin;
mod unwatched;
mod watch;
mod xattr;

pub use crate::layer::{Errno, Kind, Listed, NewKind, Owner, Stat, TimeChange, Times, Timestamp};
pub use attributes::{AttrChange, Attributes};
pub use hidden::RepairStatus;
pub use list::ListItem;
pub use lookup::{Entry, Looked};
pub use node::NodeId;
pub use notice::{Message, Notice};
pub use watch::{Answer, Done};

use crate::error::{Error, Result};
use crate::layer::{LayerId, Lower, Tree, Upper, WriteFd};
use fds::Cache;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// The result of one operation: the errno is the caller's.
type Outcome<T> = std::result::Result<T, Errno>;

/// A lifetime that does not end: the kernel's clock ticks overflow beyond this one.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);

/// Requests served at once where a layer's filesystem may wait for another machine or program.
const REMOTE_THREADS: usize = 32;

/// The directory of hard links that Nix keeps at the top of a store; never shown from the lower,
/// because Nix's collector removes from it what only the lower uses.
const LINKS: &[u8] = b".links";

/// What the driver needs to know about one merged view.
#[derive(Debug, Clone)]
pub struct Options {
    /// The lower store directory.
    pub lower: PathBuf,
    /// The upper directory.
    pub upper: PathBuf,
    /// Whether real extended attributes are passed through (`-o xattr`).
    pub xattr: bool,
    /// How long the kernel may trust what can change behind the mount's back.
    pub lower_ttl: Duration,
    /// Whether the layers are to be watched, where that can work (`-o watch=on`).
    pub watch: bool,
    /// Whether lower names may be removed from sight from the start (`-o repair`).
    pub repair: bool,
    /// Whether the kernel refuses every change before it asks.
    pub read_only: bool,
}

/// A merged view that is ready to be served.
#[derive(Debug)]
pub struct MergedFs {
    upper: Upper,
    lower: Lower,
    xattr: bool,
    /// What the kernel is told where `lower-ttl` was promised.
    lower_ttl: Duration,
    read_only: bool,
    hidden: hidden::Hidden,
    ids: ids::Squash,
    privileged: bool,
    table: table::Table,
    dirs: Cache<Arc<OwnedFd>>,
    files: Cache<FileFd>,
    listings: RwLock<HashMap<NodeId, Arc<Mutex<list::KeptListing>>>>,
    tops: tops::Tops,
    room: room::Room,
    /// Held for reading by whoever changes names, from the system call until the nodes know.
    moving: RwLock<()>,
    holds: hold::Holds,
    said_failing: failing::Said,
    watching: watch::Watching,
    glances: unwatched::Glances,
    hot: hot::Hot,
    notices: mpsc::Sender<Message>,
    inbox: Mutex<Option<mpsc::Receiver<Message>>>,
}

/// A regular file kept open for a node.
#[derive(Debug, Clone)]
enum FileFd {
    Read(Arc<OwnedFd>),
    Write(Arc<WriteFd>),
}

impl MergedFs {
    /// Opens both layers. Do it before mounting, so that the mountpoint may cover a layer.
    pub fn open(options: &Options) -> Result<MergedFs> {
        let (upper, devices) = Upper::open(&options.upper)?;
        let lower = Lower::open(&options.lower, devices)?;
        let failed = |errno| Error::environment("open the layers", errno);
        let root = lookup::root_node(&upper, &lower).map_err(failed)?;
        if !options.read_only {
            staging::sweep(&upper);
        }
        let (dirs, files) = fds::capacities();
        let (notices, inbox) = mpsc::channel();
        Ok(MergedFs {
            upper,
            lower,
            xattr: options.xattr,
            lower_ttl: unwatched::lifetime(options.lower_ttl),
            read_only: options.read_only,
            hidden: hidden::Hidden::new(options.repair && !options.read_only),
            ids: ids::Squash::of_this_process()?,
            privileged: rustix::process::geteuid().is_root(),
            table: table::Table::new(root),
            dirs: Cache::new(dirs),
            files: Cache::new(files),
            listings: RwLock::default(),
            tops: tops::Tops::new(),
            room: room::Room::new(),
            moving: RwLock::new(()),
            holds: hold::Holds::new(),
            said_failing: failing::Said::default(),
            watching: watch::Watching::new(options.watch),
            glances: unwatched::Glances::default(),
            hot: hot::Hot::default(),
            notices,
            inbox: Mutex::new(Some(inbox)),
        })
    }

    /// Hands out the receiving end of the notices, once.
    pub fn take_notices(&self) -> Option<mpsc::Receiver<Message>> {
        self.inbox.lock().take()
    }

    /// Returns how many requests are to be served at once at least: while some wait for a network,
    /// those for the upper go on.
    pub fn least_threads(&self) -> usize {
        let local = |tree: &Tree| tree.filesystem().is_local();
        if local(&self.upper) && local(&self.lower) {
            1
        } else {
            REMOTE_THREADS
        }
    }

    /// Returns how many nodes the kernel may name.
    pub fn nodes(&self) -> usize {
        self.table.len()
    }

    /// Takes back `count` references of the kernel to a node.
    pub fn forget(&self, id: NodeId, count: u64) {
        for (id, node) in self.table.forget(id, count) {
            self.dirs.remove_node(id);
            self.files.remove_node(id);
            if node.parent == NodeId::ROOT {
                self.tops.forget(&node.name, id);
            }
            if self.listings.read().contains_key(&id) {
                self.listings.write().remove(&id);
            }
        }
    }

    /// Returns the state of the upper's filesystem, where everything new goes.
    pub fn statfs(&self) -> Outcome<rustix::fs::StatVfs> {
        self.upper.statfs()
    }

    fn tree(&self, layer: LayerId) -> &Tree {
        match layer {
            LayerId::Upper => &self.upper,
            LayerId::Lower => &self.lower,
        }
    }
}
