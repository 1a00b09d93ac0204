// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of mount(8), those that say how a mount behaves and those for other programs, and the
//! names of the driver's own options.
//!
//! Invariant: every word is in one of the tables alone.

use rustix::mount::{MountAttrFlags, MountFlags};
use std::collections::BTreeSet;

/// Words for mount(8), fstab and systemd, and those that ask for what is always so.
const WITHOUT_EFFECT: [&[u8]; 17] = [
    b"defaults",
    b"auto",
    b"noauto",
    b"nofail",
    b"_netdev",
    b"nouser",
    b"noowner",
    b"nogroup",
    b"silent",
    b"loud",
    b"lazytime",
    b"nolazytime",
    b"iversion",
    b"noiversion",
    b"mand",
    b"nomand",
    b"default_permissions",
];

/// The options that only the FUSE driver can fulfil, by what they ask for in the end: the kernel
/// does nothing else than what `norepair`, `norecord`, `noxattr` and `allow_other` ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverOnly {
    asked: BTreeSet<&'static str>,
    /// The first of them, whatever it asks for.
    named: Option<String>,
}

impl DriverOnly {
    /// Takes note of an option; answers false if the driver has none of this name.
    pub fn note(&mut self, name: &[u8], value: Option<&[u8]>) -> bool {
        let off = matches!(value, Some(b"off" | b"false" | b"no" | b"0"));
        let word = name;
        let (name, asked) = match name {
            b"watch" => ("watch", true),
            b"lower-ttl" => ("lower-ttl", true),
            b"xattr" => ("xattr", !off),
            b"noxattr" => ("xattr", false),
            b"repair" => ("repair", !off),
            b"norepair" => ("repair", false),
            b"record" => ("record", !off),
            b"norecord" => ("record", false),
            b"allow_other" => ("noallow_other", off),
            b"noallow_other" => ("noallow_other", true),
            _ => return false,
        };
        match asked {
            true => self.asked.insert(name),
            false => self.asked.remove(name),
        };
        self.named
            .get_or_insert_with(|| word.escape_ascii().to_string());
        true
    }

    /// Returns the name of one that the kernel does not fulfil.
    pub fn first(&self) -> Option<&'static str> {
        self.asked.first().copied()
    }

    /// Returns the name of the first that was given, also if the kernel does nothing else.
    pub fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = DriverOnly::default();
    }
}

/// Whether an option is for another program that reads the same line of fstab, or asks for what is
/// always so.
pub fn is_for_others(name: &[u8], value: Option<&[u8]>) -> bool {
    name.starts_with(b"x-")
        || name.starts_with(b"X-")
        || match value {
            Some(_) => name == b"user" || name == b"comment",
            None => WITHOUT_EFFECT.contains(&name),
        }
}

/// How a mount behaves: what the words that hold for every filesystem make of the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(MountFlags);

impl Default for Attributes {
    /// Returns what holds without options: no set-user-id bits and no devices, as no store
    /// object has either.
    fn default() -> Attributes {
        Attributes(MountFlags::NOSUID | MountFlags::NODEV)
    }
}

impl Attributes {
    /// Applies one word (`ro`, `nosuid`...); answers false if there is no such word.
    pub fn apply(&mut self, word: &[u8]) -> bool {
        let (set, clear) = match word {
            b"ro" => (MountFlags::RDONLY, MountFlags::empty()),
            b"rw" => (MountFlags::empty(), MountFlags::RDONLY),
            b"nosuid" => (MountFlags::NOSUID, MountFlags::empty()),
            b"suid" => (MountFlags::empty(), MountFlags::NOSUID),
            b"nodev" => (MountFlags::NODEV, MountFlags::empty()),
            b"dev" => (MountFlags::empty(), MountFlags::NODEV),
            b"noexec" => (MountFlags::NOEXEC, MountFlags::empty()),
            b"exec" => (MountFlags::empty(), MountFlags::NOEXEC),
            b"sync" => (MountFlags::SYNCHRONOUS, MountFlags::empty()),
            b"async" => (MountFlags::empty(), MountFlags::SYNCHRONOUS),
            b"dirsync" => (MountFlags::DIRSYNC, MountFlags::empty()),
            b"noatime" => (MountFlags::NOATIME, Self::TIMES),
            b"strictatime" => (MountFlags::STRICTATIME, Self::TIMES),
            b"relatime" | b"atime" | b"norelatime" | b"nostrictatime" => {
                (MountFlags::empty(), Self::TIMES)
            }
            b"nodiratime" => (MountFlags::NODIRATIME, MountFlags::empty()),
            b"diratime" => (MountFlags::empty(), MountFlags::NODIRATIME),
            b"user" | b"users" => (
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
                MountFlags::empty(),
            ),
            b"owner" | b"group" => (MountFlags::NOSUID | MountFlags::NODEV, MountFlags::empty()),
            _ => return false,
        };
        self.0 = self.0.difference(clear).union(set);
        true
    }

