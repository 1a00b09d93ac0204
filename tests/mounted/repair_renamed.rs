// SPDX-License-Identifier: MIT OR Apache-2.0
//! Repair: a directory of both layers that was set aside under another name, when repair ends.

use super::repair::switch;
use crate::common::check::{Must, absent, lists, reads};
use crate::common::for_each_mode;
use std::fs;

for_each_mode!(
    /// "What was hidden and not replaced shows again when repair is switched off": under its own name,
    /// and no longer under the other, where only the upper's part is left.
    the_lower_part_goes_back,
    |fx| {
        if fx.on_kernel() {
            fx.skip("the kernel's OverlayFS copies up");
        }
        fx.lower().file("both/low", "low").file("both/sub/low", "low");
        fx.upper().file("both/up", "up").file("both/sub/up", "up");
        let m = fx.mount_with("repair");
        reads(&m.path("both/sub/low"), "low");
        fs::rename(m.path("both"), m.path("aside")).must();
        for name in ["low", "up", "sub/low", "sub/up"] {
            reads(&m.path("aside").join(name), name.trim_start_matches("sub/"));
        }
        absent(&m.path("both"));
        switch(&m, "off");
        for name in ["low", "sub/low"] {
            absent(&m.path("aside").join(name));
            reads(&m.path("both").join(name), "low");
        }
        lists(&m.path("aside"), &["sub", "up"]);
        lists(&m.path("aside/sub"), &["up"]);
        lists(&m.path("both"), &["low", "sub"]);
    }
);
