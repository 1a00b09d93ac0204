// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which merged views are mounted, from which layers, and who serves them.
//!
//! Invariant: a hung or dead driver is told as such and never blocks the answer: it is asked by a
//! process of its own, which is abandoned if it does not end.

use super::ask::Answer as Asked;
use super::companion::Companion;
use super::mountinfo::{self, Backend, Entry};
use super::{Request, Way, kernel};
use crate::error::{Error, Kind, Result};
use crate::fuse::{self, Answer, Switch};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a driver may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take where a late answer would fail a command.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// The hidden command by which this program asks one driver from a process of its own.
pub const PROBE: &str = "probe";

/// Whether a merged view answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The driver answers, or the kernel serves it.
    Alive,
    /// No driver serves it any more.
    Dead,
    /// The driver did not answer in time.
    Hung,
    /// This user may not ask the driver.
    Unknown,
}

/// One merged view.
#[derive(Debug, Clone)]
pub struct View {
    /// Where it is mounted.
    pub merged: PathBuf,
    /// Its lower store directory.
    pub lower: PathBuf,
    /// Its upper directory.
    pub upper: PathBuf,
    /// Who serves it.
    pub backend: Backend,
    /// Whether it answers.
    pub state: State,
    /// What its driver says of itself: `pid`, `uid`, `version`, `options`.
    pub driver: Option<Value>,
}

impl View {
    /// Returns the stable JSON form.
    pub fn json(&self) -> Value {
        let told = |key| {
            self.driver
                .as_ref()
                .and_then(|driver| driver.get(key))
                .cloned()
                .unwrap_or(Value::Null)
        };
        json!({
            "merged": json_path(&self.merged),
            "lower": json_path(&self.lower),
            "upper": json_path(&self.upper),
            "backend": self.backend.word(),
            "state": self.state,
            "pid": told("pid"),
            "uid": told("uid"),
            "version": told("version"),
            "options": told("options"),
            "nodes": told("nodes"),
            "watched": told("watched"),
            "unwatched-because": told("unwatched-because"),
            "repair": told("repair"),
            "recording": told("recording"),
            "hidden": told("hidden"),
            "hidden-count": told("hidden-count"),
        })
    }
}

/// Returns a path as JSON: a string, or an array of byte values if it is not UTF-8.
pub fn json_path(path: &Path) -> Value {
    match path.to_str() {
        Some(text) => Value::from(text),
        None => Value::from(path.as_os_str().as_bytes()),
    }
}

/// Returns all merged views of this mount namespace; of several on one mountpoint the topmost.
pub fn all() -> Result<Vec<View>> {
    let mounts = mountinfo::read()?;
    let topmost = |entry: &&Entry| {
        mountinfo::topmost(&mounts, &entry.mount_point).is_some_and(|top| top.id == entry.id)
    };
    Ok(mounts.iter().filter(topmost).filter_map(view).collect())
}

/// Returns the merged view at `merged`, as a user spells it.
pub fn one(merged: &Path) -> Result<Option<View>> {
    let mounts = mountinfo::read()?;
    Ok(mountinfo::find(&mounts, merged).and_then(view))
}

fn view(entry: &Entry) -> Option<View> {
    let (backend, layers) = entry.merged_view()?;
    let (state, driver) = match backend {
        Backend::Fuse => ask(&entry.mount_point),
        Backend::Kernel => (State::Alive, None),
    };
    Some(View {
        merged: entry.mount_point.clone(),
        lower: layers.lower,
        upper: layers.upper,
        backend,
        state,
        driver,
    })
}

/// Says who holds `merged`: "already mounted, by pid N".
pub fn holder(merged: &Path) -> String {
    match ask(merged) {
        (State::Dead, _) => "already mounted, but its driver is gone".to_owned(),
        (_, Some(driver)) => match driver.get("pid") {
            Some(pid) => format!("already mounted, by pid {pid}"),
            None => "already mounted".to_owned(),
        },
        _ => "already mounted".to_owned(),
    }
}

