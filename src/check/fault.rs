// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be found: faults, and what could not be looked at.
//!
//! Invariant: ids never change their meaning; what was not looked at is told, never taken for good.

use crate::backend::status::json_path;
use crate::error::Kind;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One thing that is wrong with a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault it is.
    pub id: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Further paths of the same fault, in the same store object.
    pub more: Vec<PathBuf>,
    /// What was found.
    pub what: String,
    /// What follows from it.
    pub means: &'static str,
    /// The command that mends it; `None` where no command alone does.
    pub mend: Option<String>,
    /// [`Kind::Corrupt`] for data that contradicts itself, else [`Kind::Negative`].
    pub kind: Kind,
}

impl Fault {
    /// Describes a fault of kind `id` at `path`.
    pub(super) fn new(id: &'static str, path: &Path, what: impl Into<String>) -> Fault {
        Fault {
            id,
            path: path.to_owned(),
            more: Vec::new(),
            what: what.into(),
            means: "",
            mend: None,
            kind: Kind::Negative,
        }
    }

    pub(super) fn means(mut self, means: &'static str) -> Fault {
        self.means = means;
        self
    }

    pub(super) fn mend(mut self, command: impl Into<String>) -> Fault {
        self.mend = Some(command.into());
        self
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id,
            "path": json_path(&self.path),
            "more": self.more.iter().map(|path| json_path(path)).collect::<Vec<_>>(),
            "what": self.what,
            "means": self.means,
            "mend": self.mend,
        })
    }
}

/// Something that was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotChecked {
    /// The faults that may be there unseen.
    pub ids: &'static [&'static str],
    /// Where.
    pub path: PathBuf,
    /// Why not.
    pub why: String,
}

impl NotChecked {
    pub(super) fn json(&self) -> Value {
        json!({ "ids": self.ids, "path": json_path(&self.path), "why": self.why })
    }
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) not_checked: Vec<NotChecked>,
}

impl Findings {
    pub(super) fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn not_checked(
        &mut self,
        ids: &'static [&'static str],
        path: &Path,
        why: impl ToString,
    ) {
        self.not_checked.push(NotChecked {
            ids,
            path: path.to_owned(),
            why: why.to_string(),
        });
    }
}
