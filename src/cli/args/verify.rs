// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of verification.

use clap::Args;
use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;

/// Tells whether files and rows of a store agree, and mends what does not
///
/// Every row of the upper database has its object in the merged view; nothing without a row hides an
/// object of the lower; references lead somewhere. Rows of objects that disappeared, and that nothing
/// needs, are removed, as `nix-store --verify` does. Collectors wait meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    overstore verify --store 'local-overlay://?...' --check-contents\n  \
    overstore verify --check-contents --repair --from file:///backup/cache\n  \
    overstore verify --lower --check-contents --json\n\n\
    EXIT CODES\n  0 no fault is left, 1 faults are left, 2 wrong usage, 3 the machine refused or\n  \
    something could not be looked at, 4 a database is corrupt")]
pub(in crate::cli) struct VerifyArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// These objects alone
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// Reads every object, and compares its hash with that of its row
    #[arg(long)]
    pub(in crate::cli) check_contents: bool,
    /// Puts good objects in the place of bad ones
    ///
    /// Where the lower has a good copy, what hides it in the upper is removed. The lower itself is
    /// never changed: a good copy of a bad lower object goes into the upper.
    #[arg(long)]
    pub(in crate::cli) repair: bool,
    /// Another store that may have good copies: a path, local://, daemon, unix:// or file://
    ///
    /// May be repeated. The word lower stands for the lower store, which is always tried first.
    #[arg(long, value_name = "STORE-URL", requires = "repair")]
    pub(in crate::cli) from: Vec<OsString>,
    /// Looks at the lower store's own rows as well
    #[arg(long)]
    pub(in crate::cli) lower: bool,
    /// Changes nothing: no row is removed, nothing is mended
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Prints what was found as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// How many objects are read at once (as many as there are processors)
    #[arg(long, value_name = "N")]
    pub(in crate::cli) threads: Option<NonZero<u16>>,
}
