// SPDX-License-Identifier: MIT OR Apache-2.0
//! What kernels have to mount OverlayFS by: the new mount API, told option by option, and mount(2).
//!
//! Invariant: of several refusals that one is reported which judges the layers; that an interface is
//! missing is no reason to be told while another one has a say.

use crate::check::FUSE_CAN;
use crate::directory::{Directory, printable};
use crate::fault::Fault;
use crate::request::Markers;
use crate::spelling::settings;
use crate::words::Attributes;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// The longest value that the new mount API takes for one option.
const VALUE_BYTES: usize = 255;

/// The longest option string of mount(2): a page with its NUL.
const OPTIONS_BYTES: usize = 4095;

/// What to do where the kernel knows no OverlayFS.
pub const NO_OVERLAYFS: &str = "the kernel has no OverlayFS: as root run `modprobe overlay`";

/// The interfaces that kernels have, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The new mount API, upper and work by descriptor (Linux 6.13).
    Descriptors,
    /// The new mount API with paths (Linux 6.5; with some paths 5.2).
    Paths,
    /// mount(2).
    Classic,
}

/// Why one way did not lead to the mount.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) fault: Fault,
    /// It says something about the layers, not about the interface.
    judged: bool,
    /// Another way may lead to the mount.
    elsewhere: bool,
}

impl From<Fault> for Failed {
    /// What this program itself finds is final.
    fn from(fault: Fault) -> Failed {
        Failed {
            fault,
            judged: true,
            elsewhere: false,
        }
    }
}

/// Tries one way after the other, and tells which one led to the mount.
pub(crate) fn first_of(
    ways: &[Way],
    mut mount_by: impl FnMut(Way) -> Result<(), Failed>,
) -> Result<Way, Fault> {
    let (mut judged, mut last) = (None, None);
    for way in ways {
        let Err(failed) = mount_by(*way) else {
            return Ok(*way);
        };
        match failed.judged {
            // What the newest interface says is the most exact.
            true => drop(judged.get_or_insert(failed.fault)),
            false => last = Some(failed.fault),
        }
        if !failed.elsewhere {
            break;
        }
    }
    let fault = judged.or(last);
    Err(fault.unwrap_or_else(|| Fault::system("this kernel has no interface to mount")))
}

/// What the kernel answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    why: Errno,
    /// Its own words; empty if it had none.
    message: String,
    judged: bool,
}

impl Refusal {
    /// Only says that the kernel, or a filter in front of it, does not let this way be used.
    fn of_interface(why: Errno) -> Refusal {
        Refusal {
            why,
            message: String::new(),
            judged: false,
        }
    }

    /// Explains it, in the kernel's own words where it has some. `filesystems` are those of the lower
    /// and the upper.
    pub(crate) fn explain(self, what: String, filesystems: Option<&[String; 2]>) -> Failed {
        let what = match self.message.as_str() {
            "" => what,
            message => format!("{what}: {message}"),
        };
        let fault = Fault::kernel(what, self.why);
        let fault = match (self.why, filesystems) {
            (Errno::NODEV, _) => fault.hint(NO_OVERLAYFS).hint(FUSE_CAN),
            (_, None) => fault,
            (Errno::PERM, _) => fault.hint("run it as root, or use `overstore run`"),
            (why, Some([lower, upper])) => {
                let fault = match why == Errno::INVAL && self.message.is_empty() {
                    true => fault.hint(in_the_log(lower, upper)),
                    false => fault,
                };
                fault.hint(format!(
                    "the lower is on {lower}, the upper on {upper}; {FUSE_CAN}"
                ))
            }
        };
        // Seccomp filters of containers answer EPERM to calls that they do not know; a kernel may
        // want directories opened for more than to be held (EBADF); a path may be too long for one
        // interface alone.
        let elsewhere = matches!(
            self.why,
            Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::BADF | Errno::NAMETOOLONG
        );
        Failed {
            fault,
            judged: self.judged,
            elsewhere,
        }
    }
}

