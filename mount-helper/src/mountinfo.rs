// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of the kernel's list of mounts.
//!
//! Invariant: fields are the kernel's own bytes, still escaped; reading the list touches no mount.

use std::io;

/// The list of the calling process's mount namespace.
pub const PATH: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// All of it.
    pub text: &'a [u8],
    /// The mount id, which `statx` tells as well.
    pub id: u64,
    /// The id of the mount this one stands on.
    pub parent: u64,
    /// Major and minor number of the filesystem, with a colon between.
    pub device: &'a [u8],
    /// Where it is mounted, relative to the process's root.
    pub point: &'a [u8],
    /// Options of this mount.
    pub options: &'a [u8],
    /// The filesystem type, with its subtype.
    pub fs_type: &'a [u8],
    /// The source.
    pub source: &'a [u8],
    /// Options of the filesystem.
    pub super_options: &'a [u8],
}

/// Reads the text of the list.
pub fn read() -> io::Result<Vec<u8>> {
    std::fs::read(PATH)
}

/// Splits the text of the list; a line that is not understood is returned as it is.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Result<Line<'_>, &[u8]>> {
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).ok_or(line))
}

/// `36 35 98:0 /root /point options tag:1 - type source super`: tags vary in number.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = fields.next()?;
    let mut fields = fields.skip(1);
    let point = fields.next()?;
    let options = fields.next()?;
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    Some(Line {
        text: line,
        id,
        parent,
        device,
        point,
        options,
        fs_type: fields.next()?,
        source: fields.next()?,
        super_options: fields.next().unwrap_or_default(),
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::{escape_mount_field, unescape_mount_field};
    use proptest::prelude::*;

    #[test]
    fn lines_that_are_none_are_told_apart() {
        let text =
            b"1 1 0:35 / /m rw - a b c\n\nx 1 0:35 / /m rw - a b c\n1 1 0:35 / /m rw shared:1";
        let found: Vec<_> = lines(text)
            .map(|line| line.map(|line| line.point))
            .collect();
        let bad: [&[u8]; 2] = [b"x 1 0:35 / /m rw - a b c", b"1 1 0:35 / /m rw shared:1"];
        assert_eq!(found, [Ok(&b"/m"[..]), Err(bad[0]), Err(bad[1])]);
    }

    proptest! {
        #[test]
        fn any_point_survives_the_kernels_escapes(
            name in proptest::collection::vec(1u8..=255, 1..40),
            tags in 0usize..3,
        ) {
            let mut text = b"36 35 98:0 / ".to_vec();
            text.extend(escape_mount_field(&name));
            text.extend(b" rw,noatime ");
            text.extend(b"master:1 ".repeat(tags));
            text.extend(b"- ext4 /dev/x rw\n");
            let points: Vec<_> = lines(&text).map(|line| line.map(|line| unescape_mount_field(line.point))).collect();
            prop_assert_eq!(points, [Ok(name)]);
        }
    }
}
