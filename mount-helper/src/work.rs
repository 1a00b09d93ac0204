// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work directory where none was named: `UPPER.work`, beside the upper.

use crate::check::{Checked, READ_ONLY_UPPER};
use crate::context::Way;
use crate::directory::{Directory, plain, printable};
use crate::fault::{Fault, Result};
use crate::leftovers::OF_KERNEL;
use crate::request::Request;
use rustix::fs::{AtFlags, Mode, mkdirat, rmdir, unlinkat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Returns the work directory of `upper` where none was named.
pub fn default_work(upper: &Path) -> PathBuf {
    let mut path = upper.components().collect::<PathBuf>().into_os_string();
    path.push(".work");
    PathBuf::from(path)
}

const ROLE: &str = "work directory";

/// Creates the work directory of `upper` if only it is missing, and tells whether it did.
pub fn create_work(path: &Path, upper: &Path) -> Result<bool> {
    Directory::find("upper directory", upper)?;
    let path = plain(ROLE, path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(false);
    };
    let parent = Directory::find(ROLE, parent)?;
    match mkdirat(&parent.fd, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(why) => {
            let what = format!("create {ROLE} {}", printable(&path));
            let fault = Fault::kernel(what, why);
            Err(match why {
                Errno::ROFS => fault.hint(READ_ONLY_UPPER),
                _ => fault.hint("name one with -o workdir="),
            })
        }
    }
}

/// What is wanted of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing is mounted.
    Check,
    /// The view.
    Mount,
}

impl Request {
    /// Checks the request, and if that is wanted mounts it and tells by which way. With `make_work`
    /// a missing work directory is created, and removed again if nothing was mounted. `warn` is told
    /// in one line what is odd but keeps nothing from being mounted.
    pub fn fulfil(&self, wish: Wish, make_work: bool, warn: &dyn Fn(&str)) -> Result<Option<Way>> {
        let created = make_work && create_work(&self.work, &self.upper)?;
        let checked = self.check().inspect_err(|_| {
            if created {
                // If it is not empty by now, another mount has it.
                let _ = rmdir(&self.work);
            }
        })?;
        if checked.turn.is_none() {
            warn(&checked.no_turn());
        }
        let done = match wish {
            Wish::Check => Ok(None),
            Wish::Mount => checked.mount().map(Some),
        };
        if created && !matches!(done, Ok(Some(_))) {
            checked.remove_work();
        }
        done
    }
}

impl Checked {
    /// Removes the work directory with what the kernel left there when it did not mount: others
    /// that would mount with it wait as long as this is held. What cannot be removed harms nobody.
    fn remove_work(&self) {
        if self.turn.is_none() {
            return;
        }
        for name in OF_KERNEL {
            let _ = unlinkat(&self.work.fd, name, AtFlags::REMOVEDIR);
        }
        let _ = rmdir(&self.work.path);
    }
}
