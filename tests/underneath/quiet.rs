// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who runs beside whom in this binary: a test that measures times runs alone, tests under load
//! run together.

use crate::common::fixture::Fixture;
use crate::common::mode::{self, Mode};
use std::sync::{PoisonError, RwLock};

static MACHINE: RwLock<()> = RwLock::new(());

/// Runs `body` in `mode` while no other test of this binary runs.
pub(crate) fn alone(mode: Mode, path: &str, body: fn(&Fixture)) {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    mode::run(mode, path, body);
}

/// Runs what does not measure beside others of its kind.
pub(crate) fn together<T>(run: impl FnOnce() -> T) -> T {
    let _together = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    run()
}

/// Like `for_each_mode!`, for tests that run alone.
macro_rules! alone_in_each_mode {
    ($(#[$doc:meta])* $name:ident, |$fx:ident| $body:block) => {
        alone_in_each_mode!($(#[$doc])* $name, [root, userns, user], |$fx| $body);
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
                    crate::quiet::alone(
                        crate::common::mode::Mode::$mode,
                        concat!(module_path!(), "::", stringify!($mode)),
                        body,
                    );
                }
            )+
        }
    };
}
pub(crate) use alone_in_each_mode;

/// One event of the table, in each mode, watched and not watched: the body gets the layers and
/// what kind of view to mount over them.
macro_rules! event {
    ($(#[$doc:meta])* $name:ident, |$fx:ident, $kind:ident| $body:block) => {
        event!($(#[$doc])* $name, [root, userns, user], |$fx, $kind| $body);
    };
    ($(#[$doc:meta])* $name:ident, $modes:tt, |$fx:ident, $kind:ident| $body:block) => {
        $(#[$doc])*
        mod $name {
            #[allow(unused_imports, reason = "small tests need few of the helpers")]
            use super::*;

            fn event($fx: &crate::common::fixture::Fixture, $kind: crate::promise::Told) $body

            crate::quiet::alone_in_each_mode!(watched, $modes, |fx| {
                event(fx, crate::promise::Told::AtOnce);
                fx.lower_changed_outside();
            });
            crate::quiet::alone_in_each_mode!(unwatched, $modes, |fx| {
                event(fx, crate::promise::Told::Never);
                fx.lower_changed_outside();
            });
        }
    };
}
pub(crate) use event;
