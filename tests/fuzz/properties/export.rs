// SPDX-License-Identifier: MIT OR Apache-2.0
//! Export streams: what was read, written again, is read as the same.

use super::one_line;
use overstore::error::Result;
use overstore::nar::{self, Discard, ExportReader, ExportWriter, Exported, Input, Writer};
use overstore::store::{PathInfo, StoreDir};
use std::io::Write;
use std::path::Path;

/// Takes a stream, with anything after it.
pub(crate) fn export(data: &[u8]) {
    let (objects, rest) = match read(data, true) {
        Err(why) => return one_line(&why),
        Ok(read) => read,
    };
    let again = write(&objects);
    let taken = data.len() - rest;
    assert!(again.len() <= taken, "it has grown");
    if again.len() == taken {
        assert!(again == data[..taken], "written again it is not the same");
    }
    // Signatures are left out.
    let (same, rest) = read(&again, true).unwrap_or_else(|why| panic!("{why}"));
    assert!(same == objects && rest == 0);
    assert!(read(data, false).is_ok_and(|(same, _)| same.len() == objects.len()));
}

type Object = (Exported, Vec<u8>);

fn store() -> StoreDir {
    StoreDir::new(Path::new("/nix/store")).expect("it is absolute")
}

/// Reads every object, with its archive or without, and tells how many bytes follow the stream.
fn read(data: &[u8], archives: bool) -> Result<(Vec<Object>, usize)> {
    let mut reader = ExportReader::new(data, "stream", store());
    let mut objects = Vec::new();
    loop {
        let mut writer = Writer::new(Vec::new(), "archive")?;
        let next = if archives {
            reader.next_object(&mut writer)?
        } else {
            reader.next_object(&mut Discard)?
        };
        let Some(next) = next else {
            return Ok((objects, reader.into_inner().len()));
        };
        let archive = if archives {
            writer.finish()?
        } else {
            Vec::new()
        };
        if archives {
            let size = nar::read(&mut Input::new(&archive[..], "archive"), &mut Discard)?;
            assert_eq!(size, next.nar_size);
        }
        objects.push((next, archive));
    }
}

fn write(objects: &[Object]) -> Vec<u8> {
    let mut writer = ExportWriter::new(Vec::new(), "stream", store());
    for (object, archive) in objects {
        let mut info = PathInfo::new(object.name.clone(), object.nar_hash, object.nar_size);
        info.references.clone_from(&object.references);
        info.deriver.clone_from(&object.deriver);
        let dump = |out: &mut dyn Write| {
            out.write_all(archive).expect("memory takes everything");
            Ok(())
        };
        let written = writer.object_by(&info, dump);
        written.unwrap_or_else(|why| panic!("{why}"));
    }
    writer.finish().expect("memory takes everything")
}
