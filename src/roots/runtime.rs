// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runtime roots: the objects that running processes use, as `/proc` shows them.
//!
//! Invariant: a process that ends meanwhile, or that belongs to others, is passed over; without
//! `/proc` nothing is known, which is an error. A path that is too long to be told is no hindrance.

use super::Root;
use super::deep::path_above;
use super::spelling::{object_used, scan};
use crate::error::{Error, Result};
use crate::store::{ObjectName, StoreDir};
use crate::wait::Interrupt;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Files that name programs which the kernel starts.
const KERNEL_PROGRAMS: [&str; 3] = ["modprobe", "fbsplash", "poweroff_cmd"];
/// Longer than every line of `maps`: a path, escaped, and some numbers.
const MAPS_LINE_MAX_BYTES: u64 = 4 * 4096 + 512;
/// In `maps`, this many columns stand before the path.
const MAPS_COLUMNS: usize = 5;

/// The directories whose children are store objects.
#[derive(Debug, Clone)]
pub struct StoreDirs(pub(super) Vec<PathBuf>);

impl StoreDirs {
    /// The logical store directory, and others at which processes see the same objects: the merged
    /// directory, where that is elsewhere.
    pub fn new(store: &StoreDir, others: impl IntoIterator<Item = PathBuf>) -> StoreDirs {
        let logical = store.as_path().to_owned();
        let mut all: Vec<_> = [logical].into_iter().chain(others).collect();
        all.sort();
        all.dedup();
        StoreDirs(all)
    }
}

/// Finds the valid objects that running processes use, as `is_valid` answers.
pub fn find_runtime_roots(
    directories: &StoreDirs,
    is_valid: &dyn Fn(&ObjectName) -> Result<bool>,
    interrupt: &Interrupt,
) -> Result<BTreeSet<Root>> {
    let used = look(Path::new("/proc"), &directories.0, interrupt)?;
    let mut roots = BTreeSet::new();
    for (object, links) in used {
        if is_valid(&object)? {
            roots.extend(links.into_iter().map(|link| Root {
                link,
                object: object.clone(),
            }));
        }
    }
    Ok(roots)
}

type Used = BTreeMap<ObjectName, BTreeSet<PathBuf>>;

/// Looks at everything below `proc`.
pub(super) fn look(proc: &Path, directories: &[PathBuf], interrupt: &Interrupt) -> Result<Used> {
    let mut look = Look {
        directories,
        interrupt,
        used: Used::new(),
    };
    let unread = |why: io::Error| {
        Error::on("look for running processes in", proc, why)
            .hint("mount it: without it, what programs use could be deleted")
    };
    let mut processes = 0;
    for entry in fs::read_dir(proc).map_err(unread)? {
        interrupt.check("look for running processes")?;
        let entry = entry.map_err(unread)?;
        if entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            processes += 1;
            look.process(&entry.path())?;
        }
    }
    if processes == 0 {
        return Err(unread(io::Error::other("it shows no process")));
    }
    for name in KERNEL_PROGRAMS {
        let path = proc.join("sys/kernel").join(name);
        look.text(&path)?;
    }
    Ok(look.used)
}

struct Look<'a> {
    directories: &'a [PathBuf],
    interrupt: &'a Interrupt,
    used: Used,
}

impl Look<'_> {
    fn process(&mut self, process: &Path) -> Result<()> {
        self.link(process.join("exe"))?;
        self.link(process.join("cwd"))?;
        let directory = process.join("fd");
        if let Some(entries) = passed_over(fs::read_dir(&directory), &directory)? {
            for entry in entries {
                // The process may end in the middle.
                let Some(entry) = passed_over(entry, &directory)? else {
                    break;
                };
                self.link(entry.path())?;
            }
        }
        self.maps(&process.join("maps"))?;
        self.text(&process.join("environ"))
    }

    fn link(&mut self, link: PathBuf) -> Result<()> {
        let target = match fs::read_link(&link) {
            Err(why) if Errno::from_io_error(&why) == Some(Errno::NAMETOOLONG) => {
                path_above(&link, self.directories, self.interrupt)
            }
            target => target.map(Some),
        };
        if let Some(Some(target)) = passed_over(target, &link)? {
            self.path(target.as_os_str().as_bytes(), link);
        }
        Ok(())
    }

    fn path(&mut self, path: &[u8], link: PathBuf) {
        if let Some(object) = object_used(path, self.directories) {
            self.used.entry(object).or_default().insert(link);
        }
    }

    fn maps(&mut self, file: &Path) -> Result<()> {
        let Some(open) = passed_over(File::open(file), file)? else {
            return Ok(());
        };
        let mut reader = BufReader::new(open);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader)
                .take(MAPS_LINE_MAX_BYTES)
                .read_until(b'\n', &mut line);
            match passed_over(read, file)? {
                None | Some(0) => return Ok(()),
                Some(_) => {}
            }
            if let Some(path) = mapped(line.strip_suffix(b"\n").unwrap_or(&line)) {
                self.path(path, file.to_owned());
            }
        }
    }

    fn text(&mut self, file: &Path) -> Result<()> {
        let Some(open) = passed_over(File::open(file), file)? else {
            return Ok(());
        };
        let used = &mut self.used;
        let done = scan(open, self.directories, |object| {
            used.entry(object).or_default().insert(file.to_owned());
        });
        passed_over(done, file).map(drop)
    }
}

/// Returns the path in a line of `maps`: what follows the columns.
fn mapped(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line;
    for _ in 0..MAPS_COLUMNS {
        let end = rest.trim_ascii_start();
        rest = &end[end.iter().position(|&byte| byte == b' ')?..];
    }
    let path = rest.trim_ascii_start();
    path.starts_with(b"/").then_some(path)
}

/// `None` for what vanished with its process, or is not shown to this user.
fn passed_over<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>> {
    let errno = match result {
        Ok(found) => return Ok(Some(found)),
        Err(why) => Errno::from_io_error(&why).ok_or(why),
    };
    match errno {
        Ok(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => Ok(None),
        Ok(errno) => Err(Error::on("look at", path, io::Error::from(errno))),
        Err(why) => Err(Error::on("look at", path, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_mapping_is_found() {
        let table: &[(&str, Option<&str>)] = &[
            (
                "55d0-55d1 r--p 00000000 fe:01 2621  /nix/store/a b",
                Some("/nix/store/a b"),
            ),
            ("55d0-55d1 r--p 00000000 fe:01 2621", None),
            ("7ffe-7fff rw-p 00000000 00:00 0     [stack]", None),
            ("55d0-55d1 r--p 00000000 fe:01 0 ", None),
            ("", None),
        ];
        for (line, path) in table {
            assert_eq!(mapped(line.as_bytes()), path.map(str::as_bytes), "{line}");
        }
    }
}