/// Refuses to wait for the driver of a view at `merged` that does not answer at all.
pub fn not_hung(merged: &Path) -> Result<()> {
    let mounts = mountinfo::read()?;
    let view = mountinfo::find(&mounts, merged)
        .filter(|entry| matches!(entry.merged_view(), Some((Backend::Fuse, _))));
    match view.map(|view| {
        (
            &view.mount_point,
            ask_within(&view.mount_point, LONG_PATIENCE),
        )
    }) {
        Some((merged, (State::Hung, _))) => Err(Error::on(
            "wait for the driver of",
            merged,
            format!("no answer for {} seconds", LONG_PATIENCE.as_secs()),
        )
        .hint(format!(
            "overstore umount --force {} gives it up",
            merged.display()
        ))),
        _ => Ok(()),
    }
}

/// Asks the driver at `merged` from a process of its own.
fn ask(merged: &Path) -> (State, Option<Value>) {
    ask_within(merged, PATIENCE)
}

fn ask_within(merged: &Path, patience: Duration) -> (State, Option<Value>) {
    match super::ask::ask([OsStr::new(PROBE), merged.as_os_str()], patience) {
        Err(why) => {
            log::warn!("ask the driver at {}: {why}", merged.display());
            (State::Unknown, None)
        }
        Ok(Asked::Late) => (State::Hung, None),
        Ok(Asked::Ended(Some(0), text)) => (State::Alive, serde_json::from_slice(&text).ok()),
        Ok(Asked::Ended(Some(1), _)) => (State::Dead, None),
        Ok(Asked::Ended(..)) => (State::Unknown, None),
    }
}

/// The body of the hidden command: returns what the driver says; `None` if there is none.
pub fn probe(merged: &Path) -> Result<Option<String>> {
    Ok(match open(merged)?.map(|dir| fuse::control_status(&dir)) {
        Some(answer) => match answer? {
            Answer::Said(text) => Some(text),
            Answer::Gone | Answer::NotOurs => None,
        },
        None => None,
    })
}

/// Waits until every change of the layers of the view at `merged` is visible there. A view of the
/// kernel is refreshed in place.
pub fn sync(merged: &Path) -> Result<()> {
    not_hung(merged)?;
    let answer = match open(merged)? {
        Some(dir) => fuse::control_barrier(&dir)?,
        None => Answer::Gone,
    };
    if let (Answer::NotOurs, Some(view)) = (&answer, by_kernel(merged)?) {
        return kernel::refresh(&view);
    }
    served(answer, format!("sync {}", merged.display()), merged)
}

/// Returns where the view at `merged` is mounted, if the kernel serves it.
fn by_kernel(merged: &Path) -> Result<Option<PathBuf>> {
    let mounts = mountinfo::read()?;
    Ok(mountinfo::find(&mounts, merged)
        .filter(|entry| matches!(entry.merged_view(), Some((Backend::Kernel, _))))
        .map(|entry| entry.mount_point.clone()))
}

/// Whether there was a driver to do what was asked.
fn served(answer: Answer<()>, what: String, merged: &Path) -> Result<()> {
    match answer {
        Answer::Said(()) => Ok(()),
        Answer::Gone => Err(gone(what, merged)),
        Answer::NotOurs => Err(
            Error::new(Kind::Negative, what, "no overstore driver serves it")
                .hint("see `overstore status`"),
        ),
    }
}

/// Repair of a view, switched on for as long as this lives, and off also where the process is killed.
#[derive(Debug)]
pub struct RepairHold {
    merged: PathBuf,
    /// A driver of an older version knows only on and off.
    end: Option<Switch>,
}

impl RepairHold {
    /// Switches repair of the view at `merged` on; if it is on already, it stays so in the end.
    pub fn new(merged: &Path) -> Result<RepairHold> {
        let held = match open(merged)? {
            Some(dir) => fuse::control_repair(&dir, Switch::Hold),
            None => Ok(Answer::Gone),
        };
        let end = match held {
            Ok(Answer::Said(())) => Some(Switch::Done),
            Ok(Answer::Gone) => return Err(gone(what(merged), merged)),
            held @ (Ok(Answer::NotOurs) | Err(_)) => {
                if let Err(why) = held {
                    log::debug!("{why}");
                }
                let driver = one(merged)?.and_then(|view| view.driver);
                let on = driver.and_then(|driver| driver.get("repair").cloned());
                if on == Some(true.into()) {
                    None
                } else {
                    repair(merged, true)?;
                    Some(Switch::Off)
                }
            }
        };
        let merged = merged.to_owned();
        Ok(RepairHold { merged, end })
    }
}

