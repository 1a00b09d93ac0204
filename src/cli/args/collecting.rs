// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of what removes objects.

use crate::operations::gc::Keep;
use clap::{ArgAction, Args};
use std::ffi::OsString;
use std::path::PathBuf;

/// Deletes what no root leads to, from the upper; nothing of the lower is ever touched
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    overstore gc --store 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u'\n  \
    overstore gc --dry-run\n  \
    overstore gc --max-freed 10G --dry-run\n  \
    overstore gc --print-roots\n\n\
    Nix may work on the store meanwhile: both keep what the other is about to use.\n\
    What the upper has is collected, and what its database says; the lower is not even listed, so\n\
    --print-dead tells objects of the upper alone (Nix also lists those of the lower).\n\
    docs/collecting.md tells more, and what the JSON means.\n\n\
    EXIT CODES\n  0 done, 2 wrong usage, 3 the machine refused or it was interrupted, 4 corrupt data")]
pub(in crate::cli) struct GcArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// Prints the roots, `LINK -> PATH`; deletes nothing
    #[arg(long, group = "action")]
    pub(in crate::cli) print_roots: bool,
    /// Prints what is alive; deletes nothing
    #[arg(long, group = "action")]
    pub(in crate::cli) print_live: bool,
    /// Prints what is dead; deletes nothing
    #[arg(long, group = "action")]
    pub(in crate::cli) print_dead: bool,
    /// Tells what would be deleted, within --max-freed, and how much that would free; changes nothing
    #[arg(long, group = "action")]
    pub(in crate::cli) dry_run: bool,
    /// Stops when more than this is free: bytes, or with K, M, G, T behind powers of 1024
    #[arg(long, value_name = "N", value_parser = bytes,
        conflicts_with_all = ["print_roots", "print_live", "print_dead"])]
    pub(in crate::cli) max_freed: Option<u64>,
    /// A live derivation keeps its outputs (Nix's `keep-outputs`)
    #[arg(long)]
    keep_outputs: bool,
    /// A live object does not keep the derivation that made it (Nix's `keep-derivations = false`)
    #[arg(long = "no-keep-derivations", action = ArgAction::SetFalse)]
    keep_derivations: bool,
    /// Prints JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

impl GcArgs {
    pub(in crate::cli) fn keep(&self) -> Keep {
        Keep {
            outputs: self.keep_outputs,
            derivations: self.keep_derivations,
        }
    }
}

/// Deletes these objects from the upper, all or none of them
///
/// What is alive stays, and the reason is told. Of an object that the lower has as well the upper's
/// copy goes, and the lower's shows again.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    overstore delete --store 'local-overlay://?...' /nix/store/...-hello\n  \
    overstore delete --dry-run ./result\n\n\
    EXIT CODES\n  0 done, 1 one of them is alive, belongs to the lower, or is not there; 2 wrong usage,\n  \
    3 the machine refused or it was interrupted, 4 corrupt data")]
pub(in crate::cli) struct DeleteArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// Store paths, paths below the merged directory, or symlinks to those
    #[arg(required = true, value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// Roots do not count; what others refer to, or a process is about to use, stays all the same
    #[arg(long)]
    pub(in crate::cli) ignore_liveness: bool,
    /// Tells whether they may go; deletes nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Prints JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Removes from the upper what the lower has too, and makes equal files one
///
/// A copy goes only where the lower's object is valid and both databases tell the same hash. Equal
/// files of the rest become hard links, through `.links`, as Nix's `auto-optimise-store` makes them.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    overstore optimise --store 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u'\n\n\
    EXIT CODES\n  0 done, 1 an object of the upper has another content in the lower (it stays), 2 wrong\n  \
    usage, 3 the machine refused or it was interrupted, 4 corrupt data")]
pub(in crate::cli) struct OptimiseArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// Prints JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Reads a number of bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 1_u64 << 40),
        _ => (text, 1),
    };
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.then(|| digits.parse::<u64>().ok()).flatten();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "write digits, with K, M, G or T behind them for powers of 1024".to_owned())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("12"), Ok(12));
        assert_eq!(bytes("2k"), Ok(2048));
        assert_eq!(bytes("3T"), Ok(3 << 40));
        for wrong in [
            "",
            "K",
            "-1",
            "+1",
            "1KB",
            "99999999999999999999",
            "99999999T",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
