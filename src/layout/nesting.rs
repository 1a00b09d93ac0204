// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of a layout's directories may lie inside which, by their names alone.
//!
//! Symlinks and bind mounts can still make two names one directory: `backend` looks at the
//! directories themselves. Merged on top of lower is allowed, since the layers are opened before
//! the mount covers them.

use super::{Layout, LowerStore};
use crate::error::{Error, Result};
use std::path::Path;

/// One directory with its name in messages.
#[derive(Clone, Copy)]
struct Role<'a> {
    name: &'a str,
    path: &'a Path,
}

impl<'a> Role<'a> {
    fn new(name: &'a str, path: &'a Path) -> Role<'a> {
        Role { name, path }
    }
}

const OWN_DIRECTORY: &str = "each layer needs a directory of its own";
const BESIDE_UPPER: &str = "put it beside the upper, on the same filesystem";
const STATE_ELSEWHERE: &str = "a store directory holds store objects only; set state=DIR";

pub(super) fn check(layout: &Layout) -> Result<()> {
    let lower = Role::new("lower directory", &layout.lower);
    let upper = Role::new("upper directory", &layout.upper);
    let merged = Role::new("merged directory", &layout.merged);
    apart(lower, upper, OWN_DIRECTORY)?;
    outside(
        merged,
        upper,
        "Nix removes duplicates straight from the upper, so keep it reachable",
    )?;
    outside(upper, merged, "the mount would hide the upper from Nix")?;
    if lower.path != merged.path {
        outside(
            merged,
            lower,
            "mount it elsewhere, or on the lower directory itself",
        )?;
        outside(lower, merged, "the mount would hide the lower from Nix")?;
    }
    if let Some(work) = &layout.work {
        let work = Role::new("work directory", work);
        apart(work, upper, BESIDE_UPPER)?;
        apart(work, lower, BESIDE_UPPER)?;
        outside(work, merged, BESIDE_UPPER)?;
    }
    if let Some(state) = &layout.state {
        let state = Role::new("state directory", state);
        for directory in [upper, lower, merged] {
            outside(state, directory, STATE_ELSEWHERE)?;
        }
    }
    check_lower_layers(upper, &layout.lower_store)
}

/// Keeps the upper apart from the layers of a lower that is an overlay store itself.
fn check_lower_layers(upper: Role<'_>, lower_store: &LowerStore) -> Result<()> {
    let LowerStore::Overlay(inner) = lower_store else {
        return Ok(());
    };
    let inner_upper = Role::new("upper directory of the lower store", &inner.upper);
    let inner_lower = Role::new("lower directory of the lower store", &inner.lower);
    apart(upper, inner_upper, OWN_DIRECTORY)?;
    apart(upper, inner_lower, OWN_DIRECTORY)?;
    check_lower_layers(upper, &inner.lower_store)
}

fn apart(one: Role<'_>, other: Role<'_>, hint: &str) -> Result<()> {
    outside(one, other, hint)?;
    outside(other, one, hint)
}

/// Refuses `inner` if it is `outer` or lies inside it.
fn outside(inner: Role<'_>, outer: Role<'_>, hint: &str) -> Result<()> {
    if !inner.path.starts_with(outer.path) {
        return Ok(());
    }
    let relation = if inner.path == outer.path {
        "is"
    } else {
        "lies inside"
    };
    let what = format!("{} {}", inner.name, super::shown(inner.path));
    let why = format!("{relation} the {} {}", outer.name, super::shown(outer.path));
    Err(Error::usage(what, why).hint(hint))
}

#[cfg(test)]
mod tests {
    use crate::layout::LowerStore;
    use crate::layout::tests::overlay;
    use std::path::PathBuf;

    #[test]
    fn judges_every_pair() {
        let table = [
            ("/l", "/u", "/m", true),
            ("/l", "/u", "/l", true),
            ("/a/l", "/a/u", "/a/m", true),
            ("/a", "/ab", "/abc", true),
            ("/a", "/a", "/m", false),
            ("/a", "/a/u", "/m", false),
            ("/u/l", "/u", "/m", false),
            ("/l", "/u", "/u", false),
            ("/l", "/u", "/u/m", false),
            ("/l", "/m/u", "/m", false),
            ("/m/l", "/u", "/m", false),
            ("/l", "/u", "/l/m", false),
            ("/l", "/l/u", "/l", false),
        ];
        for (lower, upper, merged, good) in table {
            let checked = overlay(lower, upper, merged).check_nesting();
            assert_eq!(
                checked.is_ok(),
                good,
                "{lower} {upper} {merged}: {checked:?}"
            );
        }
    }

    #[test]
    fn work_and_state_stay_outside() {
        for (bad, good) in [
            ("/u", "/u2"),
            ("/u/w", "/w"),
            ("/l/w", "/uw"),
            ("/m/w", "/mw"),
        ] {
            let mut layout = overlay("/l", "/u", "/m");
            layout.work = Some(PathBuf::from(bad));
            assert!(layout.check_nesting().is_err(), "work {bad}");
            layout.work = Some(PathBuf::from(good));
            assert_eq!(layout.check_nesting(), Ok(()), "work {good}");
            layout.state = Some(PathBuf::from(bad));
            assert!(layout.check_nesting().is_err(), "state {bad}");
        }
    }

    #[test]
    fn layers_of_a_lower_overlay_are_layers_too() {
        let mut layout = overlay("/m1", "/u1/x", "/m2");
        layout.lower_store = LowerStore::Overlay(Box::new(overlay("/l", "/u1", "/m1")));
        let error = layout.check_nesting().unwrap_err().to_string();
        assert_eq!(
            error,
            "upper directory /u1/x: lies inside the upper directory of the lower store /u1; \
             each layer needs a directory of its own"
        );
    }
}
