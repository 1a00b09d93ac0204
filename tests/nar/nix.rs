// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real Nix, in two versions, makes the same archives, trees and streams.
//!
//! Its steps are `nix.sh`, in a root folder of `scripts/nix-root`; what it left is compared here.

use crate::root_folder::{self, Inside};
use crate::skip::skip;
use crate::tree::{Tree, dir, trees};
use overstore::nar::{
    self, Discard, ExportReader, ExportWriter, Input, Links, ModuloHasher, Place,
    dependencies_first,
};
use overstore::store::{Algorithm, ContentAddress, ObjectName, PathInfo, Sha256, StoreDir};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Trees that are hashed by both.
const HASHED: usize = 1000;
/// Those of them that are dumped, restored and added by both.
const CARRIED: usize = 60;
/// The steps take some 10 seconds on an idle machine.
const LIMIT_SECONDS: u32 = 300;

#[test]
fn trixie() {
    run("trixie");
}

#[test]
fn sid() {
    run("sid");
}

fn run(suite: &str) {
    let root = match root_folder::root_folder(suite) {
        Ok(root) => root,
        Err(why) => return skip(&why),
    };
    let scratch = Cleared(root_folder::scratch("nar-"));
    let made = prepare(scratch.0.path());
    Inside::new(&root, LIMIT_SECONDS)
        .bind(&scratch.0, "/mnt")
        .bind_here("tests/nar", "/run/tests")
        .run(["bash", "/run/tests/nix.sh"])
        .check();
    restored_by_nix(scratch.0.path(), &made);
    sealed_alike(scratch.0.path(), &made);
    exported_alike(scratch.0.path());
    addressed_alike(scratch.0.path());
}

/// A scratch directory with stores in it, whose objects may not be written.
struct Cleared(tempfile::TempDir);

impl Drop for Cleared {
    fn drop(&mut self) {
        let dir = File::open(self.0.path()).unwrap();
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let place = Place::new(dir.as_fd(), name.as_bytes(), self.0.path()).unwrap();
            let removed = nar::remove_tree(&place);
            assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
        }
    }
}

/// Does `with` the place of `name` in `within`.
fn at<T>(within: &Path, name: &str, with: impl FnOnce(&Place<'_>) -> T) -> T {
    let dir = File::open(within).unwrap();
    with(&Place::new(dir.as_fd(), name.as_bytes(), within).unwrap())
}

/// Makes the trees, and what we say of them.
fn prepare(scratch: &Path) -> Vec<Tree> {
    for name in ["trees", "archives", "by-nix", "by-us"] {
        fs::create_dir(scratch.join(name)).unwrap();
    }
    let mut runner = TestRunner::deterministic();
    let strategy = trees(false);
    let mut hashes = String::new();
    let mut made = Vec::new();
    for n in 0..HASHED {
        let tree = strategy.new_tree(&mut runner).unwrap().current();
        let name = format!("{n:04}");
        let within = scratch.join("trees");
        tree.make(&within.join(&name));
        let (hash, _) = at(&within, &name, nar::hash_tree).unwrap();
        hashes += &format!("{}\n", hash.base32());
        if n < CARRIED {
            let mut file = File::create(scratch.join("archives").join(&name)).unwrap();
            at(&within, &name, |place| nar::dump(place, &mut file)).unwrap();
        }
        made.push(tree);
    }
    fs::write(scratch.join("hashes"), hashes).unwrap();
    fs::write(scratch.join("self.export"), of_itself()).unwrap();
    made
}

fn store() -> StoreDir {
    StoreDir::new(Path::new("/nix/store")).unwrap()
}

/// A stream of one object that refers to itself, several times.
fn of_itself() -> Vec<u8> {
    let name = ObjectName::parse(b"bqmb9ym92yy4rwlq9mlxcrjclqmwzdh0-itself").unwrap();
    let path = store()
        .store_path(&name)
        .into_os_string()
        .into_string()
        .unwrap();
    let content = Tree::File(true, format!("#!{path}/bin/a\n{path}{path}").into_bytes());
    let link = Tree::Link(format!("{path}/a").into_bytes());
    let archive = dir([("a", content), ("b", link)]).archive();
    let mut info = PathInfo::new(name.clone(), Sha256::of(&archive), archive.len() as u64);
    info.references.insert(name);
    let mut writer = ExportWriter::new(Vec::new(), "stream", store());
    let dump = |out: &mut dyn Write| {
        out.write_all(&archive).unwrap();
        Ok(())
    };
    writer.object_by(&info, dump).unwrap();
    writer.finish().unwrap()
}

/// What Nix restored of our archives is the tree.
fn restored_by_nix(scratch: &Path, made: &[Tree]) {
    for (n, tree) in made.iter().enumerate().take(CARRIED) {
        let restored = Tree::look(&scratch.join(format!("by-nix/{n:04}")));
        assert_eq!(&restored, tree, "{n}");
    }
}

/// Everything of a tree that Nix sets.
fn listing(path: &Path, out: &mut Vec<String>, shown: &str) {
    let stat = fs::symlink_metadata(path).unwrap();
    let time = (stat.mtime(), stat.mtime_nsec());
    out.push(format!(
        "{shown} {:o} {} {time:?} {}",
        stat.mode(),
        stat.uid(),
        stat.size()
    ));
    if stat.is_dir() {
        out.last_mut().unwrap().clear();
        out.push(format!("{shown} {:o} {} {time:?}", stat.mode(), stat.uid()));
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            let shown = format!("{shown}/{}", name.as_bytes().escape_ascii());
            listing(&path.join(&name), out, &shown);
        }
    }
}

