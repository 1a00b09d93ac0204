// SPDX-License-Identifier: MIT OR Apache-2.0
//! The harness of the mounted tests: layers, mounts, the modes a test runs in, and the proof that
//! the lower layer stays untouched.
//!
//! Invariant: a test leaves nothing behind. It runs as a child in a mount namespace and a scratch
//! directory of its own; both go when it ends, however it ends.
#![allow(
    dead_code,
    reason = "every test binary uses its own part of the harness"
)]

pub(crate) mod asked;
pub(crate) mod check;
pub(crate) mod fixture;
pub(crate) mod layer;
pub(crate) mod manifest;
pub(crate) mod mmap;
pub(crate) mod mode;
pub(crate) mod mount;
pub(crate) mod nix;
pub(crate) mod root_folder;
pub(crate) mod skip;
pub(crate) mod trace;

/// Writes one test per mode: `for_each_mode!(name, |fx| { .. })`, or only some of the modes:
/// `for_each_mode!(name, [root, userns], |fx| { .. })`.
macro_rules! for_each_mode {
    ($(#[$doc:meta])* $name:ident, |$fx:ident| $body:block) => {
        for_each_mode!($(#[$doc])* $name, [root, userns, user], |$fx| $body);
    };
    ($(#[$doc:meta])* $name:ident, [$($mode:ident),+], |$fx:ident| $body:block) => {
        $(#[$doc])*
        mod $name {
            #[allow(unused_imports, reason = "small tests need few of the helpers")]
            use super::*;

            fn body($fx: &crate::common::fixture::Fixture) $body

            $(
                #[test]
                fn $mode() {
                    crate::common::mode::run(
                        crate::common::mode::Mode::$mode,
                        concat!(module_path!(), "::", stringify!($mode)),
                        body,
                    );
                }
            )+
        }
    };
}
pub(crate) use for_each_mode;
