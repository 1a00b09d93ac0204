// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths as OverlayFS wants them written: `:` parts lowers, `,` options, and `\` escapes both.

use crate::escape::escape_with_backslash;
use crate::request::{Markers, Request};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn escaped(path: &Path, special: &[u8]) -> Vec<u8> {
    escape_with_backslash(path.as_os_str().as_bytes(), special)
}

/// Returns the lower for the new mount API.
pub(crate) fn lower_value(path: &Path) -> Vec<u8> {
    escaped(path, br":\")
}

/// Returns the upper or the work directory for the new mount API.
pub(crate) fn upper_value(path: &Path) -> Vec<u8> {
    escaped(path, br"\")
}

/// Returns the option string of mount(2).
pub(crate) fn option_string(request: &Request) -> Vec<u8> {
    let mut text = b"lowerdir=".to_vec();
    text.extend(escaped(&request.lower, br":,\"));
    text.extend(b",upperdir=");
    text.extend(escaped(&request.upper, br",\"));
    text.extend(b",workdir=");
    text.extend(escaped(&request.work, br",\"));
    add_settings(&mut text, request.markers);
    text
}

/// Returns the option string of mount(2) for two lowers, the first on top.
pub(crate) fn lowers_string(first: &Path, second: &Path, markers: Markers) -> Vec<u8> {
    let mut text = b"lowerdir=".to_vec();
    text.extend(escaped(first, br":,\"));
    text.push(b':');
    text.extend(escaped(second, br":,\"));
    add_settings(&mut text, markers);
    text
}

fn add_settings(text: &mut Vec<u8>, markers: Markers) {
    for (name, value) in settings(markers) {
        text.push(b',');
        text.extend(name.as_bytes());
        if let Some(value) = value {
            text.push(b'=');
            text.extend(value.as_bytes());
        }
    }
}

/// The options besides the directories. `userxattr` implies the missing ones, and refuses them.
pub(crate) fn settings(markers: Markers) -> &'static [(&'static str, Option<&'static str>)] {
    match markers {
        Markers::Trusted => &[
            ("index", Some("off")),
            ("redirect_dir", Some("off")),
            ("metacopy", Some("off")),
            ("xino", Some("auto")),
        ],
        Markers::User => &[
            ("index", Some("off")),
            ("xino", Some("auto")),
            ("userxattr", None),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Attributes;

    #[test]
    fn option_string_escapes_what_the_kernel_unescapes() {
        let request = Request {
            lower: r"/a:b,c\d".into(),
            upper: "/u:v".into(),
            work: "/w".into(),
            merged: "/m".into(),
            markers: Markers::User,
            attributes: Attributes::default(),
        };
        assert_eq!(
            option_string(&request),
            br"lowerdir=/a\:b\,c\\d,upperdir=/u:v,workdir=/w,index=off,xino=auto,userxattr"
        );
    }

    #[test]
    fn the_new_interface_needs_no_comma_escaped() {
        assert_eq!(lower_value(Path::new(r"/a:b,c\d")), br"/a\:b,c\\d");
        assert_eq!(upper_value(Path::new(r"/a:b,c\d")), br"/a:b,c\\d");
    }
}
