// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extended attributes: off (ENOSYS, asked once) or the real ones, without those of OverlayFS.

use super::node::NodeId;
use super::{MergedFs, Outcome};
use crate::layer::Errno;
use std::os::fd::AsFd;

impl MergedFs {
    /// Returns the value of an attribute.
    pub fn get_xattr(&self, id: NodeId, name: &[u8]) -> Outcome<Vec<u8>> {
        self.xattrs_on()?;
        let located = self.surviving(id, || self.locate(id))?;
        let object = self.object_of(&located)?;
        self.tree(located.layer).get_xattr(object.as_fd(), name)
    }

    /// Returns the names of all attributes that user `uid` may know, each ended by a NUL.
    pub fn list_xattrs(&self, id: NodeId, uid: u32) -> Outcome<Vec<u8>> {
        self.xattrs_on()?;
        let located = self.surviving(id, || self.locate(id))?;
        let object = self.object_of(&located)?;
        self.tree(located.layer).list_xattrs(object.as_fd(), uid)
    }

    /// Sets an attribute of an upper object; `flags` are those of `setxattr(2)`.
    pub fn set_xattr(&self, id: NodeId, name: &[u8], value: &[u8], flags: u32) -> Outcome<()> {
        self.xattrs_on()?;
        let (_, object) = self.changeable(id)?;
        self.upper.set_xattr(object.as_fd(), name, value, flags)
    }

    /// Removes an attribute of an upper object.
    pub fn remove_xattr(&self, id: NodeId, name: &[u8]) -> Outcome<()> {
        self.xattrs_on()?;
        let (_, object) = self.changeable(id)?;
        self.upper.remove_xattr(object.as_fd(), name)
    }

    fn xattrs_on(&self) -> Outcome<()> {
        if self.xattr {
            Ok(())
        } else {
            Err(Errno::NOSYS)
        }
    }
}
