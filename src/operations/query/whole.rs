// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers that are whole, although others may begin to write while they are put together.

use crate::error::Result;
use crate::metadata::Source;

/// Asks the source that `open` opens, and has the answer only if the source says that it was whole;
/// else asks once more, of a source that is opened anew.
///
/// # Errors
/// Also where the second answer was not whole either.
pub fn whole<S: Source, T>(
    open: impl Fn() -> Result<S>,
    ask: impl Fn(&dyn Source) -> Result<T>,
) -> Result<T> {
    let first = open()?;
    // An error may come from half of a change, too.
    let answer = ask(&first);
    match first.finish() {
        Ok(()) => return answer,
        Err(why) => log::info!("asking again: {why}"),
    }
    drop(first);
    let second = open()?;
    let answer = ask(&second);
    second.finish()?;
    answer
}
