// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user may try on purpose: odd arguments, and changes underneath at the worst moment.

use crate::common::check::{Must, attributes, reads, set_mtime, stat};
use crate::common::for_each_mode;
use crate::common::mode::PLAIN_ID;
use std::fs;
use std::os::unix::fs::MetadataExt;

for_each_mode!(
    /// The smallest and the largest time that can be asked for are answered like any other, and
    /// the driver answers afterwards.
    times_at_the_ends,
    |fx| {
        let m = fx.mount();
        fs::write(m.path("f"), "x").must();
        for seconds in [i64::MIN, i64::MIN + 1, i64::MAX, -1] {
            set_mtime(&fx.upper().path("f"), seconds).must();
            let kept = stat(&fx.upper().path("f")).mtime();
            set_mtime(&m.path("f"), 7).must();
            set_mtime(&m.path("f"), seconds).must();
            assert_eq!(stat(&fx.upper().path("f")).mtime(), kept, "{seconds}");
            assert_eq!(stat(&m.path("f")).mtime(), kept, "{seconds}");
        }
        fs::write(m.path("g"), "more").must();
        reads(&m.path("g"), "more");
    }
);

for_each_mode!(
    /// "`trusted.*` are listed for root alone": as everywhere else.
    trusted_attributes,
    [root],
    |fx| {
        fx.lower().file("low", "l").xattr("low", "trusted.note", "x").xattr("low", "user.note", "x");
        fx.upper().file("up", "u").xattr("up", "trusted.note", "x").xattr("up", "user.note", "x");
        let m = fx.mount_with("xattr");
        for name in ["low", "up"] {
            let mut all = attributes(&m.path(name)).must();
            all.sort();
            assert_eq!(all, ["trusted.note", "user.note"], "{name}");
            nix::unistd::setfsuid(PLAIN_ID.into());
            let seen = attributes(&m.path(name));
            nix::unistd::setfsuid(0.into());
            assert_eq!(seen.must(), ["user.note"], "{name}");
        }
    }
);