/// Says what the kernel wrote into its own log, where the reason can be told from the filesystems.
fn in_the_log(lower: &str, upper: &str) -> String {
    const WITHOUT_WHITEOUTS: [&str; 11] = [
        "fuse", "nfs", "cifs", "smb", "9p", "ceph", "virtiofs", "vfat", "msdos", "exfat", "ntfs",
    ];
    if WITHOUT_WHITEOUTS.iter().any(|kind| upper.starts_with(kind)) {
        format!("{upper} cannot rename with whiteouts, as OverlayFS wants of an upper")
    } else if upper == "overlay" {
        "OverlayFS takes no upper that is on an overlay".to_owned()
    } else if lower == "overlay" {
        "OverlayFS stacks two deep at most, and the lower is an overlay already".to_owned()
    } else {
        "the kernel's log (dmesg) says why".to_owned()
    }
}

/// One OverlayFS that is being configured by the new mount API.
#[derive(Debug)]
pub(crate) struct Context(OwnedFd);

impl Context {
    pub(crate) fn open() -> Result<Context, Refusal> {
        let opened = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC);
        let context = Context(opened.map_err(Refusal::of_interface)?);
        context.told(fsconfig_set_string(context.0.as_fd(), "source", "overlay"))?;
        Ok(context)
    }

    /// Names a directory by its path, as the kernel wants it written.
    pub(crate) fn path(&self, name: &str, value: &[u8]) -> Result<(), Refusal> {
        if value.len() > VALUE_BYTES {
            return Err(Refusal::of_interface(Errno::NAMETOOLONG));
        }
        let value = OsStr::from_bytes(value);
        self.told(fsconfig_set_string(self.0.as_fd(), name, value))
    }

    /// Names a directory by its descriptor.
    pub(crate) fn descriptor(&self, name: &str, directory: &Directory) -> Result<(), Refusal> {
        self.told(fsconfig_set_fd(self.0.as_fd(), name, &directory.fd))
    }

    /// Tells the other options, and makes the mount without attaching it.
    pub(crate) fn mount(
        self,
        markers: Markers,
        attributes: Attributes,
    ) -> Result<OwnedFd, Refusal> {
        let fs = self.0.as_fd();
        for (name, value) in settings(markers) {
            self.told(match value {
                Some(value) => fsconfig_set_string(fs, *name, *value),
                None => fsconfig_set_flag(fs, *name),
            })?;
        }
        for name in attributes.of_filesystem() {
            self.told(fsconfig_set_flag(fs, name))?;
        }
        fsconfig_create(fs)
            .and_then(|()| fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes.of_mount()))
            .map_err(|why| Refusal {
                why,
                message: self.errors(),
                judged: true,
            })
    }

    /// Adds the kernel's words to a refusal of one option. Without any, it may come from a kernel or
    /// a filter that does not have the call.
    fn told(&self, answer: Result<(), Errno>) -> Result<(), Refusal> {
        answer.map_err(|why| {
            let message = self.errors();
            Refusal {
                why,
                judged: !message.is_empty() && !is_of_interface(&message),
                message,
            }
        })
    }

    /// Reads the errors that the kernel has written about this mount.
    fn errors(&self) -> String {
        errors(|text| rustix::io::read(&self.0, text))
    }
}

/// Whether words of the kernel say no more than that it does not take options in this form: before
/// Linux 6.13 no descriptors, before 6.5 no commas.
fn is_of_interface(message: &str) -> bool {
    ["Bad value for", "Unknown parameter", "VFS: Legacy"]
        .into_iter()
        .any(|words| message.contains(words))
}

/// Collects the errors (`e message`) among the messages that `read` gives one by one, until there is
/// none (`ENODATA`); warnings and notes are left out.
fn errors(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> String {
    /// The kernel keeps 8.
    const MOST: usize = 64;
    let mut text = vec![0; 1 << 14];
    let mut found: Vec<String> = Vec::new();
    for _ in 0..MOST {
        let length = match read(&mut text) {
            Ok(0) => break,
            Ok(length) => length,
            // One message is passed over that is longer than any, or the call was interrupted.
            Err(Errno::MSGSIZE | Errno::INTR) => continue,
            Err(_) => break,
        };
        let line = text.get(..length).unwrap_or_default().trim_ascii();
        if let Some(error) = line.strip_prefix(b"e ") {
            found.push(error.escape_ascii().to_string());
        }
    }
    found.join("; ")
}

/// Attaches a mount to the held mountpoint.
pub(crate) fn attach(detached: OwnedFd, merged: &Directory) -> Result<(), Refusal> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(detached, "", &merged.fd, "", flags).map_err(Refusal::of_interface)
}