/// What Nix added is sealed as what we restore, and as what we make canonical.
fn sealed_alike(scratch: &Path, made: &[Tree]) {
    let listed = |path: &Path| {
        let mut out = Vec::new();
        listing(path, &mut out, "");
        out
    };
    let added = fs::read_to_string(scratch.join("added")).unwrap();
    assert_eq!(added.lines().count(), CARRIED);
    for (n, path) in added.lines().enumerate() {
        let by_nix = listed(&scratch.join("store").join(path.trim_start_matches('/')));
        let (name, by_us) = (format!("{n:04}"), scratch.join("by-us"));
        let archive = made[n].archive();
        let mut input = Input::new(&archive[..], "archive");
        at(&by_us, &name, |place| nar::restore(place, &mut input)).unwrap();
        assert_eq!(listed(&by_us.join(&name)), by_nix, "{n} restored");
        let trees = scratch.join("trees");
        at(&trees, &name, |place| {
            nar::canonicalise(place, Links::Refuse)
        })
        .unwrap();
        assert_eq!(listed(&trees.join(&name)), by_nix, "{n} made canonical");
    }
}

/// Nix's stream is read, and written again is the same.
fn exported_alike(scratch: &Path) {
    let theirs = fs::read(scratch.join("export")).unwrap();
    let mut reader = ExportReader::new(&theirs[..], "export of Nix", store());
    let mut objects = BTreeMap::new();
    while let Some(got) = reader.next_object(&mut Discard).unwrap() {
        let mut info = PathInfo::new(got.name.clone(), got.nar_hash, got.nar_size);
        (info.references, info.deriver) = (got.references, got.deriver);
        objects.insert(got.name, info);
    }
    assert!(reader.into_inner().is_empty());
    assert!(
        objects.values().any(|info| info.references.len() > 1),
        "no references"
    );
    let within = scratch.join("store/nix/store");
    let mut writer = ExportWriter::new(Vec::new(), "export", store());
    for info in dependencies_first(&objects).unwrap() {
        at(&within, info.name.as_str(), |place| {
            writer.object(info, place)
        })
        .unwrap();
    }
    assert!(writer.finish().unwrap() == theirs, "the streams differ");
}

/// The object that Nix addressed by its content has the hash modulo itself that we compute.
fn addressed_alike(scratch: &Path) {
    let rows = fs::read_to_string(scratch.join("addressed")).unwrap();
    let (path, address) = rows.trim().split_once('|').expect("one object");
    let name = store().parse(Path::new(path)).unwrap().unwrap();
    let mut hasher = ModuloHasher::new(Algorithm::Sha256, Some(&name));
    let within = scratch.join("addressed-store/nix/store");
    at(&within, name.as_str(), |place| {
        nar::dump(place, &mut hasher)
    })
    .unwrap();
    assert!(hasher.refers_to_itself());
    assert_eq!(
        ContentAddress::parse(address).unwrap().hash,
        hasher.finish().zeroed
    );
}
