// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose power this process has, and whether it may use it.

use crate::fault::{Fault, Result};
use rustix::process::{getegid, geteuid, getgid, getuid};
use std::fs;

/// `AT_SECURE` of the auxiliary vector: the program was given more power than its caller has.
const SECURE: usize = 23;

/// Refuses to run with the power of another user than the caller: set-user-id, set-group-id,
/// file capabilities.
pub fn refuse_setuid() -> Result<()> {
    if getuid() != geteuid() || getgid() != getegid() || secure() {
        return Err(Fault::usage(
            "this program does not run set-user-id, set-group-id or with file capabilities; \
             run it as root, or use `overstore mount` or `overstore run`",
        ));
    }
    Ok(())
}

/// What the kernel says; without `/proc` only the ids can tell. A process that may not read about
/// itself was given what its user may not see.
fn secure() -> bool {
    const WORD: usize = size_of::<usize>();
    let vector = match fs::read("/proc/self/auxv") {
        Ok(vector) => vector,
        Err(why) => return why.kind() == std::io::ErrorKind::PermissionDenied,
    };
    let words: Vec<usize> = vector
        .chunks_exact(WORD)
        .filter_map(|word| word.try_into().ok().map(usize::from_ne_bytes))
        .collect();
    words
        .chunks_exact(2)
        .any(|pair| pair[0] == SECURE && pair[1] != 0)
}

/// Whether this is the machine's first user namespace, in which root may write `trusted.*`.
pub fn in_first_user_namespace() -> bool {
    const EVERYTHING: &str = "0 0 4294967295";
    fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(EVERYTHING.split(' ')))
}