/// Returns the option string for mount(2), if it is not too long.
pub(crate) fn classic_options(options: Vec<u8>, merged: &Directory) -> Result<CString, Failed> {
    if options.len() > OPTIONS_BYTES {
        let why = format!(
            "mount on {}: the paths of the layers are too long together",
            printable(&merged.path)
        );
        return Err(Failed {
            fault: Fault::mount(why).hint(FUSE_CAN),
            judged: false,
            elsewhere: false,
        });
    }
    CString::new(options).map_err(|_| Fault::usage("a path has a NUL byte").into())
}

/// Mounts by mount(2), which takes paths only and has no words.
pub(crate) fn mount_classic(
    merged: &Directory,
    options: &CStr,
    attributes: Attributes,
) -> Result<(), Refusal> {
    let target = merged.by_descriptor();
    mount("overlay", &target, "overlay", attributes.flags(), options).map_err(|why| Refusal {
        why,
        message: String::new(),
        judged: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_among_other_messages() {
        let table: [(&[&str], &str); 5] = [
            (&[], ""),
            (&["w overlay: old\n"], ""),
            (&["e overlay: no\n"], "overlay: no"),
            (
                &[
                    "w overlay: old\n",
                    "i overlay: by the way\n",
                    "e overlay: no\n",
                ],
                "overlay: no",
            ),
            (
                &["e overlay: no\n", "w overlay: old\n", "e overlay: a\nb\n"],
                "overlay: no; overlay: a\\nb",
            ),
        ];
        for (messages, expected) in table {
            let mut messages = messages.iter();
            let mut interrupted = false;
            let found = errors(|text| {
                interrupted = !interrupted;
                if interrupted {
                    return Err(Errno::INTR);
                }
                let message = messages.next().ok_or(Errno::NODATA)?.as_bytes();
                text[..message.len()].copy_from_slice(message);
                Ok(message.len())
            });
            assert_eq!(found, expected);
        }
        assert_eq!(errors(|_| Err(Errno::INTR)), "");
    }

    #[test]
    fn an_interface_that_is_missing_is_not_the_reason() {
        let failed = |text: &str, judged, elsewhere| Failed {
            fault: Fault::mount(text),
            judged,
            elsewhere,
        };
        let ways = [Way::Descriptors, Way::Paths, Way::Classic];
        let report = |answers: Vec<Failed>| {
            let mut answers = answers.into_iter();
            let told = first_of(&ways, |_| answers.next().map_or(Ok(()), Err));
            told.map_err(|fault| fault.to_string())
        };
        let (missing, judged) = (
            |text| failed(text, false, true),
            |text| failed(text, true, true),
        );
        let own = |text| Failed::from(Fault::mount(text));
        assert_eq!(report(vec![missing("a"), judged("b")]), Ok(Way::Classic));
        for (answers, expected) in [
            (vec![missing("a"), missing("b"), judged("c")], "c"),
            (vec![missing("a"), judged("b"), judged("c")], "b"),
            (vec![judged("a"), judged("b"), missing("c")], "a"),
            (vec![missing("a"), missing("b"), missing("c")], "c"),
            (vec![missing("a"), own("b"), judged("c")], "b"),
        ] {
            assert_eq!(report(answers), Err(expected.to_owned()));
        }
    }

    #[test]
    fn words_about_the_form_of_an_option_do_not_judge_the_layers() {
        for (message, of_interface) in [
            ("overlay: Bad value for 'upperdir'", true),
            (
                "VFS: Legacy: Parameter type for 'upperdir' not supported",
                true,
            ),
            ("VFS: Legacy: Option 'lowerdir' contained comma", true),
            ("overlay: Unknown parameter 'lowerdir+'", true),
            ("overlay: filesystem on /x not supported", false),
        ] {
            assert_eq!(is_of_interface(message), of_interface, "{message}");
        }
    }
}
