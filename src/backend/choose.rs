// SPDX-License-Identifier: MIT OR Apache-2.0
//! Choosing between FUSE and the kernel's OverlayFS: FUSE wherever it works, else the kernel.
//!
//! Decides by the probes alone. Invariants: what is not known to fail is chosen and tried, so that
//! the mount itself has the last word; an option is never left out silently.

use super::kernel::{Choice, refuse_driver_options};
use super::mountinfo::Backend;
use super::probe::{self, Outcome, Space, Trial, Verdict};
use super::{Request, fusermount};
use crate::error::{Error, Result};

/// Who shall serve a view, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The backend.
    pub backend: Backend,
    /// Why this one.
    pub why: String,
    /// Whether it is the second choice.
    second: bool,
}

impl Decision {
    /// Says why: as a warning if it is not FUSE that was chosen.
    pub fn tell(&self) {
        if self.second {
            log::warn!("{self}");
        } else {
            log::info!("{self}");
        }
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let backend = match self.backend {
            Backend::Fuse => "FUSE",
            Backend::Kernel => "the kernel's OverlayFS",
        };
        write!(f, "using {backend}, {}", self.why)
    }
}

/// Decides for `overstore mount` ([`Space::Own`]) or `overstore run` ([`Space::Run`]).
///
/// # Errors
/// Where neither works, with the reasons; where only the kernel works and an option asks for what it
/// does not do.
pub fn decide(choice: Choice, request: &Request, space: Space) -> Result<Decision> {
    let asked = |backend| {
        Ok(Decision {
            backend,
            why: "as asked".to_owned(),
            second: false,
        })
    };
    match choice {
        Choice::Fuse => return asked(Backend::Fuse),
        Choice::Kernel => return asked(Backend::Kernel),
        Choice::Auto => {}
    }
    let fuse = match fuse(request, space) {
        Ok(how) => {
            return Ok(Decision {
                backend: Backend::Fuse,
                why: how,
                second: false,
            });
        }
        Err(why) => why,
    };
    let how = kernel(request, space).map_err(|why| {
        Error::environment(
            "choose a backend",
            format!("FUSE: {fuse}. OverlayFS: {why}"),
        )
    })?;
    let why = format!("as FUSE does not work here: {fuse}; {how}");
    refuse_driver_options(&request.options)
        .map_err(|error| error.hint(format!("FUSE does not work here: {fuse}")))?;
    Ok(Decision {
        backend: Backend::Kernel,
        why,
        second: true,
    })
}

/// How FUSE works here, or why not.
fn fuse(request: &Request, space: Space) -> std::result::Result<String, String> {
    request.layout.fuse_type().map_err(|why| why.to_string())?;
    let device = probe::device();
    if device.outcome == Outcome::No {
        return Err(device.detail);
    }
    let direct = Trial::Fuse(space).verdict();
    if direct.outcome == Outcome::Unknown {
        return Ok(format!("which is not known to fail ({})", direct.detail));
    }
    if direct.outcome == Outcome::Yes {
        return Ok(match space {
            Space::Own => format!("mounted directly ({})", direct.detail),
            Space::Run => format!("mounted in a namespace ({})", direct.detail),
        });
    }
    if space == Space::Run || Trial::Privilege.verdict().outcome == Outcome::Yes {
        return Err(direct.detail);
    }
    // Who may not mount FUSE directly may mount nothing else: the program is the last way, and
    // explains itself when it fails.
    match fusermount::installed() {
        Ok(program) => Ok(format!("mounted through {}", program.display())),
        Err(why) => Err(format!("{}; {why}", direct.detail)),
    }
}

/// How the kernel's OverlayFS takes the layers, or why not.
fn kernel(request: &Request, space: Space) -> std::result::Result<String, String> {
    let layout = &request.layout;
    let refused = |verdict: Verdict| match verdict.outcome {
        Outcome::No => Err(verdict.detail),
        Outcome::Yes | Outcome::Unknown => Ok(verdict.detail),
    };
    refused(Trial::Overlay(space).verdict())?;
    refused(probe::lower(layout, space))?;
    if request.options.attributes.read_only() {
        return Ok("it takes the lower".to_owned());
    }
    refused(probe::upper(layout, space))?;
    Ok("it takes these layers".to_owned())
}
