// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the text to a derivation.

use super::aterm::{Malformed, Terms};
use super::{Derivation, Output, Syntax, Wanted};
use crate::store::dir::StoreDir;
use crate::store::name::ObjectName;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How deep inputs may be nested: each step is a derivation that makes a derivation.
const DEEPEST: usize = 32;

/// What stands for the hash of an output that is built anew each time.
pub(super) const IMPURE: &str = "impure";

/// What a derivation of either syntax begins with.
pub(super) const PLAIN: &[u8] = b"Derive(";
pub(super) const DYNAMIC: &[u8] = b"DrvWithVersion(\"xp-dyn-drv\",";

pub(super) fn derivation(dir: &StoreDir, text: &[u8]) -> Result<Derivation, Malformed> {
    let mut terms = Terms::new(text);
    let terms = &mut terms;
    let syntax = if terms.skip(PLAIN) {
        Syntax::Plain
    } else {
        terms.expect(DYNAMIC, "no derivation of a known version begins so")?;
        Syntax::Dynamic
    };
    let outputs = outputs(dir, terms)?;
    terms.part()?;
    let input_derivations = input_derivations(dir, terms, syntax)?;
    terms.part()?;
    let mut input_sources = BTreeSet::new();
    terms.list(|terms| {
        let source = path(dir, terms)?;
        add(terms, &mut input_sources, source)
    })?;
    terms.part()?;
    let system = terms.string()?;
    terms.part()?;
    let builder = terms.string()?;
    terms.part()?;
    let mut arguments = Vec::new();
    terms.list(|terms| {
        arguments.push(terms.string()?);
        Ok(())
    })?;
    terms.part()?;
    let environment = environment(terms)?;
    terms.close()?;
    terms.end()?;
    Ok(Derivation {
        syntax,
        outputs,
        input_derivations,
        input_sources,
        system,
        builder,
        arguments,
        environment,
    })
}

fn outputs(dir: &StoreDir, terms: &mut Terms<'_>) -> Result<BTreeMap<String, Output>, Malformed> {
    let mut outputs = BTreeMap::new();
    terms.list(|terms| {
        terms.open()?;
        let name = terms.text()?;
        terms.part()?;
        let output = output(dir, terms)?;
        terms.close()?;
        put(terms, &mut outputs, name, output)
    })?;
    Ok(outputs)
}

/// Reads the path, the algorithm and the hash of an output: which of them are there tells its kind.
fn output(dir: &StoreDir, terms: &mut Terms<'_>) -> Result<Output, Malformed> {
    let path = match terms.string()? {
        path if path.is_empty() => None,
        path => Some(parse_path(dir, &path).ok_or_else(|| terms.wrong(NO_PATH))?),
    };
    terms.part()?;
    let algorithm = terms.text()?;
    terms.part()?;
    let digits = terms.text()?;
    match (path, algorithm.is_empty(), digits.as_str()) {
        (Some(path), true, "") => Ok(Output::InputAddressed(path)),
        (None, true, "") => Ok(Output::Deferred),
        (None, false, "") => Ok(Output::Floating(algorithm)),
        (None, false, IMPURE) => Ok(Output::Impure(algorithm)),
        (Some(path), false, other) if !other.is_empty() && other != IMPURE => Ok(Output::Fixed {
            path,
            algorithm,
            digits,
        }),
        _ => Err(terms.wrong("no output has such a path, algorithm and hash together")),
    }
}

fn input_derivations(
    dir: &StoreDir,
    terms: &mut Terms<'_>,
    syntax: Syntax,
) -> Result<BTreeMap<ObjectName, Wanted>, Malformed> {
    let mut inputs = BTreeMap::new();
    terms.list(|terms| {
        terms.open()?;
        let input = path(dir, terms)?;
        terms.part()?;
        let wanted = wanted(terms, syntax, 0)?;
        terms.close()?;
        put(terms, &mut inputs, input, wanted)
    })?;
    Ok(inputs)
}

fn wanted(terms: &mut Terms<'_>, syntax: Syntax, depth: usize) -> Result<Wanted, Malformed> {
    if depth > DEEPEST {
        return Err(terms.wrong("inputs are nested too deeply"));
    }
    let mut wanted = Wanted::default();
    let nested = syntax == Syntax::Dynamic && terms.skip(b"(");
    terms.list(|terms| {
        let output = terms.text()?;
        add(terms, &mut wanted.outputs, output)
    })?;
    if nested {
        terms.part()?;
        terms.list(|terms| {
            terms.open()?;
            let output = terms.text()?;
            terms.part()?;
            let deeper = self::wanted(terms, syntax, depth + 1)?;
            terms.close()?;
            put(terms, &mut wanted.dynamic, output, deeper)
        })?;
        terms.close()?;
        if wanted.dynamic.is_empty() {
            return Err(terms.wrong("nothing nested should be written without parentheses"));
        }
    }
    Ok(wanted)
}

fn environment(terms: &mut Terms<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Malformed> {
    let mut environment = BTreeMap::new();
    terms.list(|terms| {
        terms.open()?;
        let name = terms.string()?;
        terms.part()?;
        let value = terms.string()?;
        terms.close()?;
        put(terms, &mut environment, name, value)
    })?;
    Ok(environment)
}

const NO_PATH: &str = "this should be a store path";
const NO_ORDER: &str = "this is out of order, or there twice";

fn path(dir: &StoreDir, terms: &mut Terms<'_>) -> Result<ObjectName, Malformed> {
    let path = terms.string()?;
    parse_path(dir, &path).ok_or_else(|| terms.wrong(NO_PATH))
}

/// Parses a path in its canonical spelling only.
fn parse_path(dir: &StoreDir, bytes: &[u8]) -> Option<ObjectName> {
    let name = dir.parse(Path::new(OsStr::from_bytes(bytes)))?.ok()?;
    (dir.store_path(&name).as_os_str().as_bytes() == bytes).then_some(name)
}

fn add<T: Ord>(terms: &Terms<'_>, set: &mut BTreeSet<T>, one: T) -> Result<(), Malformed> {
    if set.last().is_some_and(|last| *last >= one) {
        return Err(terms.wrong(NO_ORDER));
    }
    set.insert(one);
    Ok(())
}

fn put<K: Ord, V>(
    terms: &Terms<'_>,
    map: &mut BTreeMap<K, V>,
    key: K,
    value: V,
) -> Result<(), Malformed> {
    if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
        return Err(terms.wrong(NO_ORDER));
    }
    map.insert(key, value);
    Ok(())
}