impl Drop for RepairHold {
    fn drop(&mut self) {
        if let Some(end) = self.end
            && let Err(why) = switch(&self.merged, end)
        {
            log::warn!("{why}");
        }
    }
}

/// Switches repair of the view at `merged` on or off.
pub fn repair(merged: &Path, on: bool) -> Result<()> {
    switch(merged, if on { Switch::On } else { Switch::Off })
}

fn switch(merged: &Path, switch: Switch) -> Result<()> {
    let answer = match open(merged)? {
        Some(dir) => fuse::control_repair(&dir, switch)?,
        None => Answer::Gone,
    };
    if matches!(answer, Answer::NotOurs) && by_kernel(merged)?.is_some() {
        return Err(
            Error::new(Kind::Negative, what(merged), "the kernel serves it").hint(
                "there is nothing to switch: OverlayFS always lets lower objects be replaced",
            ),
        );
    }
    served(answer, what(merged), merged)
}

fn what(merged: &Path) -> String {
    format!("switch repair of {}", merged.display())
}

fn gone(what: String, merged: &Path) -> Error {
    Error::environment(what, "its driver is gone")
        .hint(format!("remove it: overstore umount {}", merged.display()))
}

/// Opens a directory; `None` if it is a mount whose driver is gone.
fn open(merged: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(merged, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED) => Ok(None),
        Err(why) => Err(Error::on("open", merged, why)),
    }
}

/// Prepares the text by which this driver answers.
pub(super) fn driver_text(
    request: &Request,
    way: Way,
    recorder: Option<Companion>,
) -> fuse::StatusText {
    let fixed = json!({
        "pid": std::process::id(),
        "uid": rustix::process::geteuid().as_raw(),
        "version": env!("CARGO_PKG_VERSION"),
        "options": {
            "xattr": request.options.xattr,
            "watch": request.options.watch,
            "record": request.options.record,
            "lower-ttl": request.options.lower_ttl.as_secs_f64(),
            "allow-other": request.options.allow_other,
            "ro": request.options.attributes.read_only(),
            "way": match way {
                Way::Direct => "direct",
                Way::Fusermount => "fusermount3",
            },
        },
    });
    Box::new(move |view| {
        let mut text = fixed.clone();
        text["nodes"] = view.nodes().into();
        text["watched"] = view.unwatched().is_none().into();
        text["unwatched-because"] = view.unwatched().into();
        let repair = view.repair_status();
        text["repair"] = repair.on.into();
        text["recording"] = recorder.as_ref().is_some_and(Companion::is_alive).into();
        text["hidden-count"] = repair.hidden.len().into();
        let room = fuse::STATUS_BYTES.saturating_sub(text.to_string().len());
        text["hidden"] = fitting(&repair.hidden, room);
        text.to_string()
    })
}

/// Returns as many of `paths` as JSON as have room in so many bytes, with their key.
fn fitting(paths: &[Vec<u8>], room: usize) -> Value {
    let mut left = room.saturating_sub(r#","hidden":[]"#.len());
    let paths = paths
        .iter()
        .map(|path| json_path(Path::new(OsStr::from_bytes(path))));
    paths
        .take_while(|path| {
            let needed = path.to_string().len() + 1;
            let fits = needed <= left;
            left = left.saturating_sub(needed);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_hidden_names_is_cut_and_never_too_long() {
        let mut paths: Vec<Vec<u8>> = (0..2000).map(|n| format!("name-{n}").into()).collect();
        paths[3] = b"not \xff UTF-8 \"".to_vec();
        for room in (0..2000).step_by(7) {
            let list = fitting(&paths, room);
            let count = list.as_array().expect("a list").len();
            let text = format!(r#","hidden":{list}"#);
            assert!(text.len() <= room || count == 0, "{room}: {text}");
            let next = json_path(Path::new(OsStr::from_bytes(&paths[count])));
            let longer = text.len() + next.to_string().len();
            assert!(longer + 2 > room, "{room}: one more would fit");
        }
        let all = fitting(&paths[..5], 1000);
        assert_eq!(all[3], Value::from(paths[3].clone()));
        assert_eq!(all[4], "name-4");
    }
}
