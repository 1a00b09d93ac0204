// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text that `nix-store --dump-db` writes and `--load-db` and `--register-validity` read.
//!
//! Decides about lines that somebody else has read. Invariant: what an entry takes in memory follows
//! from the lines that were given, never from a number in them.

use super::derivation::Malformed;
use super::dir::StoreDir;
use super::hash::{Algorithm, Hash, Sha256};
use super::name::ObjectName;
use super::path_info::PathInfo;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether hashes and sizes are in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// They are, as in a dump of a database.
    WithHashes,
    /// They are to be computed.
    WithoutHashes,
}

/// What the text says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The object.
    pub name: ObjectName,
    /// The digest and the size of its NAR, if the form has them.
    pub nar: Option<(Sha256, u64)>,
    /// The derivation that made it, where known.
    pub deriver: Option<ObjectName>,
    /// What it refers to.
    pub references: BTreeSet<ObjectName>,
}

/// Makes registrations of lines, which are given one after another.
#[derive(Debug)]
pub struct Parser<'a> {
    dir: &'a StoreDir,
    form: Form,
    /// How many lines were given.
    lines: usize,
    entry: Option<Entry>,
}

/// An entry that was begun.
#[derive(Debug)]
struct Entry {
    registration: Registration,
    expected: Expected,
}

/// What the next line of an entry is.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Digest,
    Size(Sha256),
    Deriver,
    Count,
    /// So many references more.
    References(u64),
}

impl Registration {
    /// Returns what the text says of `info`: its time, signatures and content address are lost.
    pub fn of(info: &PathInfo, form: Form) -> Registration {
        Registration {
            name: info.name.clone(),
            nar: (form == Form::WithHashes).then_some((info.nar_hash, info.nar_size)),
            deriver: info.deriver.clone(),
            references: info.references.clone(),
        }
    }

    /// Appends its lines to `text`. A dump of a whole store has the objects in order.
    pub fn write(&self, dir: &StoreDir, text: &mut Vec<u8>) {
        let path = |text: &mut Vec<u8>, name: &ObjectName| {
            text.extend_from_slice(dir.store_path(name).as_os_str().as_bytes());
            text.push(b'\n');
        };
        path(text, &self.name);
        if let Some((digest, size)) = self.nar {
            text.extend_from_slice(format!("{}\n{size}\n", digest.hex()).as_bytes());
        }
        match &self.deriver {
            Some(deriver) => path(text, deriver),
            None => text.push(b'\n'),
        }
        text.extend_from_slice(format!("{}\n", self.references.len()).as_bytes());
        for reference in &self.references {
            path(text, reference);
        }
    }
}

impl<'a> Parser<'a> {
    /// Begins to read a text of this form, with paths in `dir`.
    pub fn new(dir: &'a StoreDir, form: Form) -> Parser<'a> {
        Parser {
            dir,
            form,
            lines: 0,
            entry: None,
        }
    }

    /// Takes one line, without its line break; returns an object once its last line was given.
    ///
    /// # Errors
    /// The position in [`Malformed`] is the number of the line, from 1.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Registration>, Malformed> {
        self.lines += 1;
        let Some(mut entry) = self.entry.take() else {
            self.entry = Some(self.begin(line)?);
            return Ok(None);
        };
        entry.expected = match entry.expected {
            Expected::Digest => Expected::Size(self.digest(line)?),
            Expected::Size(digest) => {
                entry.registration.nar = Some((digest, self.number(line)?));
                Expected::Deriver
            }
            Expected::Deriver => {
                if !line.is_empty() {
                    entry.registration.deriver = Some(self.path(line)?);
                }
                Expected::Count
            }
            Expected::Count => Expected::References(self.number(line)?),
            Expected::References(left) => {
                let reference = self.path(line)?;
                entry.registration.references.insert(reference);
                Expected::References(left - 1)
            }
        };
        if matches!(entry.expected, Expected::References(0)) {
            return Ok(Some(entry.registration));
        }
        self.entry = Some(entry);
        Ok(None)
    }

    /// Checks that the text does not end within an entry.
    pub fn finish(self) -> Result<(), Malformed> {
        match self.entry {
            None => Ok(()),
            Some(_) => Err(self.wrong("the text ends within an entry")),
        }
    }

    fn begin(&self, line: &[u8]) -> Result<Entry, Malformed> {
        let registration = Registration {
            name: self.path(line)?,
            nar: None,
            deriver: None,
            references: BTreeSet::new(),
        };
        let expected = match self.form {
            Form::WithHashes => Expected::Digest,
            Form::WithoutHashes => Expected::Deriver,
        };
        Ok(Entry {
            registration,
            expected,
        })
    }

    fn path(&self, line: &[u8]) -> Result<ObjectName, Malformed> {
        let parsed = self.dir.parse(Path::new(OsStr::from_bytes(line)));
        match parsed {
            Some(Ok(name)) => Ok(name),
            _ => Err(self.wrong("this should be a store path")),
        }
    }

