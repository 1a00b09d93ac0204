// SPDX-License-Identifier: MIT OR Apache-2.0
//! What may be written on the command line, and the help that says so.

pub(super) mod adding;
pub(super) mod collecting;
pub(super) mod query;
pub(super) mod verify;

use crate::backend::kernel::Choice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// The last part of each command's help.
macro_rules! exit_codes {
    () => {
        "\n\nEXIT CODES\n  0 done, 1 the answer is no, 2 wrong usage, 3 the machine refused, \
         4 corrupt data"
    };
}
use exit_codes;

/// Presents a Nix local overlay store as one merged store directory
#[derive(Debug, Parser)]
#[command(
    name = "overstore",
    version,
    max_term_width = 100,
    after_help = "EXIT CODES\n  0  done\n  1  asked, and the answer is no\n  2  wrong usage\n  \
        3  the machine refused (device, permission, I/O)\n  4  corrupt data\n  \
        `overstore run` ends as its command does, with 125, 126 or 127 for its own failures.\n\n\
        ENVIRONMENT\n  OVERSTORE_STORE  the store URL, where none is given (then NIX_REMOTE)\n  \
        OVERSTORE_LOG    what to log: error, warn, info, debug\n  \
        NO_COLOR         no colours"
)]
pub(super) struct Arguments {
    /// Logs what happens; twice: every step
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mounts the merged view of a store and returns once it is mounted
    Mount(MountArgs),
    /// Unmounts a merged view
    #[command(alias = "unmount")]
    Umount(UmountArgs),
    /// Runs a command that sees the merged view at the store directory, without any privilege
    Run(RunArgs),
    /// Shows which merged views are mounted, from which layers, and who serves them
    Status(StatusArgs),
    /// Tells what this machine and a layout allow, what is wrong with the layout, and what mends it
    Check(CheckArgs),
    /// Compares what the FUSE driver and the kernel's OverlayFS show for one store
    Compare(CompareArgs),
    /// Tells whether files and rows of a store agree, and mends what does not
    Verify(verify::VerifyArgs),
    /// Adds files and trees to a store
    Add(adding::AddArgs),
    /// Adds the objects of an export stream, which is read from standard input
    Import(adding::ImportArgs),
    /// Writes objects to standard output, as a stream that `import` takes
    Export(adding::ExportArgs),
    /// Copies metadata of the lower store into the upper database
    CopyUp(adding::ManyArgs),
    /// Writes what the upper database says of its objects
    DumpDb(adding::DumpDbArgs),
    /// Registers what a dump says of objects that are in place
    LoadDb(adding::StoreUrlArgs),
    /// Registers objects that are in place
    Register(adding::RegisterArgs),
    /// Makes objects valid that were put into the merged store by hand
    Seal(adding::SealArgs),
    /// Signs objects
    Sign(adding::SignArgs),
    Gc(collecting::GcArgs),
    Delete(collecting::DeleteArgs),
    #[command(alias = "optimize")]
    Optimise(collecting::OptimiseArgs),
    /// Tells what the store knows of objects: hash, size, references, deriver, signatures
    PathInfo(query::PathInfoArgs),
    /// Answers one question about objects, as `nix-store --query` does
    Query(query::QueryArgs),
    /// Waits until every change of the layers is visible in the merged view
    ///
    /// A view of the kernel's OverlayFS is refreshed in place: what somebody has open stays as it was.
    /// The program `overstore-sync` does the same in the shape of Nix's `remount-hook`.
    #[command(after_help = concat!("EXAMPLES\n  overstore sync /m/nix/store", exit_codes!()))]
    Sync {
        /// The merged directory
        merged: PathBuf,
    },
    /// Lets removed lower objects be replaced by good ones, or ends that
    ///
    /// While repair is on, what is removed from the lower through the merged view is hidden, and a
    /// good object can be put in its place: that is what `nix-store --verify --repair` does. The
    /// lower itself is never changed. What was hidden and not replaced shows again when repair is
    /// switched off or the driver ends; `overstore status` lists it. Root may switch it, and the
    /// user who serves the view.
    #[command(after_help = concat!(
        "EXAMPLES\n  overstore repair on /m/nix/store\n  \
        nix-store --store 'local-overlay://?...' --verify --check-contents --repair\n  \
        overstore repair off /m/nix/store",
        exit_codes!()
    ))]
    Repair {
        /// What to switch it to
        #[arg(value_enum)]
        switch: Switch,
        /// The merged directory
        merged: PathBuf,
    },
    /// Tries one thing that a probe wants to know
    #[command(hide = true)]
    Try {
        /// What
        what: String,
        /// On which directories
        paths: Vec<PathBuf>,
    },
    /// Asks one driver for its status
    #[command(hide = true)]
    Probe {
        /// The merged directory
        merged: PathBuf,
    },
}

