// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives: what is accepted has one spelling, however it comes.

use super::one_line;
use overstore::nar::{self, Discard, Fan, Input, NarHasher, Tee, Writer};
use overstore::store::Sha256;
use std::io::{self, Read};

/// Takes an archive, with anything after it.
pub(crate) fn nar(data: &[u8]) {
    let mut writer = Writer::new(Vec::new(), "archive").expect("memory takes everything");
    let read = nar::read(&mut Input::new(data, "archive"), &mut writer);
    let slowly = slowly(data);
    assert_eq!(read.as_ref().ok(), slowly.as_ref().map(|(size, _)| size));
    match read {
        Err(why) => one_line(&why),
        Ok(size) => {
            let again = writer.finish().expect("what was read is complete");
            let size = usize::try_from(size).expect("it was in memory");
            assert!(again == data[..size], "written again it is not the same");
            let whole = (Sha256::of(&again), size as u64);
            assert_eq!(slowly.map(|(_, hash)| hash), Some(whole));
        }
    }
}

/// Reads from a reader that gives three bytes at a time, hashing on the way.
fn slowly(data: &[u8]) -> Option<(u64, (Sha256, u64))> {
    let tee = Tee::new(Three(data), Fan(NarHasher::new(), io::sink()));
    let mut input = Input::new(tee, "archive");
    let size = nar::read(&mut input, &mut Discard).ok()?;
    let (_, Fan(hasher, _)) = input
        .into_inner()
        .finish()
        .expect("nothing fails in memory");
    Some((size, hasher.finish()))
}

struct Three<'a>(&'a [u8]);

impl Read for Three<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(3);
        self.0.read(&mut buffer[..len])
    }
}
