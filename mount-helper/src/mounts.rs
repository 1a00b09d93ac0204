// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's list of mounts, as far as it is needed here.

use crate::fault::{Fault, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    pub(crate) point: PathBuf,
    /// The type, with its subtype.
    pub(crate) fs_type: String,
    pub(crate) source: Vec<u8>,
    /// The upper directory, of an overlay of the kernel.
    pub(crate) upper: Option<PathBuf>,
}

impl Mount {
    /// Whether it is a merged view that Nix would know: `"kernel"`, `"FUSE"` or none.
    pub(crate) fn view(&self) -> Option<&'static str> {
        if self.source != b"overlay" {
            return None;
        }
        if self.fs_type.starts_with("fuse.overstore,") {
            return Some("FUSE");
        }
        (self.fs_type == "overlay").then_some("kernel")
    }
}

/// Reads the mounts of this process's mount namespace.
pub(crate) fn read() -> Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")
        .map_err(|why| Fault::system(format!("read /proc/self/mountinfo: {why}; mount /proc")))?;
    let lines = text.split(|&byte| byte == b'\n');
    Ok(lines.filter_map(parse).collect())
}

/// `36 35 98:0 /root /point options tag:1 - type source super`: tags vary in number.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = path(fields.nth(3)?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = fields.next()?.escape_ascii().to_string();
    let source = unescape(fields.next()?);
    let mut options = fields.next()?.split(|&byte| byte == b',');
    let upper = options.find_map(|option| option.strip_prefix(b"upperdir=".as_slice()));
    Some(Mount {
        id,
        point,
        upper: upper.filter(|_| fs_type == "overlay").map(path),
        fs_type,
        source,
    })
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// Undoes the kernel's `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let value = digits.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match value {
            Some(value) => {
                plain.push(value);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_points_and_uppers_as_they_are() {
        let line = br"40 1 0:35 / /m\040x rw shared:1 - overlay overlay rw,lowerdir=/l,upperdir=/u\054v,workdir=/w";
        let mount = parse(line).expect("a good line");
        assert_eq!(mount.id, 40);
        assert_eq!(mount.point, PathBuf::from("/m x"));
        assert_eq!(mount.upper, Some(PathBuf::from("/u,v")));
        assert_eq!(mount.view(), Some("kernel"));
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"x 1 0:35 / /m rw - a b c"), None);
        assert_eq!(parse(b"1 1 0:35 / /m rw shared:1"), None);
    }
}
