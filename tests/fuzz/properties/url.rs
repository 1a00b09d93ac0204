// SPDX-License-Identifier: MIT OR Apache-2.0
//! Store URLs: what was read, written again, is read as the same.

use super::{env, one_line};
use overstore::layout::{Layout, escape_option_value};
use overstore::store::percent::{self, encode_query_value};
use overstore::store::{StoreReference, Target};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Takes a store URL.
pub(crate) fn url(data: &[u8]) {
    assert_eq!(
        percent::decode(encode_query_value(data).as_bytes()).as_deref(),
        Ok(data)
    );
    let printed = match StoreReference::parse(data, Path::new("/cwd")) {
        Ok(reference) => {
            let printed = print(&reference);
            let again = StoreReference::parse(printed.as_bytes(), Path::new("/elsewhere"));
            let again = again.unwrap_or_else(|why| panic!("{printed}: {why}"));
            assert_eq!(again.target, reference.target, "{printed}");
            assert_eq!(again.settings, reference.settings, "{printed}");
            assert!(again.notes.is_empty(), "{printed}");
            for note in &reference.notes {
                one_line(note);
            }
            printed
        }
        Err(why) => return one_line(&why),
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Layout::from_url(text, &env()) {
        Ok((layout, warnings)) => {
            warnings.iter().for_each(one_line);
            let again = Layout::from_url(&printed, &env()).map(|(layout, _)| layout);
            assert_eq!(again.as_ref(), Ok(&layout), "{printed}");
            survives_options(&layout);
        }
        Err(why) => one_line(&why),
    }
}

fn print(reference: &StoreReference) -> String {
    let base = match &reference.target {
        Target::Auto => "auto".to_owned(),
        Target::Scheme { scheme, path } => format!("{scheme}://{}", percent::encode(path, b"/")),
    };
    let settings: Vec<String> = reference
        .settings
        .iter()
        .map(|(name, value)| format!("{}={}", encode_query_value(name), encode_query_value(value)))
        .collect();
    match &settings[..] {
        [] => base,
        settings => format!("{base}?{}", settings.join("&")),
    }
}

/// The layers of a URL can be given as mount options, and by the type of the mount.
fn survives_options(layout: &Layout) {
    let escaped = |path: &Path| escape_option_value(path.as_os_str().as_bytes());
    let list = [
        b"lowerdir=".as_slice(),
        &escaped(&layout.lower),
        b",upperdir=",
        &escaped(&layout.upper),
    ]
    .concat();
    let list = [OsString::from_vec(list)];
    let (again, _) = Layout::from_mount_options(&list, &layout.merged, &env())
        .unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(
        (&again.lower, &again.upper, &again.merged),
        (&layout.lower, &layout.upper, &layout.merged)
    );
    if let Ok(fs_type) = layout.fuse_type() {
        let named = overstore::layout::parse_fuse_type(&fs_type);
        assert_eq!(named, Some((layout.lower.clone(), layout.upper.clone())));
    }
}
