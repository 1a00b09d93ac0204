// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was found: faults, what was mended, what could not be looked at.
//!
//! Invariant: nothing that could not be looked at is told as a fault, or as good.

use crate::error::{Error, Kind};
use crate::store::{ObjectName, Sha256};
use serde_json::{Value, json};

/// The version of the JSON form.
const JSON_VERSION: u64 = 1;

/// Where a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// In what the merged view shows, or in the upper database.
    Merged,
    /// In the lower store, which is never written.
    Lower,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The archive of the object has another digest than its row.
    Modified {
        /// What the row says.
        expected: Sha256,
        /// What it is.
        got: Sha256,
    },
    /// It holds what no store object can hold.
    Unfit(String),
    /// The digest is right, and the row has another size.
    Size {
        /// What the row says.
        expected: u64,
        /// What it is.
        got: u64,
    },
    /// There are no files, and others need them.
    Disappeared,
    /// There are no files; nothing needs the row, so it is removed.
    Unneeded,
    /// There are no files, but the lower store has it as valid; why it is not shown.
    Lost(&'static str),
    /// The row makes no sense.
    Row(String),
    /// It refers to a row that does not exist.
    Dangling,
    /// The upper database lacks a reference that the lower tells.
    Closure(ObjectName),
    /// Something without a row is in the upper, before a valid object of the lower; whether it has
    /// the same contents, if that was looked at.
    Shadow(Option<bool>),
    /// A whiteout in the upper hides a valid object of the lower.
    Whiteout,
    /// A file in `.links` is not named by its contents.
    Link {
        /// What its name says.
        expected: String,
        /// What it is.
        got: String,
    },
}

impl Wrong {
    /// Returns the stable word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Wrong::Modified { .. } => "modified",
            Wrong::Unfit(_) => "unfit",
            Wrong::Size { .. } => "size",
            Wrong::Disappeared | Wrong::Unneeded => "disappeared",
            Wrong::Lost(_) => "hidden",
            Wrong::Row(_) => "row",
            Wrong::Dangling => "dangling",
            Wrong::Closure(_) => "closure",
            Wrong::Shadow(_) => "shadow",
            Wrong::Whiteout => "whiteout",
            Wrong::Link { .. } => "link",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is.
    pub layer: Layer,
    /// The store path, or the file.
    pub path: String,
    /// The object, if it is one.
    pub name: Option<ObjectName>,
    /// What is wrong.
    pub wrong: Wrong,
    /// Why it could not be mended, if that was tried.
    pub unmended: Option<String>,
    /// Whether the merged view shows a good object in its place.
    pub covered: bool,
}

impl Fault {
    /// Describes a fault that nobody tried to mend.
    pub fn new(layer: Layer, path: String, name: Option<ObjectName>, wrong: Wrong) -> Fault {
        Fault {
            layer,
            path,
            name,
            wrong,
            unmended: None,
            covered: false,
        }
    }

    /// Says it in one line, in Nix's words where it has them.
    pub fn line(&self) -> String {
        let path = &self.path;
        let mut line = match (&self.wrong, self.layer) {
            (Wrong::Link { expected, got }, _) => {
                format!("link '{path}' was modified! expected hash '{expected}', got '{got}'")
            }
            (_, Layer::Merged) => format!("path '{path}' {}", self.said()),
            (_, Layer::Lower) => format!("path '{path}' of the lower store {}", self.said()),
        };
        if self.covered {
            line.push_str("; the merged view shows a good one in its place");
        }
        if let Some(why) = &self.unmended {
            line.push_str(&format!("; not repaired: {why}"));
        }
        line
    }

