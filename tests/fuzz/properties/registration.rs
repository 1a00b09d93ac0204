// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registration texts: what was read, written again, is read as the same, in either form.

use super::{one_line, store_dir};
use overstore::store::derivation::Malformed;
use overstore::store::registration::{Form, Parser, Registration};

/// Takes a registration text.
pub(crate) fn registration(data: &[u8]) {
    for form in [Form::WithHashes, Form::WithoutHashes] {
        match parse(data, form) {
            Ok(registrations) => {
                let mut printed = Vec::new();
                for registration in &registrations {
                    registration.write(&store_dir(), &mut printed);
                    assert_eq!(registration.nar.is_some(), form == Form::WithHashes);
                }
                let again = parse(&printed, form).unwrap_or_else(|why| panic!("{why}"));
                assert_eq!(again, registrations);
            }
            Err(why) => {
                assert!(why.at <= data.split(|byte| *byte == b'\n').count());
                one_line(&why);
            }
        }
    }
}

fn parse(text: &[u8], form: Form) -> Result<Vec<Registration>, Malformed> {
    let dir = store_dir();
    let mut parser = Parser::new(&dir, form);
    let mut found = Vec::new();
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    if !text.is_empty() {
        for line in whole.split(|byte| *byte == b'\n') {
            found.extend(parser.line(line)?);
        }
    }
    parser.finish().map(|()| found)
}
