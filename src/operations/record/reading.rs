// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an object is: its archive, its references, and what a derivation says of itself.
//!
//! Invariant: nothing is read of an object that is not complete and quiet.

use super::Recorder;
use super::candidates::QUIET;
use crate::error::{Error, Kind, Result};
use crate::nar::{Look, Place, Scanner, look};
use crate::operations::{read_file, scan::scan};
use crate::store::derivation::{Derivation, is_derivation};
use crate::store::{Algorithm, ContentAddress, Method, ObjectName, Outputs, PathInfo, make};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the names have that somebody who makes the object of the name before it uses meanwhile.
const OTHERS: [&str; 3] = [".lock", ".chroot", ".check"];

/// The objects that another one may refer to.
#[derive(Debug)]
pub(super) struct Known {
    /// The valid ones of both layers.
    pub(super) valid: BTreeSet<ObjectName>,
    /// The names at the top of the upper, valid or not.
    pub(super) unfinished: BTreeSet<ObjectName>,
}

impl Known {
    /// Returns all of them. A lock has the hash of the object that it is for, and is none.
    fn candidates(&self) -> impl Iterator<Item = ObjectName> {
        let is_other = |name: &ObjectName| {
            let own = OTHERS
                .iter()
                .find_map(|end| name.as_str().strip_suffix(end));
            own.is_some_and(|own| ObjectName::is_valid(own.as_bytes()))
        };
        let unfinished = self.unfinished.iter().filter(move |name| !is_other(name));
        let unfinished = unfinished.filter(|name| !self.valid.contains(*name));
        self.valid.iter().chain(unfinished).cloned()
    }
}

/// An object as it was when it was looked at.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: ObjectName,
    look: Look,
}

/// Looks at an object.
pub(super) fn see(place: &Place<'_>, name: &ObjectName, owners: &[u32]) -> Result<Seen> {
    Ok(Seen {
        name: name.clone(),
        look: look(place, owners)?,
    })
}

impl Seen {
    /// Whether all of it is canonical.
    pub(super) fn is_complete(&self) -> bool {
        self.look.fault.is_none()
    }

    /// Whether the object itself is not, whatever is in it.
    pub(super) fn top_is_open(&self) -> bool {
        self.look.fault.as_ref().is_some_and(|fault| fault.at_top)
    }

    /// Whether nothing has happened to it since `before`.
    pub(super) fn is_still(&self, before: &Seen) -> bool {
        self.look == before.look
    }

    /// How long it has to rest; `None` if it is quiet.
    pub(super) fn rests_for(&self) -> Option<Duration> {
        let (seconds, nanoseconds) = self.look.changed;
        let since = Duration::new(u64::try_from(seconds).ok()?, nanoseconds.try_into().ok()?);
        // A time to come tells nothing; that it stays the same while it is read does.
        let age = SystemTime::now().duration_since(UNIX_EPOCH + since).ok()?;
        QUIET.checked_sub(age).filter(|rest| !rest.is_zero())
    }

    /// Returns why it is not canonical.
    pub(super) fn fault(&self, subject: &str) -> Error {
        let why = match &self.look.fault {
            Some(fault) => format!("{}: {}", fault.path.display(), fault.why),
            None => "it is being changed".to_owned(),
        };
        Error::usage(subject, why).hint(
            "files have mode 0444 or 0555, directories 0555, all time 1 and the store's owner: \
             mend that, and then touch the object itself",
        )
    }
}

/// An object that was read.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) info: PathInfo,
    pub(super) outputs: Outputs,
    pub(super) seen: Seen,
}

impl Recorder {
    /// Reads a complete object.
    pub(super) fn read(&self, seen: Seen, scanner: &Scanner) -> Result<Object> {
        let name = &seen.name;
        let subject = self.subject(name);
        let place = self.place(name)?;
        let mut info = scan(&place, name, scanner.clone(), &self.interrupt, &subject)?;
        let outputs = match is_derivation(name) {
            true => self.derivation(&mut info)?,
            false => Outputs::new(),
        };
        Ok(Object {
            info,
            outputs,
            seen,
        })
    }

    /// Takes from the text of a derivation what it refers to, which fixes its name; returns the
    /// outputs with known paths.
    fn derivation(&self, info: &mut PathInfo) -> Result<Outputs> {
        let name = info.name.clone();
        let path = self.layout.upper.join(name.as_str());
        let text = read_file(self.upper.as_fd(), name.as_str(), &path)?;
        let refused = |why: String| {
            Error::new(Kind::Corrupt, self.subject(&name), why)
                .hint("instantiate it again where it came from")
        };
        let derivation = Derivation::parse(&self.dir, &text);
        let derivation = derivation.map_err(|why| refused(format!("no derivation: {why}")))?;
        let inputs = derivation.input_derivations.keys();
        info.references = inputs.chain(&derivation.input_sources).cloned().collect();
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(&text);
        info.ca = Some(ContentAddress {
            method: Method::Text,
            hash: hasher.finish(),
        });
        if make::reproduces(&self.dir, info) == Some(false) {
            return Err(refused("its content leads to another name".to_owned()));
        }
        Ok(derivation.known_outputs())
    }
}

impl Known {
    /// Returns what finds references to them.
    pub(super) fn scanner(&self) -> Scanner {
        Scanner::new(self.candidates())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectName {
        ObjectName::parse(format!("{}-{name}", "0".repeat(32)).as_bytes()).unwrap()
    }

    #[test]
    fn locks_are_no_candidates() {
        let known = Known {
            valid: [object("Cargo.lock")].into(),
            unfinished: ["a", "a.lock", "b.drv.chroot", "Cargo.lock"]
                .map(object)
                .into(),
        };
        let candidates: BTreeSet<_> = known.candidates().collect();
        assert_eq!(candidates, ["Cargo.lock", "a"].map(object).into());
    }
}