/// Waits until every change of the layers is visible in the merged view
///
/// This is `overstore sync` in the shape of a `remount-hook`, which Nix runs with the store
/// directory as its only argument after it removed duplicates from the upper layer. Views of
/// overstore need no hook, since such changes show by themselves within milliseconds; with this
/// one they show before Nix goes on.
#[derive(Debug, Parser)]
#[command(
    name = "overstore-sync",
    version,
    max_term_width = 100,
    after_help = concat!(
        "EXAMPLES\n  overstore-sync /m/nix/store\n  \
        local-overlay://?root=/m&...&remount-hook=/usr/local/bin/overstore-sync",
        exit_codes!()
    )
)]
pub(super) struct HookArgs {
    /// The merged directory
    pub(super) merged: PathBuf,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// What is removed of the lower is hidden
    On,
    /// What was hidden shows again; removing it is refused
    Off,
}

/// Who serves a merged view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendChoice {
    /// FUSE wherever it works, else the kernel's OverlayFS
    Auto,
    /// The FUSE driver
    Fuse,
    /// The kernel's OverlayFS
    Kernel,
}

impl From<BackendChoice> for Choice {
    fn from(choice: BackendChoice) -> Choice {
        match choice {
            BackendChoice::Auto => Choice::Auto,
            BackendChoice::Fuse => Choice::Fuse,
            BackendChoice::Kernel => Choice::Kernel,
        }
    }
}

/// Which store.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// Mount options, comma-separated; may be repeated, later ones win
    ///
    /// lowerdir=DIR, upperdir=DIR, workdir=DIR  the layers, instead of a store URL;
    /// ro  refuse every change;
    /// xattr  pass extended attributes through;
    /// repair  let removed lower objects be replaced (see `overstore repair`);
    /// record  register objects that were completed through the view by hand (mount alone);
    /// lower-ttl=SECONDS  how long to trust names in layers that cannot be watched (1);
    /// watch=off  do not watch the layers: somebody changes them whom this machine does not see;
    /// allow_other, noallow_other  whether other users may enter (wherever permitted);
    /// nix-check=off  mount although Nix's check-mount cannot match the paths.
    #[arg(short, long = "options", value_name = "OPTIONS", verbatim_doc_comment)]
    pub(super) options: Vec<OsString>,
}

/// Mounts the merged view of a store and returns once it is mounted.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    overstore mount 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u'\n  \
    overstore mount -o lowerdir=/l/nix/store,upperdir=/u /m/nix/store\n\n\
    Give Nix the same URL (NIX_REMOTE, --store): it finds the store mounted as it wants it.\n\
    Root and root of a user namespace mount by themselves, plain users through fusermount3.",
    exit_codes!()
))]
pub(super) struct MountArgs {
    /// A store URL (local-overlay://...), or with -o lowerdir=... the directory to mount on
    #[arg(value_name = "STORE-URL | MERGED")]
    pub(super) target: Option<OsString>,
    /// With a URL: the directory it names, if that is to be said again
    #[arg(value_name = "MERGED")]
    pub(super) merged: Option<OsString>,
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Who serves the view; only root and root of a user namespace may ask the kernel
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) backend: BackendChoice,
    /// Passes over options that the chosen backend does not have, as `mount -s`
    #[arg(long)]
    pub(super) sloppy: bool,
    /// Checks everything, says which backend would serve, mounts nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Stays in the foreground; ends at unmount, SIGTERM, SIGINT or SIGHUP
    #[arg(short, long)]
    pub(super) foreground: bool,
    /// The serving half of a mount in the background
    #[arg(long, hide = true)]
    pub(super) background: bool,
}

/// Unmounts a merged view.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  overstore umount /m/nix/store\n  ",
    "overstore umount --lazy /m/nix/store     # in use: detach now, end with the last user\n  ",
    "overstore umount --force /m/nix/store    # its driver hangs: whoever waits gets an error",
    exit_codes!()
))]
pub(super) struct UmountArgs {
    /// Detaches it although it is in use; the driver ends when the last user has gone
    #[arg(short, long)]
    pub(super) lazy: bool,
    /// Ends the connection to a driver that hangs, then detaches it: whoever waits gets an error
    #[arg(short, long, conflicts_with = "lazy")]
    pub(super) force: bool,
    /// The merged directory
    #[arg(required = true)]
    pub(super) merged: PathBuf,
}

/// Runs a command that sees the merged view at the store directory.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    overstore run 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u' -- ls /nix/store\n  \
    overstore run -o lowerdir=/l/nix/store,upperdir=/u -- bash\n  \
    NIX_REMOTE='local-overlay://?...' overstore run -- nix path-info --all\n\n\
    The view stands in a private mount namespace (for a plain user: and user namespace), so no\n\
    other process sees it, and nothing is left when the last process in it ends. The command\n\
    keeps process id, terminal, working directory, environment and user.\n\n\
    EXIT CODES\n  the command's own; 125 own failure, 126 cannot execute, 127 not found")]
