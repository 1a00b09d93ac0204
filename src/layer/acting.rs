// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making objects as the caller, so that they are his from the first moment.
//!
//! Invariant: a thread has another user's filesystem ids only as long as an [`Acting`] lives, and
//! keeps all of the driver's capabilities with them: permissions were checked by the kernel before
//! it asked the driver.

use super::{Errno, Owner, Result};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{
    CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits,
};
use std::cell::Cell;
use std::marker::PhantomData;

/// The id that nobody has: asking for it changes nothing and tells the current one.
const NOBODY: u32 = u32::MAX;
/// Going back fails only where the kernel has no memory for the moment.
const TRIES: u32 = 1000;

thread_local! {
    /// Whether this thread may act as others without losing capabilities; `None`: not asked yet.
    static KEEPS: Cell<Option<bool>> = const { Cell::new(None) };
}

/// This thread is somebody else for what it makes, until this is dropped.
#[derive(Debug)]
pub(super) struct Acting {
    own: Owner,
    changed: bool,
    /// The ids are those of the thread: it must not be dropped by another one.
    stays: PhantomData<*const ()>,
}

impl Acting {
    /// Becomes `wanted`. A driver that may not become other users makes nothing for them (EPERM);
    /// one that may not take the caller's group uses its own, if the user at least is the same.
    pub(super) fn start(own: Owner, wanted: Owner) -> Result<Acting> {
        let other_user = wanted.uid != own.uid;
        if other_user && !keeps_capabilities() {
            return Err(Errno::PERM);
        }
        let acting = Acting {
            own,
            changed: wanted != own,
            stays: PhantomData,
        };
        if wanted.gid != own.gid && !take_group(wanted.gid) && other_user {
            return Err(Errno::PERM);
        }
        if other_user && !take_user(wanted.uid) {
            return Err(Errno::PERM);
        }
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if !self.changed {
            return;
        }
        let back = |take: &dyn Fn() -> bool| (0..TRIES).any(|_| take());
        if !back(&|| take_user(self.own.uid)) || !back(&|| take_group(self.own.gid)) {
            log::error!("a thread cannot leave another user's ids");
            // Whatever it made next would belong to the wrong user.
            std::process::abort();
        }
    }
}

fn take_user(id: u32) -> bool {
    setfsuid(Uid::from_raw(id));
    setfsuid(Uid::from_raw(NOBODY)).as_raw() == id
}

fn take_group(id: u32) -> bool {
    setfsgid(Gid::from_raw(id));
    setfsgid(Gid::from_raw(NOBODY)).as_raw() == id
}

/// Has the kernel leave capabilities alone when this thread's ids change. `false` for a driver
/// without privilege.
fn keeps_capabilities() -> bool {
    KEEPS.get().unwrap_or_else(|| {
        let kept = set_no_fixup().is_ok();
        KEEPS.set(Some(kept));
        kept
    })
}

fn set_no_fixup() -> Result<()> {
    let bits = capabilities_secure_bits()?;
    if bits.contains(CapabilitiesSecureBits::NO_SETUID_FIXUP) {
        return Ok(());
    }
    set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current() -> Owner {
        Owner {
            uid: setfsuid(Uid::from_raw(NOBODY)).as_raw(),
            gid: setfsgid(Gid::from_raw(NOBODY)).as_raw(),
        }
    }

    #[test]
    fn a_thread_is_itself_again_afterwards() {
        let own = current();
        let other = Owner {
            uid: own.uid + 61234,
            gid: own.gid + 61235,
        };
        match Acting::start(own, other) {
            Ok(acting) => {
                assert_eq!(current(), other);
                drop(acting);
            }
            Err(errno) => assert_eq!(errno, Errno::PERM),
        }
        assert_eq!(current(), own);
        let nobody = Owner { uid: NOBODY, ..own };
        assert_eq!(Acting::start(own, nobody).err(), Some(Errno::PERM));
        assert_eq!(current(), own);
    }
}
