// SPDX-License-Identifier: MIT OR Apache-2.0
//! Store paths inside other text: a path that leads into an object, and any bytes.
//!
//! Invariant: only the text counts: nothing is looked up, and no link is followed.

use crate::store::{HASH_PART_BYTES, NAME_PART_MAX_BYTES, ObjectName};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest name of an object.
const NAME_MAX_BYTES: usize = HASH_PART_BYTES + 1 + NAME_PART_MAX_BYTES;
/// What the kernel adds to the path of a file that has been removed.
const DELETED: &[u8] = b" (deleted)";
const CHUNK_BYTES: usize = 64 << 10;

/// Returns the object of the store directory `directory` to or into which `path` leads.
pub(super) fn object_of(path: &Path, directory: &Path) -> Option<ObjectName> {
    let below = below(path.as_os_str().as_bytes(), directory)?;
    ObjectName::parse(below.split(|&byte| byte == b'/').next()?).ok()
}

/// Likewise for a path as `/proc` shows it, and several store directories.
pub(super) fn object_used(path: &[u8], directories: &[PathBuf]) -> Option<ObjectName> {
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    directories
        .iter()
        .find_map(|directory| object_of(path, directory))
}

fn below<'p>(path: &'p [u8], directory: &Path) -> Option<&'p [u8]> {
    path.strip_prefix(directory.as_os_str().as_bytes())?
        .strip_prefix(b"/")
}

/// Calls `each` with every object whose path below one of `directories` is spelled in what `reader`
/// gives, however long that is.
pub(super) fn scan(
    mut reader: impl Read,
    directories: &[PathBuf],
    mut each: impl FnMut(ObjectName),
) -> io::Result<()> {
    let longest = directories.iter().map(|one| one.as_os_str().len()).max();
    // A spelling that starts before the end of one chunk may end in the next, with the byte after it.
    let overlap = longest.unwrap_or(0) + 1 + NAME_MAX_BYTES + 1;
    let mut text = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match reader.read(&mut chunk) {
            Err(why) if why.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        text.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let whole = if read == 0 {
            text.len()
        } else {
            text.len().saturating_sub(overlap)
        };
        for at in (0..whole).filter(|&at| text[at] == b'/') {
            directories
                .iter()
                .filter_map(|one| name_at(&text[at..], one))
                .for_each(&mut each);
        }
        if read == 0 {
            return Ok(());
        }
        text.drain(..whole);
    }
}

/// Returns the object whose path below `directory` `text` begins with; its name ends where no name
/// can go on.
fn name_at(text: &[u8], directory: &Path) -> Option<ObjectName> {
    let rest = below(text, directory)?;
    let of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(byte);
    let end = rest
        .iter()
        .position(|byte| !of_a_name(byte))
        .unwrap_or(rest.len());
    ObjectName::parse(&rest[..end]).ok()
}
