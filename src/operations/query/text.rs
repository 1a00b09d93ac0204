// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text of a derivation, as the layers of a store have it, mounted or not.

use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::metadata::open_regular;
use crate::store::ObjectName;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// No derivation is this large; the greatest known ones have some MiB.
const LARGEST: u64 = 64 << 20;

/// Reads the file `name` from the upper directory, or else from the lower.
pub fn read_text(layout: &Layout, name: &ObjectName) -> Result<Vec<u8>> {
    for layer in [&layout.upper, &layout.lower] {
        if let Some(text) = read_in(&layer.join(name.as_str()))? {
            return Ok(text);
        }
    }
    let what = format!(
        "read derivation {}",
        layout.store_dir.join(name.as_str()).display()
    );
    let why = "it is valid, but neither layer has it";
    Err(Error::new(Kind::Corrupt, what, why).hint("overstore verify tells what else is missing"))
}

/// Reads a file; `None` if it is not there.
fn read_in(path: &Path) -> Result<Option<Vec<u8>>> {
    let wrong = |why: &dyn std::fmt::Display| Error::on("read derivation", path, why);
    match path.symlink_metadata() {
        // A symlink would lead to what this object is not.
        Ok(found) if !found.is_file() => return Err(wrong(&"it is not a regular file")),
        Ok(_) => {}
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(wrong(&why)),
    }
    let file = open_regular(path).map_err(|why| wrong(&why))?;
    let mut text = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut text);
    read.map_err(|why| wrong(&why))?;
    if text.len() as u64 > LARGEST {
        return Err(wrong(&format!("it has more than {LARGEST} bytes")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{LayoutEnv, Probe};
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_upper_comes_first() {
        let home = tempfile::tempdir().unwrap();
        let [lower, upper] = ["l", "u"].map(|layer| home.path().join(layer));
        for layer in [&lower, &upper] {
            fs::create_dir(layer).unwrap();
        }
        let list = format!("lowerdir={},upperdir={}", lower.display(), upper.display());
        let probe = Probe {
            usable: |_| true,
            exists: |_| true,
        };
        let env = LayoutEnv::new([], home.path().to_owned(), false, probe);
        let merged = home.path().join("m");
        let (layout, _) = Layout::from_mount_options(&[list.into()], &merged, &env).unwrap();
        let file = "00000000000000000000000000000007-m.drv";
        let name = ObjectName::parse(file.as_bytes()).unwrap();

        let why = read_text(&layout, &name).unwrap_err();
        assert_eq!(why.kind(), Kind::Corrupt);
        fs::write(lower.join(file), "lower").unwrap();
        assert_eq!(read_text(&layout, &name), Ok(b"lower".to_vec()));
        fs::write(upper.join(file), "upper").unwrap();
        assert_eq!(read_text(&layout, &name), Ok(b"upper".to_vec()));
        fs::remove_file(upper.join(file)).unwrap();
        symlink(lower.join(file), upper.join(file)).unwrap();
        let why = read_text(&layout, &name).unwrap_err();
        assert!(
            why.to_string().ends_with("it is not a regular file"),
            "{why}"
        );
    }
}
