// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work directory where none was named: `UPPER.work`, beside the upper.

use crate::directory::{Directory, plain, printable};
use crate::fault::{Fault, Result};
use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Returns the work directory of `upper` where none was named.
pub fn default_work(upper: &Path) -> PathBuf {
    let mut path = upper.components().collect::<PathBuf>().into_os_string();
    path.push(".work");
    PathBuf::from(path)
}

/// Creates the work directory if only it is missing, and tells whether it did.
pub fn create_work(path: &Path) -> Result<bool> {
    const ROLE: &str = "work directory";
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
            Err(Fault::kernel(what, why).hint("name one with -o workdir="))
        }
    }
}
