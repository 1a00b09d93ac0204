// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties of the fuzz targets, tried with their seeds; what fuzzing found is among these.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "fuzz/properties/mod.rs"]
mod properties;

use std::path::Path;

fn each_seed(target: &str, property: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let mut tried = 0;
    for entry in std::fs::read_dir(seeds.join(target)).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        property(&std::fs::read(path).unwrap());
        tried += 1;
    }
    assert!(tried > 0, "no seeds");
}

#[test]
fn options() {
    each_seed("options", properties::options);
}

#[test]
fn url() {
    each_seed("url", properties::url);
}

#[test]
fn mountinfo() {
    each_seed("mountinfo", properties::mountinfo);
}

#[test]
fn nar() {
    each_seed("nar", properties::nar);
}

#[test]
fn export() {
    each_seed("export", properties::export);
}

#[test]
fn aterm() {
    each_seed("aterm", properties::aterm);
}

#[test]
fn base32() {
    each_seed("base32", properties::base32);
}

#[test]
fn registration() {
    each_seed("registration", properties::registration);
}

#[test]
fn worker() {
    each_seed("worker", properties::worker);
}
