// SPDX-License-Identifier: MIT OR Apache-2.0
//! Option lists: two programs read them, and must understand the same.

use super::helper_options::{self, Options, joined};
use super::{env, one_line};
use overstore::layout::{Layout, MountOptions, parse_options};
use overstore_mount::escape::{
    escape_option_value, split_options, split_unescaped, unescape_option_value,
};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Takes the arguments of several `-o`, one a line.
pub(crate) fn options(data: &[u8]) {
    values_round_trip(data);
    let lists: Vec<OsString> = data
        .split(|&byte| byte == b'\n')
        .map(|list| OsString::from_vec(list.to_vec()))
        .collect();
    let sloppy = helper_options::read(&lists, true);
    match helper_options::read(&lists, false) {
        Ok(options) => {
            assert!(options.forgiven.is_empty());
            assert_eq!(sloppy.as_ref(), Ok(&options), "-s changes what is known");
            both_read_the_same(&options);
            prints_as_it_was_read(&options);
        }
        Err(why) => {
            one_line(&why);
            let program = parse_options(&lists);
            assert!(
                program.is_err(),
                "overstore knows what the helper does not: {why}"
            );
        }
    }
    if let Err(why) = sloppy {
        one_line(&why);
    }
    if let Err(why) = parse_options(&lists) {
        one_line(&why);
    }
}

/// Any bytes can be a value, and are one value.
fn values_round_trip(data: &[u8]) {
    let text = escape_option_value(data);
    assert_eq!(unescape_option_value(&text).as_deref(), Ok(data));
    assert_eq!(split_unescaped(&text, b',').len(), 1);
    assert_eq!(split_unescaped(&text, b':').len(), 1);
    let parts = split_options(data);
    assert_eq!(split_options(&parts.join(&b',')), parts);
}

fn by_program(list: OsString) -> Option<(Layout, MountOptions)> {
    match Layout::from_mount_options(&[list], Path::new("/m"), &env()) {
        Ok(read) => Some(read),
        Err(why) => {
            one_line(&why);
            None
        }
    }
}

/// What the helper hands on is to the program what it was to the helper.
fn both_read_the_same(options: &Options) {
    let Some((layout, mount)) = by_program(joined(&options.passed)) else {
        // Values of the driver's own options are left to the program.
        return;
    };
    assert_eq!(mount.attributes, options.attributes);
    let (lower, upper) = (options.lower.as_ref(), options.upper.as_ref());
    let absolute = |path: &PathBuf| path.is_absolute() && !has_dots(path);
    for (read, given) in [
        (Some(&layout.lower), lower),
        (Some(&layout.upper), upper),
        (layout.work.as_ref(), options.work.as_ref()),
    ] {
        assert_eq!(read.is_some(), given.is_some());
        if let Some(given) = given.filter(|path| absolute(path)) {
            assert_eq!(read, Some(given));
        }
    }
}

fn has_dots(path: &Path) -> bool {
    path.as_os_str()
        .as_bytes()
        .split(|&byte| byte == b'/')
        .any(|part| part == b".." || part == b".")
}

/// The layers, written as an option list, are read as the layers.
fn prints_as_it_was_read(options: &Options) {
    let mut list = Vec::new();
    for (name, path) in [
        ("lowerdir=", &options.lower),
        ("upperdir=", &options.upper),
        ("workdir=", &options.work),
    ] {
        if let Some(path) = path {
            list.extend(name.as_bytes());
            list.extend(escape_option_value(path.as_os_str().as_bytes()));
            list.push(b',');
        }
    }
    let words: Vec<&str> = options.attributes.words().collect();
    list.extend(b"suid,dev,");
    list.extend(words.join(",").as_bytes());
    let again = helper_options::read(&[OsString::from_vec(list.clone())], false)
        .unwrap_or_else(|why| panic!("{}: {why}", list.escape_ascii()));
    assert_eq!(
        (&again.lower, &again.upper, &again.work, again.attributes),
        (
            &options.lower,
            &options.upper,
            &options.work,
            options.attributes
        )
    );
    let before = by_program(joined(&options.passed)).map(|(layout, _)| layout);
    let after = by_program(OsString::from_vec(list)).map(|(layout, _)| layout);
    if before.is_some() {
        assert_eq!(before, after);
    }
}
