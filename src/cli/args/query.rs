// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of what asks a store about its objects.

use crate::operations::query::{Columns, Follow, Question};
use crate::store::json::Format;
use clap::{ArgAction, Args};
use std::ffi::OsString;
use std::path::PathBuf;

/// Tells what the store knows of objects: hash, size, references, deriver, signatures
///
/// Both layers are asked, and nothing is changed: no row is copied to the upper database. A path may
/// be a store path, one inside an object, one below the merged directory, or a symlink to those. What
/// is printed is what `nix path-info` prints.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "EXAMPLES\n  \
    overstore path-info --store 'local-overlay://?...' -rsS /nix/store/...-hello\n  \
    OVERSTORE_STORE='local-overlay://?...' overstore path-info --json --all\n\n\
    EXIT CODES\n  0 done, 1 a path is not valid (which JSON has as null), 2 wrong usage,\n  \
    3 the machine refused, 4 corrupt data"
)]
pub(in crate::cli) struct PathInfoArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    /// The objects
    #[arg(value_name = "PATH", required_unless_present = "all")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// Every valid object of both layers
    #[arg(long, conflicts_with = "paths")]
    pub(in crate::cli) all: bool,
    /// With all that the objects need
    #[arg(short, long)]
    pub(in crate::cli) recursive: bool,
    /// Prints JSON, as Nix 2.26 does; see --json-format
    ///
    /// Sizes, in bytes, and signatures are always in it, sizes of closures where they are asked for.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Prints this version of Nix's JSON, which says so in it
    #[arg(long, value_name = "VERSION", value_parser = ["1", "2"], requires = "json")]
    pub(in crate::cli) json_format: Option<String>,
    /// The size of each object's NAR
    #[arg(short, long)]
    pub(in crate::cli) size: bool,
    /// The size of all that each object needs, itself included
    #[arg(short = 'S', long)]
    pub(in crate::cli) closure_size: bool,
    /// Sizes in KiB, MiB and so on
    #[arg(short = 'h', long)]
    pub(in crate::cli) human_readable: bool,
    /// Signatures, content address, and whether it was built here
    #[arg(long)]
    pub(in crate::cli) sigs: bool,
    /// Prints help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

impl PathInfoArgs {
    /// Returns what is told in lines.
    pub(in crate::cli) fn columns(&self) -> Columns {
        Columns {
            size: self.size,
            closure_size: self.closure_size,
            signatures: self.sigs,
            readable: self.human_readable,
        }
    }

    /// Returns the format of the JSON; `None` for lines.
    pub(in crate::cli) fn format(&self) -> Option<Format> {
        let format = match self.json_format.as_deref() {
            None => Format::Unversioned,
            Some("1") => Format::V1,
            Some(_) => Format::V2,
        };
        self.json.then_some(format)
    }
}

/// Answers one question about objects, as `nix-store --query` does
///
/// Both layers are asked, and nothing is changed. Outputs of derivations that only the lower store
/// has are found, also where its database does not tell them.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    overstore query --store 'local-overlay://?...' --requisites /nix/store/...-hello\n  \
    overstore query --roots ./result\n  \
    overstore query --path-from-hash-part bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0\n\n\
    EXIT CODES\n  0 done, 1 a path is not valid, 2 wrong usage, 3 the machine refused, \
    4 corrupt data")]
pub(in crate::cli) struct QueryArgs {
    /// The store; without it $OVERSTORE_STORE or $NIX_REMOTE tell it
    #[arg(long, value_name = "STORE-URL")]
    pub(in crate::cli) store: Option<OsString>,
    #[command(flatten)]
    asked: Asked,
    /// Requisites with the valid outputs of derivations among them
    #[arg(long, requires = "requisites", conflicts_with_all = [
        "references", "referrers", "referrers_closure", "deriver", "valid_derivers", "outputs",
        "hash", "size", "roots", "tree", "graph", "path_from_hash_part",
    ])]
    include_outputs: bool,
    /// The objects, or hash parts
    #[arg(value_name = "PATH", required = true)]
    pub(in crate::cli) paths: Vec<OsString>,
}

/// What is asked: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Asked {
    /// What the objects refer to
    #[arg(long)]
    references: bool,
    /// What refers to the objects
    #[arg(long)]
    referrers: bool,
    /// All that the objects need, themselves included
    #[arg(short = 'R', long)]
    requisites: bool,
    /// All that needs the objects, themselves included
    #[arg(long)]
    referrers_closure: bool,
    /// The derivation that made each object
    #[arg(short, long)]
    deriver: bool,
    /// The valid derivations of which each object is an output
    #[arg(long)]
    valid_derivers: bool,
    /// The outputs of each derivation
    #[arg(long)]
    outputs: bool,
    /// The hash of each object's NAR
    #[arg(long)]
    hash: bool,
    /// The size of each object's NAR, in bytes
    #[arg(long)]
    size: bool,
    /// The collector's roots that keep the objects alive
    #[arg(long)]
    roots: bool,
    /// What the objects need, as a tree
    #[arg(long)]
    tree: bool,
    /// What the objects need, as a graph for Graphviz
    #[arg(long)]
    graph: bool,
    /// The object that has this hash part
    #[arg(long)]
    path_from_hash_part: bool,
}

impl QueryArgs {
    /// Returns what is asked about objects; `None` if they are asked for by their hash part.
    pub(in crate::cli) fn question(&self) -> Option<Question> {
        let asked = &self.asked;
        let requisites = Question::Requisites(Follow {
            outputs: self.include_outputs,
            derivers: false,
        });
        // As by Nix's settings keep-derivations and keep-outputs, where nobody changed them.
        let roots = Question::Roots(Follow {
            outputs: false,
            derivers: true,
        });
        let questions = [
            (asked.references, Question::References),
            (asked.referrers, Question::Referrers),
            (asked.requisites, requisites),
            (asked.referrers_closure, Question::ReferrersClosure),
            (asked.deriver, Question::Deriver),
            (asked.valid_derivers, Question::ValidDerivers),
            (asked.outputs, Question::Outputs),
            (asked.hash, Question::Hash),
            (asked.size, Question::Size),
            (asked.roots, roots),
            (asked.tree, Question::Tree),
            (asked.graph, Question::Graph),
        ];
        let asked = questions.into_iter().find(|(asked, _)| *asked);
        asked.map(|(_, question)| question)
    }
}