pub(super) struct RunArgs {
    /// A store URL; without it -o, $OVERSTORE_STORE or $NIX_REMOTE tell the store
    #[arg(value_name = "STORE-URL")]
    pub(super) url: Option<OsString>,
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Who serves the view
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) backend: BackendChoice,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// Shows which merged views are mounted.
#[derive(Debug, Args)]
#[command(
    after_help = "JSON\n  An array with one object for each view (with MERGED: of that one \
    alone). Keys are never\n  removed or changed in meaning; new ones may come.\n  \
    merged, lower, upper  paths; an array of byte values where a path is not UTF-8\n  \
    backend               \"fuse\" or \"kernel\"\n  \
    state                 \"alive\", \"dead\" (the driver is gone), \"hung\" (no answer within 2 s)\n                        \
    or \"unknown\" (this user may not ask)\n  \
    pid, uid, version     of the driver; null where it cannot be asked
  watched               whether changes of the layers show at once; null likewise
  unwatched-because     why not, or null
  repair                whether lower objects may be removed from sight; null likewise
  recording             whether objects completed through the view are registered; null likewise
  hidden                paths of those that are, from MERGED; a long list is cut
  hidden-count          how many they are
  nodes                 how many objects the kernel knows; null likewise\n  \
    options               an object; null likewise\n\n\
    EXAMPLES\n  overstore status\n  overstore status --json /m/nix/store\n\n\
    EXIT CODES\n  1 if nothing of ours is mounted on MERGED"
)]
pub(super) struct StatusArgs {
    /// Prints JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Only the view mounted here
    pub(super) merged: Option<PathBuf>,
}

/// Tells what this machine and a layout allow, what is wrong with the layout, and what mends it.
///
/// Nothing is changed. What works is found out by trying it, in namespaces that end with the trial;
/// each fault is told with what it means and the command that mends it. What could not be looked at
/// is listed as such. Without a layout the machine alone is probed.
#[derive(Debug, Args)]
#[command(after_help = concat!(
    "EXAMPLES\n  \
    overstore check 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u'\n  \
    overstore check --json /m/nix/store\n  \
    overstore check -o lowerdir=/l/nix/store,upperdir=/u /m/nix/store\n\n\
    A store URL tells more than a mounted directory: where the databases are.\n\
    The faults and the JSON are described in docs/check.md.\n\n\
    EXIT CODES\n  0 no fault was found, 1 there are faults, 2 wrong usage, 3 the machine refused, \
    4 a database is corrupt"
))]
pub(super) struct CheckArgs {
    /// Prints JSON
    #[arg(long)]
    pub(super) json: bool,
    /// A store URL, or the directory of a mounted view, or with -o lowerdir=... the one to mount on
    #[arg(value_name = "STORE-URL | MERGED")]
    pub(super) target: Option<OsString>,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// Compares what the FUSE driver and the kernel's OverlayFS show for one store
///
/// Both views are mounted read-only in a private namespace, and every object is looked at in both:
/// names, listings, types, modes, owners, times, sizes, link counts, hard links, inode numbers,
/// extended attributes, symlinks, contents by SHA-256, and the errors of a set of questions that
/// are to be refused. Nothing is written: the store may be in use, mounted, or on a read-only
/// filesystem. Differences that are deliberate are counted, with their reason, and do not make the
/// views different.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    overstore compare 'local-overlay://?root=/m&lower-store=/l&upper-layer=/u'\n  \
    overstore compare -o lowerdir=/l/nix/store,upperdir=/u\n  \
    overstore compare /m/nix/store                 # the layers of a view that is mounted there\n  \
    overstore compare --json --strict /m/nix/store\n\n\
    JSON\n  docs/compare.md describes it: equal, differences, expected, refused and counts.\n\n\
    EXIT CODES\n  0 equal, 1 different, 2 wrong usage, 3 a backend cannot run here, 4 corrupt data;\n  \
    a signal ends it, and its mounts with it")]
pub(super) struct CompareArgs {
    /// A store URL, or the directory on which a merged view is mounted; without it -o,
    /// $OVERSTORE_STORE or $NIX_REMOTE tell the store
    #[arg(value_name = "STORE-URL | MERGED")]
    pub(super) layout: Option<OsString>,
    #[command(flatten)]
    pub(super) store: StoreArgs,
    /// Prints JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Deliberate differences count as well
    #[arg(long)]
    pub(super) strict: bool,
    /// Prints this many differences at most; all are counted
    #[arg(long, value_name = "N")]
    pub(super) max: Option<usize>,
}