    fn said(&self) -> String {
        match &self.wrong {
            Wrong::Modified { expected, got } => format!(
                "was modified! expected hash 'sha256:{}', got 'sha256:{}'",
                expected.base32(),
                got.base32()
            ),
            Wrong::Link { .. } => "was modified!".to_owned(),
            Wrong::Unfit(why) => format!("is no store object: {why}"),
            Wrong::Size { expected, got } => {
                format!("has a NAR of {got} bytes, and its row says {expected}")
            }
            Wrong::Disappeared if self.layer == Layer::Lower => "disappeared".to_owned(),
            Wrong::Disappeared => "disappeared, but it still has valid referrers!".to_owned(),
            Wrong::Unneeded => "disappeared".to_owned(),
            Wrong::Lost(why) => format!("disappeared from the merged view: {why}"),
            Wrong::Row(why) => format!("has a bad row: {why}"),
            Wrong::Dangling => {
                "refers to a row that does not exist; overstore check tells how to mend it"
                    .to_owned()
            }
            Wrong::Closure(missing) => format!(
                "has no reference to {missing} in the upper database, as it has in the lower's"
            ),
            Wrong::Shadow(same) => format!(
                "is valid in the lower store, and hidden by something in the upper that has no row{}",
                match same {
                    None => "",
                    Some(true) => " (with the same contents)",
                    Some(false) => " (with other contents)",
                }
            ),
            Wrong::Whiteout => {
                "is valid in the lower store, and hidden by a whiteout in the upper".to_owned()
            }
        }
    }

    fn json(&self) -> Value {
        let (expected, got) = match &self.wrong {
            Wrong::Modified { expected, got } => (
                format!("sha256:{}", expected.base32()).into(),
                format!("sha256:{}", got.base32()).into(),
            ),
            Wrong::Link { expected, got } => (expected.clone().into(), got.clone().into()),
            Wrong::Size { expected, got } => ((*expected).into(), (*got).into()),
            _ => (Value::Null, Value::Null),
        };
        json!({
            "path": self.path,
            "kind": self.wrong.word(),
            "layer": match self.layer { Layer::Merged => "merged", Layer::Lower => "lower" },
            "expected": expected,
            "got": got,
            "message": self.line(),
            "covered": self.covered,
            "unmended": self.unmended,
        })
    }
}

/// Something that was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What was wrong.
    pub fault: Fault,
    /// What was done.
    pub how: String,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotChecked {
    /// What.
    pub path: String,
    /// Why.
    pub why: String,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many objects were looked at.
    pub checked: u64,
    /// How many bytes of archives were read.
    pub bytes: u64,
    /// The faults that are left.
    pub faults: Vec<Fault>,
    /// The faults that are gone.
    pub repaired: Vec<Repaired>,
    /// What could not be looked at.
    pub not_checked: Vec<NotChecked>,
    /// What ended it early.
    pub ended: Option<Error>,
}

impl Report {
    pub(super) fn not_checked(&mut self, path: impl Into<String>, why: impl std::fmt::Display) {
        self.not_checked.push(NotChecked {
            path: path.into(),
            why: why.to_string(),
        });
    }

    /// Returns the exit code: that of what ended it early, 1 with faults, 3 if something could not be
    /// looked at, else 0.
    pub fn exit_code(&self) -> u8 {
        let left = self.faults.iter().any(|fault| !fault.covered);
        match (&self.ended, left, self.not_checked.is_empty()) {
            (Some(why), ..) => why.kind().exit_code(),
            (None, true, _) => Kind::Negative.exit_code(),
            (None, false, false) => Kind::Environment.exit_code(),
            (None, false, true) => 0,
        }
    }

    /// Returns the stable JSON form.
    pub fn json(&self) -> Value {
        let repaired = self.repaired.iter().map(|repaired| {
            json!({
                "path": repaired.fault.path,
                "kind": repaired.fault.wrong.word(),
                "how": repaired.how,
            })
        });
        let not_checked = self.not_checked.iter();
        let not_checked = not_checked.map(|one| json!({ "path": one.path, "why": one.why }));
        json!({
            "version": JSON_VERSION,
            "checked": self.checked,
            "bytes": self.bytes,
            "faults": self.faults.iter().map(Fault::json).collect::<Vec<_>>(),
            "repaired": repaired.collect::<Vec<_>>(),
            "notChecked": not_checked.collect::<Vec<_>>(),
            "ended": self.ended.as_ref().map(ToString::to_string),
        })
    }
}
