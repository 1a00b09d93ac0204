// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which changes of names are possible without copying up, whiteouts or opaque marks.
//!
//! Invariant: a change is allowed only if doing it in the upper alone gives exactly the result
//! that the caller asked for; what it uncovers in the lower is part of that result for removal
//! (the lower shows again) and never for a moved directory.

use super::resolve::Resolution;

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It would have to change the lower (EROFS).
    ReadOnly,
    /// It can be done by copying only (EXDEV).
    CrossDevice,
    /// The name is taken, and the kernel does not know yet (ESTALE: it looks again).
    Stale,
}

/// One end of a rename: what is under the name, and what each layer holds there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// What the merged view shows.
    pub shown: Resolution,
    /// Whether the upper's object is a directory.
    pub upper_is_dir: bool,
    /// Whether the upper's object is the character device 0/0.
    pub upper_is_whiteout: bool,
    /// Whether the lower has anything under the name, shown or hidden.
    pub lower_present: bool,
    /// Whether the lower has a directory under the name, shown or hidden.
    pub lower_has_dir: bool,
}

/// May a new object be made in a directory with or without an upper side, under a name that
/// shows `shown`?
pub fn may_make(directory_has_upper: bool, shown: Resolution) -> Result<(), Refusal> {
    match shown {
        Resolution::Absent if directory_has_upper => Ok(()),
        Resolution::Absent => Err(Refusal::ReadOnly),
        Resolution::Upper | Resolution::Lower | Resolution::Merged => Err(Refusal::Stale),
    }
}

/// May the object under a name that shows `shown` be removed from the upper?
pub fn may_remove(shown: Resolution) -> Result<(), Refusal> {
    match shown {
        Resolution::Upper | Resolution::Merged => Ok(()),
        Resolution::Lower => Err(Refusal::ReadOnly),
        Resolution::Absent => Err(Refusal::Stale),
    }
}

/// May `from` be moved to `to` (or both be exchanged) by one rename in the upper?
pub fn may_rename(from: Side, to: Side, exchange: bool) -> Result<(), Refusal> {
    may_leave(from)?;
    may_arrive(from, to)?;
    match to.shown {
        Resolution::Lower => return Err(Refusal::ReadOnly),
        Resolution::Absent | Resolution::Upper | Resolution::Merged => {}
    }
    if exchange {
        may_leave(to)?;
        may_arrive(to, from)?;
    }
    Ok(())
}

fn may_leave(side: Side) -> Result<(), Refusal> {
    match side.shown {
        Resolution::Upper => Ok(()),
        Resolution::Merged => Err(Refusal::CrossDevice),
        Resolution::Lower => Err(Refusal::ReadOnly),
        Resolution::Absent => Err(Refusal::Stale),
    }
}

/// A directory must not begin to merge with a lower one that it has nothing to do with, and a
/// device 0/0 must not become a whiteout.
fn may_arrive(moved: Side, place: Side) -> Result<(), Refusal> {
    if moved.upper_is_whiteout && place.lower_present {
        return Err(Refusal::CrossDevice);
    }
    let merges = moved.upper_is_dir && place.lower_has_dir;
    match place.shown {
        // Replacing an empty merged directory: nothing of the lower can show.
        Resolution::Merged | Resolution::Lower => Ok(()),
        Resolution::Absent | Resolution::Upper if merges => Err(Refusal::CrossDevice),
        Resolution::Absent | Resolution::Upper => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Resolution::{Absent, Lower, Merged, Upper};

    fn side(shown: Resolution, upper_is_dir: bool, lower_has_dir: bool) -> Side {
        Side {
            shown,
            upper_is_dir,
            upper_is_whiteout: false,
            lower_present: lower_has_dir || matches!(shown, Lower | Merged),
            lower_has_dir,
        }
    }

    #[test]
    fn making_wants_a_free_name_and_an_upper_side() {
        assert_eq!(may_make(true, Absent), Ok(()));
        assert_eq!(may_make(false, Absent), Err(Refusal::ReadOnly));
        for shown in [Upper, Lower, Merged] {
            assert_eq!(may_make(true, shown), Err(Refusal::Stale), "{shown:?}");
        }
    }

    #[test]
    fn removing_touches_the_upper_only() {
        assert_eq!(may_remove(Upper), Ok(()));
        assert_eq!(may_remove(Merged), Ok(()));
        assert_eq!(may_remove(Lower), Err(Refusal::ReadOnly));
        assert_eq!(may_remove(Absent), Err(Refusal::Stale));
    }

    #[test]
    fn every_source_of_a_rename() {
        let free = side(Absent, false, false);
        let table = [
            (side(Upper, false, false), Ok(())),
            (side(Upper, true, false), Ok(())),
            (side(Upper, false, true), Ok(())),
            (side(Merged, true, true), Err(Refusal::CrossDevice)),
            (side(Lower, false, false), Err(Refusal::ReadOnly)),
            (side(Lower, false, true), Err(Refusal::ReadOnly)),
            (free, Err(Refusal::Stale)),
        ];
        for (from, expected) in table {
            assert_eq!(may_rename(from, free, false), expected, "{from:?}");
        }
    }

    #[test]
    fn every_target_of_a_rename() {
        let file = side(Upper, false, false);
        let dir = side(Upper, true, false);
        let hidden_dir = side(Absent, false, true);
        assert_eq!(
            may_rename(file, side(Lower, false, false), false),
            Err(Refusal::ReadOnly)
        );
        assert_eq!(may_rename(file, side(Upper, false, false), false), Ok(()));
        assert_eq!(may_rename(file, hidden_dir, false), Ok(()));
        assert_eq!(
            may_rename(dir, hidden_dir, false),
            Err(Refusal::CrossDevice)
        );
        assert_eq!(
            may_rename(dir, side(Upper, false, true), false),
            Err(Refusal::CrossDevice)
        );
        assert_eq!(may_rename(dir, side(Merged, true, true), false), Ok(()));
    }

    #[test]
    fn a_zero_device_never_becomes_a_whiteout() {
        let device = Side {
            upper_is_whiteout: true,
            ..side(Upper, false, false)
        };
        let duplicate = Side {
            lower_present: true,
            ..side(Upper, false, false)
        };
        assert_eq!(
            may_rename(device, side(Absent, false, false), false),
            Ok(())
        );
        assert_eq!(
            may_rename(device, duplicate, false),
            Err(Refusal::CrossDevice)
        );
        assert_eq!(
            may_rename(duplicate, device, true),
            Err(Refusal::CrossDevice)
        );
    }

    #[test]
    fn an_exchange_checks_both_ways() {
        let file = side(Upper, false, false);
        let dir = side(Upper, true, false);
        let over_dir = side(Upper, false, true);
        assert_eq!(may_rename(file, dir, true), Ok(()));
        assert_eq!(
            may_rename(file, side(Merged, true, true), true),
            Err(Refusal::CrossDevice)
        );
        assert_eq!(may_rename(over_dir, dir, true), Err(Refusal::CrossDevice));
    }
}
