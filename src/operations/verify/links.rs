// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files in the upper's `.links`, each of which is named by the hash of its archive.
//!
//! Invariant: of a bad one only the name goes: objects that share the file are checked, and mended, by
//! themselves.

use super::contents::{Objects, Run, Seen};
use super::report::{Fault, Layer, Repaired, Report, Wrong};
use crate::error::{Error, Result};
use crate::operations::gc::links::LINKS;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Checks every file there; `remove` says by which directory of objects bad ones are removed.
pub(super) fn check(
    upper: &Objects<'_>,
    remove: Option<&Objects<'_>>,
    run: &Run<'_>,
    report: &mut Report,
) -> Result<()> {
    let path = upper.path.join(LINKS);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(upper.dir, LINKS, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(|why| Error::on("open", &path, why))?,
    };
    let links = Objects {
        dir: dir.as_fd(),
        path: &path,
    };
    for name in names(&dir).map_err(|why| Error::on("list", &path, why))? {
        run.interrupt.check("verify")?;
        let link = path.join(&name).display().to_string();
        let got = match links.look(&name, run) {
            Seen::Hashed(hash, _) if hash.base32() == name => continue,
            Seen::Gone | Seen::Interrupted => continue,
            Seen::Unread(why) => {
                report.not_checked(link, why);
                continue;
            }
            Seen::Hashed(hash, _) => format!("sha256:{}", hash.base32()),
            Seen::Unfit(why) => why.to_string(),
        };
        let expected = format!("sha256:{name}");
        let wrong = Wrong::Link { expected, got };
        let mut fault = Fault::new(Layer::Merged, link, None, wrong);
        match remove.map(|objects| unlink(objects, &name)) {
            Some(Ok(())) => {
                let how = "removed link".to_owned();
                report.repaired.push(Repaired { fault, how });
                continue;
            }
            Some(Err(why)) => fault.unmended = Some(why.to_string()),
            None => {}
        }
        report.faults.push(fault);
    }
    Ok(())
}

/// Lists a directory, in order.
fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.escape_ascii().to_string());
        }
    }
    names.sort();
    Ok(names)
}

fn unlink(objects: &Objects<'_>, name: &str) -> Result<()> {
    let path = format!("{LINKS}/{name}");
    match rustix::fs::unlinkat(objects.dir, path.as_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(why) => Err(Error::on("remove", objects.path.join(&path), why)),
    }
}
