// SPDX-License-Identifier: MIT OR Apache-2.0
//! A daemon's bytes: whatever it says, the client neither panics nor takes in more than was said.

use overstore::metadata::lower::daemon::wire::PIECE;
use overstore::metadata::lower::daemon::{Connection, Failure};
use overstore::store::{ObjectName, Outputs, StoreDir};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::Path;

/// Takes the number of a question, and what the daemon says from its greeting on.
pub(crate) fn worker(data: &[u8]) {
    let Some((&question, said)) = data.split_first() else {
        return;
    };
    match Connection::greet(Said {
        rest: said,
        sent: 0,
    }) {
        Ok(mut connection) => {
            // Twice, since an error leaves the connection as it was.
            for question in [question, question.wrapping_add(1)] {
                let failed = ask(&mut connection, question, said.len());
                match failed {
                    Ok(()) | Err(Failure::Refused(_) | Failure::TooOld { .. }) => {}
                    Err(other) => return fits(&other, said.len()),
                }
            }
        }
        Err(failure) => fits(&failure, said.len()),
    }
}

fn ask(connection: &mut Connection<Said<'_>>, question: u8, said: usize) -> Result<(), Failure> {
    let dir = StoreDir::new(Path::new("/nix/store")).expect("it is absolute");
    let text = b"bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-a.drv";
    let name = ObjectName::parse(text).expect("it is a name");
    let names = BTreeSet::from([name.clone()]);
    match question % 10 {
        0 => connection.is_valid(&dir, &name).map(drop),
        1 => connection.path_info(&dir, &name).map(|info| {
            let info = info.map_or(0, |info| {
                let texts: usize = info.signatures.iter().map(String::len).sum();
                texts + bytes(&info.references)
            });
            assert!(info <= said, "more than was said");
        }),
        2 => connection
            .referrers(&dir, &name)
            .map(|found| smaller(&found, said)),
        3 => connection
            .valid_derivers(&dir, &name)
            .map(|found| smaller(&found, said)),
        4 => connection.outputs(&dir, &name).map(|found: Outputs| {
            let texts = found
                .iter()
                .map(|(output, name)| output.len() + name.as_str().len());
            assert!(texts.sum::<usize>() <= said, "more than was said");
        }),
        5 => connection
            .with_hash_part(&dir, name.hash_part())
            .map(|found| {
                assert!(found.is_none_or(|found| found.hash_part() == name.hash_part()));
            }),
        6 => connection
            .all_valid(&dir)
            .map(|found| smaller(&found, said)),
        7 => connection
            .valid_among(&dir, &names)
            .map(|found| assert!(found.is_subset(&names))),
        8 => connection.add_temp_root(&dir, &name),
        _ => connection.is_valid(&dir, &name).map(drop),
    }
}

fn smaller(names: &BTreeSet<ObjectName>, said: usize) {
    assert!(bytes(names) <= said, "more than was said");
}

fn bytes(names: &BTreeSet<ObjectName>) -> usize {
    names.iter().map(|name| name.as_str().len()).sum()
}

/// An error says little, and on one line.
fn fits(failure: &Failure, said: usize) {
    if let Failure::Refused(why) | Failure::Nonsense(why) = failure {
        super::one_line(why);
        assert!(why.len() <= 4 * said + 2000);
    }
}

/// A daemon that has said everything before it is asked, but tells one piece at a time: a client
/// that read on would find what it had not asked for.
#[derive(Debug)]
struct Said<'a> {
    rest: &'a [u8],
    sent: usize,
}

impl Read for Said<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        assert!(
            bytes.len() <= PIECE,
            "it makes room for {} bytes",
            bytes.len()
        );
        let size = bytes.len().min(8);
        self.rest.read(&mut bytes[..size])
    }
}

impl Write for Said<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
