// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a derivation to its text.

use super::aterm::{write_list, write_string};
use super::read::{DYNAMIC, IMPURE, PLAIN};
use super::{Derivation, Output, Syntax, Wanted};
use crate::store::dir::StoreDir;
use crate::store::name::ObjectName;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

pub(super) fn derivation(dir: &StoreDir, derivation: &Derivation) -> Vec<u8> {
    let mut text = match derivation.syntax {
        Syntax::Plain => PLAIN,
        Syntax::Dynamic => DYNAMIC,
    }
    .to_vec();
    let text_mut = &mut text;
    write_list(text_mut, &derivation.outputs, |text, (name, output)| {
        text.push(b'(');
        write_string(text, name.as_bytes());
        write_output(dir, text, output);
        text.push(b')');
    });
    text_mut.push(b',');
    write_list(
        text_mut,
        &derivation.input_derivations,
        |text, (input, outputs)| {
            text.push(b'(');
            write_path(dir, text, input);
            text.push(b',');
            write_wanted(text, outputs);
            text.push(b')');
        },
    );
    text_mut.push(b',');
    write_list(text_mut, &derivation.input_sources, |text, source| {
        write_path(dir, text, source);
    });
    for string in [&derivation.system, &derivation.builder] {
        text_mut.push(b',');
        write_string(text_mut, string);
    }
    text_mut.push(b',');
    write_list(text_mut, &derivation.arguments, |text, argument| {
        write_string(text, argument);
    });
    text_mut.push(b',');
    write_environment(text_mut, &derivation.environment);
    text.push(b')');
    text
}

fn write_environment(text: &mut Vec<u8>, environment: &BTreeMap<Vec<u8>, Vec<u8>>) {
    write_list(text, environment, |text, (name, value)| {
        text.push(b'(');
        write_string(text, name);
        text.push(b',');
        write_string(text, value);
        text.push(b')');
    });
}

fn write_output(dir: &StoreDir, text: &mut Vec<u8>, output: &Output) {
    let (algorithm, digits) = match output {
        Output::InputAddressed(_) | Output::Deferred => ("", ""),
        Output::Fixed {
            algorithm, digits, ..
        } => (algorithm.as_str(), digits.as_str()),
        Output::Floating(algorithm) => (algorithm.as_str(), ""),
        Output::Impure(algorithm) => (algorithm.as_str(), IMPURE),
    };
    text.push(b',');
    match output.path() {
        Some(path) => write_path(dir, text, path),
        None => write_string(text, b""),
    }
    for string in [algorithm, digits] {
        text.push(b',');
        write_string(text, string.as_bytes());
    }
}

/// The reader bounds how deep this goes.
fn write_wanted(text: &mut Vec<u8>, wanted: &Wanted) {
    let nested = !wanted.dynamic.is_empty();
    if nested {
        text.push(b'(');
    }
    write_list(text, &wanted.outputs, |text, output| {
        write_string(text, output.as_bytes());
    });
    if nested {
        text.push(b',');
        write_list(text, &wanted.dynamic, |text, (output, deeper)| {
            text.push(b'(');
            write_string(text, output.as_bytes());
            text.push(b',');
            write_wanted(text, deeper);
            text.push(b')');
        });
        text.push(b')');
    }
}

fn write_path(dir: &StoreDir, text: &mut Vec<u8>, name: &ObjectName) {
    write_string(text, dir.store_path(name).as_os_str().as_bytes());
}