    fn digest(&self, line: &[u8]) -> Result<Sha256, Malformed> {
        let text = std::str::from_utf8(line).ok();
        let hash = text.and_then(|text| match text.contains([':', '-']) {
            true => Hash::parse(text),
            false => Hash::parse_digits(Algorithm::Sha256, text),
        });
        let digest = hash.and_then(|hash| Sha256::try_from(&hash).ok());
        digest.ok_or_else(|| self.wrong("this should be a SHA-256 hash"))
    }

    fn number(&self, line: &[u8]) -> Result<u64, Malformed> {
        let digits = line.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(line).ok().filter(|_| digits);
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.wrong("this should be a number"))
    }

    fn wrong(&self, why: &'static str) -> Malformed {
        Malformed {
            at: self.lines,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `nix-store --dump-db`.
    const DUMP: &str = "\
/nix/store/00000000000000000000000000000002-b
26b331d03746efc50855f77253ee8d072aa801b4fb9b53f4ea0ae2a470cf8dd1
160
/nix/store/wz50fnv3dk544vdhwdr18vs3q4qql16r-top.drv
1
/nix/store/00000000000000000000000000000004-d
/nix/store/00000000000000000000000000000003-c
ef0422d37a99ed8edc2f7827550c44ccca7ffc2c7ef5423e72edfbf0ac0cfa79
160

2
/nix/store/00000000000000000000000000000003-c
/nix/store/00000000000000000000000000000004-d
/nix/store/00000000000000000000000000000004-d
2bd814b0ba760a21c95e4e6a4d053ee4fd95f554c6a851db099b2ccc24491dbd
160

0
";

    fn dir() -> StoreDir {
        StoreDir::new(Path::new("/nix/store")).unwrap()
    }

    fn parse(text: &str, form: Form) -> Result<Vec<Registration>, Malformed> {
        let dir = dir();
        let mut parser = Parser::new(&dir, form);
        let mut found = Vec::new();
        for line in text.lines() {
            found.extend(parser.line(line.as_bytes())?);
        }
        parser.finish().map(|()| found)
    }

    fn print(registrations: &[Registration]) -> String {
        let mut text = Vec::new();
        for registration in registrations {
            registration.write(&dir(), &mut text);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_dump_of_nix_round_trips() {
        let found = parse(DUMP, Form::WithHashes).unwrap();
        assert_eq!(print(&found), DUMP);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].nar.unwrap().1, 160);
        assert_eq!(found[0].deriver.as_ref().unwrap().name_part(), "top.drv");
        assert!(found[1].references.contains(&found[1].name));
    }

    #[test]
    fn the_form_without_hashes() {
        let text = "/nix/store/00000000000000000000000000000004-d\n\n1\n\
                    /nix/store/00000000000000000000000000000003-c\n";
        let found = parse(text, Form::WithoutHashes).unwrap();
        assert_eq!(print(&found), text);
        assert_eq!(found[0].nar, None);
        assert!(parse(text, Form::WithHashes).is_err());
        assert_eq!(parse("", Form::WithoutHashes), Ok(Vec::new()));
    }

    #[test]
    fn an_info_is_written_in_either_form() {
        let found = parse(DUMP, Form::WithHashes).unwrap().remove(1);
        let (digest, size) = found.nar.unwrap();
        let mut info = PathInfo::new(found.name.clone(), digest, size);
        info.references = found.references.clone();
        assert_eq!(Registration::of(&info, Form::WithHashes), found);
        assert_eq!(Registration::of(&info, Form::WithoutHashes).nar, None);
    }

    #[test]
    fn hashes_may_be_in_any_spelling_and_references_in_any_order() {
        let found = parse(DUMP, Form::WithHashes).unwrap();
        let (digest, _) = found[0].nar.unwrap();
        for other in [digest.to_string(), digest.base32(), digest.sri()] {
            let text = DUMP.replace(&digest.hex(), &other);
            assert_eq!(parse(&text, Form::WithHashes).as_ref(), Ok(&found));
        }
        let [c, d] = ["3-c", "4-d"].map(|end| format!("/nix/store/{:0>31}{end}\n", ""));
        let text = DUMP.replace(&format!("2\n{c}{d}"), &format!("2\n{d}{c}"));
        assert_ne!(text, DUMP);
        assert_eq!(parse(&text, Form::WithHashes), Ok(found));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, at) in [
            ("160", "-160", 3),
            ("160", "+160", 3),
            ("160", "", 3),
            ("160", "99999999999999999999", 3),
            ("26b3", "26b", 2),
            ("/nix/store/wz50", "/other/wz50", 4),
            ("\n1\n", "\n18446744073709551615\n", 8),
            ("\n2\n", "\n1\n", 14),
        ] {
            let text = DUMP.replacen(from, to, 1);
            assert_eq!(parse(&text, Form::WithHashes).unwrap_err().at, at, "{to}");
        }
        let cut = &DUMP[..DUMP.len() - 2];
        let wrong = parse(cut, Form::WithHashes).unwrap_err();
        assert_eq!(wrong.why, "the text ends within an entry");
    }
}
