// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that mend faults, as they are typed into a shell.
//!
//! Invariant: what changes the upper below its top does so while nothing is mounted, since a mounted
//! view may keep what it knows of it; names at the top may change under a FUSE view.

use super::Subject;
use super::mounted::Standing;
use crate::backend::mountinfo::Backend;
use crate::backend::probe::{self, Outcome};
use rustix::fs::{StatVfsMountFlags, statvfs};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The commands for one layout in its present state.
#[derive(Debug)]
pub(super) struct Commands<'a> {
    subject: &'a Subject,
    standing: Standing,
}

impl<'a> Commands<'a> {
    pub(super) fn new(subject: &'a Subject, standing: Standing) -> Commands<'a> {
        Commands { subject, standing }
    }

    /// Mounts the view anew, by which what Nix would create is created; `None` where no view is
    /// mounted, since that is a fault itself, and mended by mounting.
    pub(super) fn remounted(&self) -> Option<String> {
        let Standing::View(backend) = self.standing else {
            return None;
        };
        let merged = quoted(&self.subject.request.layout.merged);
        let mount = mount(self.subject, Some(backend));
        Some(format!("overstore umount {merged} && {mount}"))
    }

    /// Runs `command`, which changes names at the top of the upper.
    pub(super) fn at_top(&self, command: &str) -> String {
        match self.standing {
            Standing::View(Backend::Fuse) => {
                let merged = quoted(&self.subject.request.layout.merged);
                format!("{command} && overstore sync {merged}")
            }
            Standing::View(Backend::Kernel) | Standing::Other | Standing::Nothing => {
                self.unmounted(command)
            }
        }
    }

    /// Runs `command` while the view is not mounted.
    pub(super) fn unmounted(&self, command: &str) -> String {
        let Standing::View(backend) = self.standing else {
            return command.to_owned();
        };
        let merged = quoted(&self.subject.request.layout.merged);
        let mount = mount(self.subject, Some(backend));
        format!("overstore umount {merged} && {command} && {mount}")
    }

    /// Verifies the store, with these words behind; `None` if there is no URL for it.
    pub(super) fn verify(&self, words: &[&str]) -> Option<String> {
        let url = self.subject.url.as_ref()?;
        let mut text = format!("overstore verify --store {}", quoted(url));
        for word in words {
            text.push(' ');
            text.push_str(&quoted(word));
        }
        Some(text)
    }

    /// Repairs one object; by Nix, which may fetch or build it, where `made_again` says so and no good
    /// copy is found.
    pub(super) fn repaired(&self, path: &str, made_again: bool) -> Option<String> {
        let ours = self.verify(&["--repair", path])?;
        if !made_again {
            return Some(ours);
        }
        let url = quoted(self.subject.url.as_ref()?);
        let path = quoted(path);
        Some(format!(
            "{ours} || nix-store --store {url} --repair-path {path}"
        ))
    }
}

/// Returns `subject` with the options without which its mount is refused.
pub(super) fn mountable(subject: &Subject) -> Subject {
    let mut subject = subject.clone();
    let options = &subject.request.options;
    let mut needed: Vec<OsString> = Vec::new();
    if options.nix_check && subject.request.layout.nix_check().is_err() {
        needed.extend(["-o".into(), "nix-check=off".into()]);
    }
    if !options.attributes.read_only() && is_read_only(&subject.request.layout.upper) {
        needed.extend(["-o".into(), "ro".into()]);
    }
    subject.mount_words.splice(0..0, needed);
    subject
}

/// Whether `path` is on a filesystem that nobody can write; not told of one that hangs.
pub(super) fn is_read_only(path: &Path) -> bool {
    probe::answers(path).outcome == Outcome::Yes
        && statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// The command that mounts `subject`, on the kernel only where that is asked.
pub(super) fn mount(subject: &Subject, backend: Option<Backend>) -> String {
    let mut text = "overstore mount".to_owned();
    if backend == Some(Backend::Kernel) {
        text.push_str(" --backend kernel");
        let layout = &subject.request.layout;
        if layout.check_mount && layout.lower.as_os_str().as_bytes().contains(&b':') {
            // The kernel lists it as Nix does not find it.
            text.push_str(" -o nix-check=off");
        }
    }
    for word in &subject.mount_words {
        text.push(' ');
        text.push_str(&quoted(word));
    }
    text
}

/// Removes the object at `path`, whatever its modes.
pub(super) fn remove(path: &Path, directory: bool) -> String {
    let path = quoted(path);
    match directory {
        true => format!("chmod -R u+w {path} && rm -r {path}"),
        false => format!("rm -f {path}"),
    }
}

/// Joins several commands to one.
pub(super) fn all(commands: impl IntoIterator<Item = String>) -> String {
    let commands: Vec<String> = commands.into_iter().collect();
    commands.join(" && ")
}

/// Returns `word` as a shell reads it back.
pub(super) fn quoted(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+=:@%,".contains(byte);
    let printable = std::str::from_utf8(bytes).ok();
    if let Some(text) = printable.filter(|text| !text.is_empty())
        && bytes.iter().all(plain)
    {
        return text.to_owned();
    }
    match printable.filter(|text| !text.contains(char::is_control)) {
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        // As bash, zsh and POSIX 2024 have it.
        None => format!("$'{}'", bytes.escape_ascii()),
    }
}

/// Returns words as one shell command line has them.
pub(super) fn words(words: impl IntoIterator<Item = OsString>) -> String {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in [
            &b"/plain/path-1.2_x+y=z"[..],
            b"",
            b"a b",
            b"it's",
            b"$HOME `x` \"q\" \\ * ; & # !",
            b"line\nbreak\ttab",
            b"\xff\xfe not UTF-8 '",
            "\u{fc}ml\u{e4}ut".as_bytes(),
        ] {
            let text = quoted(OsStr::from_bytes(word));
            let shown = std::process::Command::new("bash")
                .args(["-c", &format!("printf %s {text}")])
                .output();
            assert_eq!(shown.expect("bash runs").stdout, word, "{text}");
        }
    }
}
