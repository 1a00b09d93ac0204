// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's list of mounts: what was read, written as the kernel does, is read as the same.

use super::one_line;
use overstore::backend::mountinfo::{self as of_backend, Entry};
use overstore_mount::escape::{escape_mount_field, unescape_mount_field};
use overstore_mount::mountinfo::{Line, lines};
use overstore_mount::view::{Backend, Layers, fuse_type, parse_fuse_type, view};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Takes the text of a mountinfo file.
pub(crate) fn mountinfo(data: &[u8]) {
    assert_eq!(unescape_mount_field(&escape_mount_field(data)), data);
    let texts = data.split(|&byte| byte == b'\n');
    let written = texts.filter(|text| !text.is_empty()).count();
    assert_eq!(lines(data).count(), written, "a line was left out");
    let mut bad = false;
    for line in lines(data) {
        match line {
            Ok(line) => line_round_trips(&line),
            Err(_) => bad = true,
        }
    }
    match of_backend::parse(data) {
        Ok(entries) => {
            assert!(!bad, "a line that is none was left out");
            assert_eq!(entries.len(), lines(data).count());
            for entry in &entries {
                view_round_trips(entry);
                let top = of_backend::topmost(&entries, &entry.mount_point);
                assert!(top.is_none_or(|top| top.mount_point == entry.mount_point));
            }
        }
        Err(why) => one_line(&why),
    }
}

fn line_round_trips(line: &Line<'_>) {
    let (id, parent) = (line.id.to_string(), line.parent.to_string());
    let text = [
        id.as_bytes(),
        parent.as_bytes(),
        line.device,
        b"/root",
        line.point,
        line.options,
        b"shared:1",
        b"-",
        line.fs_type,
        line.source,
        line.super_options,
    ]
    .join(&b' ');
    let again: Vec<_> = lines(&text).collect();
    let expected = Line {
        text: &text,
        ..*line
    };
    assert_eq!(again, [Ok(expected)]);
    let point = unescape_mount_field(line.point);
    assert_eq!(unescape_mount_field(&escape_mount_field(&point)), point);
}

fn view_round_trips(entry: &Entry) {
    let Some((backend, layers)) = entry.merged_view() else {
        return;
    };
    let Layers { lower, upper } = &layers;
    let again = match backend {
        Backend::Fuse => {
            let fs_type = fuse_type(lower, upper);
            let named = parse_fuse_type(&fs_type);
            assert_eq!(named, Some((lower.clone(), upper.clone())));
            view(OsStr::new("overlay"), &fs_type, OsStr::new("rw"))
        }
        Backend::Kernel => {
            let overlay = OsStr::new("overlay");
            let text = format!("rw,lowerdir+={},upperdir={},x", octal(lower), octal(upper));
            view(overlay, overlay, &OsString::from(text))
        }
    };
    assert_eq!(again, Some((backend, layers)));
}

/// Writes every byte as the kernel writes those that it must escape.
fn octal(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.map(|byte| format!("\\{byte:03o}")).collect()
}
