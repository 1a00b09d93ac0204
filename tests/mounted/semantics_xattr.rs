// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extended attributes: none without `-o xattr`; with it the real ones, never the overlay's.

use crate::common::check::{Must, attribute, attributes, fails};
use crate::common::for_each_mode;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs;

for_each_mode!(
    /// "Extended attributes are off by default, answered once with ENOSYS": get, list, set and
    /// remove say that there is no such thing here.
    off_by_default,
    |fx| {
        if fx.on_kernel() {
            fx.skip("a documented difference");
        }
        fx.lower().file("low", "l").xattr("low", "user.note", "x");
        fx.upper().file("up", "u").xattr("up", "user.note", "x");
        let m = fx.mount();
        for name in ["low", "up"] {
            let path = m.path(name);
            fails(Errno::OPNOTSUPP, "get", attribute(&path, "user.note"));
            let set = rustix::fs::setxattr(&path, "user.note", b"y", XattrFlags::empty());
            fails(Errno::OPNOTSUPP, "set", set);
            fails(Errno::OPNOTSUPP, "remove", rustix::fs::removexattr(&path, "user.note"));
            // Nix takes both for "none".
            match attributes(&path) {
                Ok(names) => assert!(names.is_empty(), "{names:?}"),
                error => fails(Errno::OPNOTSUPP, "list", error),
            }
        }
    }
);

for_each_mode!(
    /// "`-o xattr` passes real ones through": of both layers, and changes of the upper's.
    real_ones_pass,
    |fx| {
        fx.lower().file("low", "l").xattr("low", "user.note", "lower");
        fx.upper().file("up", "u").xattr("up", "user.note", "upper").dir("d");
        let m = fx.mount_with("xattr");
        assert_eq!(attribute(&m.path("low"), "user.note").must(), b"lower");
        assert_eq!(attribute(&m.path("up"), "user.note").must(), b"upper");
        for name in ["up", "d"] {
            let set = |value: &[u8], flags| rustix::fs::setxattr(m.path(name), "user.new", value, flags);
            set(b"1", XattrFlags::CREATE).must();
            fails(Errno::EXIST, "CREATE", set(b"2", XattrFlags::CREATE));
            set(b"\0\xff", XattrFlags::REPLACE).must();
            assert_eq!(attribute(&m.path(name), "user.new").must(), b"\0\xff");
            assert_eq!(attribute(&fx.upper().path(name), "user.new").must(), b"\0\xff");
            assert!(attributes(&m.path(name)).must().contains(&"user.new".to_owned()));
            rustix::fs::removexattr(m.path(name), "user.new").must();
            fails(Errno::NODATA, "get", attribute(&m.path(name), "user.new"));
            fails(Errno::NODATA, "remove", rustix::fs::removexattr(m.path(name), "user.new"));
        }
        let small = rustix::fs::getxattr(m.path("up"), "user.note", &mut [0_u8; 2][..]);
        fails(Errno::RANGE, "a buffer that is too small", small);
        fs::write(m.path("new"), "x").must();
        assert_eq!(attributes(&m.path("new")).must(), Vec::<String>::new());
    }
);

for_each_mode!(
    /// "Markers themselves are never visible, nor are overlay xattrs": not listed, not told, not
    /// set, of either family.
    overlay_ones_are_hidden,
    |fx| {
        fx.lower().file("o/f", "l");
        fx.upper().opaque("o").file("o/g", "u").marker("o", "impure", "y").dir("plain");
        fx.upper().marker("o/g", "origin", "x").xattr("o/g", "user.real", "r");
        let m = fx.mount_with("xattr");
        let family = fx.family();
        assert_eq!(attributes(&m.path("o")).must(), Vec::<String>::new());
        assert_eq!(attributes(&m.path("o/g")).must(), ["user.real"]);
        for (name, marker) in [("o", "opaque"), ("o", "impure"), ("o/g", "origin")] {
            let got = attribute(&m.path(name), &family.attribute(marker));
            assert!(got.is_err(), "{marker} of {name} is told: {got:?}");
        }
        if !fx.on_kernel() {
            let name = family.attribute("opaque");
            let set = rustix::fs::setxattr(m.path("plain"), &*name, b"y", XattrFlags::empty());
            assert!(set.is_err(), "a marker could be set through the mount");
            let gone = rustix::fs::removexattr(m.path("o"), &*name);
            assert!(gone.is_err(), "a marker could be removed through the mount");
        }
        crate::common::check::lists(&m.path("o"), &["g"]);
    }
);