    const TIMES: MountFlags = MountFlags::NOATIME
        .union(MountFlags::STRICTATIME)
        .union(MountFlags::RELATIME);

    /// Returns the attributes that a mount has now.
    pub(crate) fn from_flags(flags: MountFlags) -> Attributes {
        Attributes(flags)
    }

    /// Whether every change is refused.
    pub fn read_only(self) -> bool {
        self.0.contains(MountFlags::RDONLY)
    }

    /// Returns the flags of mount(2).
    pub fn flags(self) -> MountFlags {
        self.0
    }

    /// Returns the words that lead here from `rw,suid,dev,exec,async,relatime`.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [
            (MountFlags::RDONLY, "ro"),
            (MountFlags::NOSUID, "nosuid"),
            (MountFlags::NODEV, "nodev"),
            (MountFlags::NOEXEC, "noexec"),
            (MountFlags::SYNCHRONOUS, "sync"),
            (MountFlags::DIRSYNC, "dirsync"),
            (MountFlags::NOATIME, "noatime"),
            (MountFlags::STRICTATIME, "strictatime"),
            (MountFlags::NODIRATIME, "nodiratime"),
        ]
        .into_iter()
        .filter(move |(flag, _)| self.0.contains(*flag))
        .map(|(_, word)| word)
    }

    /// Returns those that belong to the mount, as the new mount API takes them.
    pub(crate) fn of_mount(self) -> MountAttrFlags {
        [
            (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
            (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
            (
                MountFlags::STRICTATIME,
                MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            ),
            (
                MountFlags::NODIRATIME,
                MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            ),
        ]
        .into_iter()
        .filter(|(flag, _)| self.0.contains(*flag))
        .map(|(_, attribute)| attribute)
        .collect()
    }

    /// Returns those that belong to the filesystem, by the names the new mount API has for them.
    pub(crate) fn of_filesystem(self) -> impl Iterator<Item = &'static str> {
        self.words()
            .filter(|word| ["ro", "sync", "dirsync"].contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_attributes_make_them_again() {
        let every = "ro,nosuid,nodev,noexec,sync,dirsync,strictatime,nodiratime";
        for list in [
            "",
            "ro",
            "suid,dev,noatime",
            "user,noatime,strictatime",
            every,
        ] {
            let apply = |list: &str, mut attributes: Attributes| {
                for word in list.split(',').filter(|word| !word.is_empty()) {
                    assert!(attributes.apply(word.as_bytes()), "{word}");
                }
                attributes
            };
            let attributes = apply(list, Attributes::default());
            let words: Vec<_> = attributes.words().collect();
            let again = apply(&words.join(","), apply("suid,dev", Attributes::default()));
            assert_eq!(again, attributes, "{list}");
        }
    }

    #[test]
    fn no_word_is_in_two_tables() {
        let of_driver = [&b"xattr"[..], b"noxattr", b"repair", b"norepair", b"watch"];
        let of_driver = of_driver.into_iter().chain([&b"record"[..], b"norecord"]);
        let of_driver = of_driver.chain([&b"allow_other"[..], b"noallow_other", b"lower-ttl"]);
        for word in of_driver {
            assert!(DriverOnly::default().note(word, None));
            assert!(!Attributes::default().apply(word) && !WITHOUT_EFFECT.contains(&word));
        }
        for word in WITHOUT_EFFECT {
            assert!(!Attributes::default().apply(word));
            assert!(!DriverOnly::default().note(word, None));
        }
    }
}
