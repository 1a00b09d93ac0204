// SPDX-License-Identifier: MIT OR Apache-2.0
//! Derivations: what is accepted prints back to the same bytes.

use super::{one_line, store_dir};
use overstore::store::derivation::Derivation;

/// Takes the text of a derivation.
pub(crate) fn aterm(data: &[u8]) {
    let dir = store_dir();
    match Derivation::parse(&dir, data) {
        Ok(derivation) => {
            assert_eq!(derivation.to_bytes(&dir), data);
            let known = derivation.known_outputs();
            assert!(known.len() <= derivation.outputs.len());
            for output in derivation.outputs.values() {
                // Whatever is spelt there, it is judged without a panic.
                let address = output.address();
                assert!(address.is_none() || output.path().is_some());
            }
        }
        Err(why) => {
            assert!(why.at <= data.len());
            one_line(&why);
        }
    }
}
