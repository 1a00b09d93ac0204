// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of what adds to a store.

use super::exit_codes;
use crate::store::{Algorithm, Method};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Which store.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    nix-store --dump-db | overstore load-db --store 'local-overlay://?...'",
    exit_codes!()
))]
pub(in crate::cli) struct StoreUrlArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
}

/// A store, and links to what is added.
#[derive(Debug, Args)]
pub(in crate::cli) struct RootedArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// Makes LINK a link to the object, which keeps it from being collected; LINK-2 to the second
    /// one, and so on
    #[arg(long, value_name = "LINK")]
    pub(in crate::cli) add_root: Option<PathBuf>,
}

/// What fixes the name of what is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Mode {
    /// Its NAR: files, modes and links
    Nar,
    /// The content of one file
    Flat,
    /// The content of one file that is text
    Text,
}

impl From<Mode> for Method {
    fn from(mode: Mode) -> Method {
        match mode {
            Mode::Nar => Method::Nar,
            Mode::Flat => Method::Flat,
            Mode::Text => Method::Text,
        }
    }
}

/// Adds files and trees to a store
///
/// Prints the store path of each. What the store has already, in its upper or its lower layer, is not
/// written again. The view must be mounted.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    overstore add --store 'local-overlay://?...' ./src\n  \
    overstore add --mode flat --hash-algo sha1 --name source.tar ./download\n  \
    overstore add --add-root ./result ./src",
    exit_codes!()
))]
pub(in crate::cli) struct AddArgs {
    #[command(flatten)]
    pub(in crate::cli) at: RootedArgs,
    /// The name part of the store path, for one file; without it that of the file
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,
    /// What of it fixes its store path
    #[arg(long, value_enum, default_value = "nar")]
    pub(in crate::cli) mode: Mode,
    /// By which hash
    #[arg(long, value_name = "HASH", default_value = "sha256",
          value_parser = ["md5", "sha1", "sha256", "sha512"])]
    hash_algo: String,
    /// A store path to which what is added refers; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) reference: Vec<PathBuf>,
    /// Adds nothing, only prints the store paths
    #[arg(long, conflicts_with = "add_root")]
    pub(in crate::cli) dry_run: bool,
    /// The files and trees
    #[arg(required = true, value_name = "FILE")]
    pub(in crate::cli) files: Vec<PathBuf>,
}

impl AddArgs {
    /// Returns the hash that was named.
    pub(in crate::cli) fn algorithm(&self) -> Algorithm {
        Algorithm::parse(&self.hash_algo).unwrap_or(Algorithm::Sha256)
    }
}

/// Adds the objects of an export stream, which is read from standard input
///
/// The stream is that of `nix-store --export` and of `overstore export`. Prints the store path of each
/// object. What they refer to must come before them, or be valid in the upper or the lower store.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    nix-store --export $(nix-store -qR PATH) | overstore import --store 'local-overlay://?...'",
    exit_codes!()
))]
pub(in crate::cli) struct ImportArgs {
    #[command(flatten)]
    pub(in crate::cli) at: RootedArgs,
    /// Takes signatures of the objects, which a stream has none of, from what path-info --json prints
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) signatures: Option<PathBuf>,
    /// Public keys whose signatures count where the store URL says require-sigs=true
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub(in crate::cli) trusted_public_keys: String,
}

/// Writes objects to standard output, as a stream that `import` takes
///
/// The stream is that of `nix-store --export`. What the objects refer to is not in it unless it is
/// named too.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    overstore export --store 'local-overlay://?...' /nix/store/...-a /nix/store/...-b >stream",
    exit_codes!()
))]
pub(in crate::cli) struct ExportArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// The objects
    #[arg(required = true, value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
}

/// Copies metadata of the lower store into the upper database
///
/// With the metadata of each object comes that of all it needs. Files stay where they are.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  overstore copy-up --store 'local-overlay://?...' /nix/store/...-hello",
    exit_codes!()
))]
pub(in crate::cli) struct ManyArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// The objects
    #[arg(required = true, value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
}

/// Writes what the upper database says of its objects
///
/// The text is that of `nix-store --dump-db`. It has no content addresses and no signatures.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  overstore dump-db --store 'local-overlay://?...' >dump",
    exit_codes!()
))]
pub(in crate::cli) struct DumpDbArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// These objects alone, of the upper or the lower store
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
}

/// Registers objects that are in place
///
/// Reads the text of `nix-store --register-validity` from standard input, makes the objects canonical
/// and registers them all at once.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    printf '%s\\n\\n0\\n' /nix/store/...-a | overstore register --store 'local-overlay://?...'",
    exit_codes!()
))]
pub(in crate::cli) struct RegisterArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// The text has the hash and size of each object, which are taken on trust
    #[arg(long)]
    pub(in crate::cli) hash_given: bool,
    /// Registers objects anew that are valid already
    #[arg(long)]
    pub(in crate::cli) reregister: bool,
}

/// Makes objects valid that were put into the merged store by hand
///
/// Each is made canonical, read for references to valid objects and to each other, and registered;
/// all at once. Prints their store paths.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    cp -r out /m/nix/store/...-hello\n  \
    overstore seal --store 'local-overlay://?...' /nix/store/...-hello",
    exit_codes!()
))]
pub(in crate::cli) struct SealArgs {
    #[command(flatten)]
    pub(in crate::cli) at: RootedArgs,
    /// The objects
    #[arg(required = true, value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
}

/// Signs objects
///
/// The signatures go to the upper database; those that an object has stay.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    nix-store --generate-binary-cache-key NAME ./secret ./public\n  \
    overstore sign --store 'local-overlay://?...' --key-file ./secret /nix/store/...-hello",
    exit_codes!()
))]
pub(in crate::cli) struct SignArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// The file with the secret key
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) key_file: PathBuf,
    /// The objects
    #[arg(required = true, value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
}
