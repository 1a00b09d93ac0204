// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects put into a store whose merged directory is a plain one.

use super::*;
use crate::error::Kind;
use crate::layout::{Layout, LowerStore, Settings};
use crate::metadata::Source;
use crate::nar::{FileHead, Sink, Writer};
use crate::operations::{self, Store, registration};
use crate::roots::Interrupt;
use crate::store::registration::{Form, Registration};
use crate::store::{Algorithm, ContentAddress, Hash, Method, ObjectName, PathInfo, Sha256};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

struct Scratch(TempDir);

impl Scratch {
    fn new() -> Scratch {
        let scratch = Scratch(TempDir::new().unwrap());
        for name in ["store", "lower"] {
            fs::create_dir(scratch.path(name)).unwrap();
        }
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn object(&self, name: &ObjectName) -> PathBuf {
        self.path("store").join(name.as_str())
    }

    fn open(&self) -> Store {
        self.open_until(Interrupt::never())
    }

    fn open_until(&self, interrupt: Interrupt) -> Store {
        let layout = Layout {
            lower: self.path("lower"),
            lower_store: LowerStore::Directory,
            upper: self.path("store"),
            work: None,
            merged: self.path("store"),
            store_dir: "/nix/store".into(),
            state: Some(self.path("state")),
            check_mount: false,
            read_only: false,
            settings: Settings::default(),
        };
        Store::open(&layout, interrupt).unwrap()
    }

    /// What is in the store directory.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("store")).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn name(number: u32) -> ObjectName {
    ObjectName::parse(format!("{number:032}-x").as_bytes()).unwrap()
}

/// The archive of a directory with one file.
fn archive(text: &str) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), "test").unwrap();
    let size = text.len() as u64;
    let executable = false;
    writer.directory().unwrap();
    writer.entry(b"file").unwrap();
    writer.file(FileHead { executable, size }).unwrap();
    writer.data(text.as_bytes()).unwrap();
    writer.end_file().unwrap();
    writer.end_directory().unwrap();
    writer.finish().unwrap()
}

fn info(number: u32, archive: &[u8]) -> PathInfo {
    PathInfo::new(name(number), Sha256::of(archive), archive.len() as u64)
}

fn is_valid(store: &Store, name: &ObjectName) -> bool {
    store.metadata().is_valid(name).unwrap()
}

#[test]
fn an_object_is_put_once() {
    let scratch = Scratch::new();
    let mut store = scratch.open();
    let nar = archive("one");
    let info = info(1, &nar);
    assert_eq!(put(&mut store, &info, &mut &nar[..]), Ok(Put::Added));
    assert_eq!(put(&mut store, &info, &mut &b""[..]), Ok(Put::Present));
    let file = scratch.object(&info.name).join("file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    assert_eq!(fs::metadata(&file).unwrap().mtime(), 1);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o444);
    assert_eq!(scratch.names(), [info.name.to_string()]);
    let known = store.metadata().path_info(&info.name).unwrap().unwrap();
    assert_eq!(
        (known.nar_hash, known.nar_size),
        (info.nar_hash, info.nar_size)
    );
    assert!(known.registration_time > 0);
}

#[test]
fn what_is_not_as_was_said_leaves_nothing() {
    let scratch = Scratch::new();
    let mut store = scratch.open();
    let nar = archive("one");
    let good = info(1, &nar);
    let mut table = vec![
        info(1, &archive("two")),
        good.clone(),
        good.clone(),
        good.clone(),
    ];
    table[1].nar_size += 1;
    // Valid nowhere.
    table[2].references.insert(name(2));
    // Of another content; that it leads to another name is checked besides.
    table[3].ca = Some(ContentAddress {
        method: Method::Nar,
        hash: Hash::of(Algorithm::Sha1, b"another"),
    });
    for wrong in table {
        // A name that the address leads to, where there is one.
        let wrong = addressed(&store, wrong);
        put(&mut store, &wrong, &mut &nar[..]).unwrap_err();
        assert!(!is_valid(&store, &wrong.name));
        assert!(scratch.names().is_empty(), "{:?}", scratch.names());
    }
    let cut = &nar[..nar.len() - 8];
    let error = put(&mut store, &good, &mut &cut[..]).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(scratch.names().is_empty());
    assert_eq!(put(&mut store, &good, &mut &nar[..]), Ok(Put::Added));
}

/// Gives an object the name to which its content address leads.
fn addressed(store: &Store, mut info: PathInfo) -> PathInfo {
    if let Some(address) = &info.ca {
        let none = crate::store::make::References::none();
        info.name = crate::store::make::for_content(store.dir(), address, "x", none).unwrap();
    }
    info
}

#[test]
fn content_addresses_of_each_kind_are_held_to() {
    let scratch = Scratch::new();
    let mut store = scratch.open();
    let mut file = Writer::new(Vec::new(), "test").unwrap();
    file.file(FileHead {
        executable: false,
        size: 5,
    })
    .unwrap();
    file.data(b"hello").unwrap();
    file.end_file().unwrap();
    let nar = file.finish().unwrap();
    for (method, algorithm, of) in [
        (Method::Flat, Algorithm::Sha512, &b"hello"[..]),
        (Method::Text, Algorithm::Sha256, b"hello"),
        (Method::Nar, Algorithm::Md5, &nar),
        (Method::Nar, Algorithm::Sha256, &nar),
    ] {
        for (hash, good) in [
            (Hash::of(algorithm, b"another"), false),
            (Hash::of(algorithm, of), true),
        ] {
            let mut info = info(1, &nar);
            info.ca = Some(ContentAddress { method, hash });
            let info = addressed(&store, info);
            let done = put(&mut store, &info, &mut &nar[..]);
            assert_eq!(done.is_ok(), good, "{method:?} {done:?}");
            assert_eq!(is_valid(&store, &info.name), good);
            assert_eq!(scratch.names().contains(&info.name.to_string()), good);
        }
    }
}

#[test]
fn a_broken_object_is_replaced_by_a_good_one_alone() {
    let scratch = Scratch::new();
    let mut store = scratch.open();
    let nar = archive("good");
    let info = info(1, &nar);
    put(&mut store, &info, &mut &nar[..]).unwrap();
    let (object, file) = (
        scratch.object(&info.name),
        scratch.object(&info.name).join("file"),
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "broken").unwrap();
    let other = archive("other");
    replace(&mut store, &info, &mut &other[..]).unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "broken");
    replace(&mut store, &info, &mut &nar[..]).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "good");
    assert_eq!(fs::metadata(&object).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(fs::metadata(&object).unwrap().mtime(), 1);
    assert_eq!(scratch.names(), [info.name.to_string()]);
    assert!(is_valid(&store, &info.name));
}

#[test]
fn an_interrupt_leaves_nothing() {
    let scratch = Scratch::new();
    let flag = Arc::new(AtomicBool::new(false));
    let mut store = scratch.open_until(Interrupt::when(Arc::clone(&flag)));
    let source = scratch.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "text").unwrap();
    flag.store(true, Ordering::Relaxed);
    add(&mut store, &source, &Recipe::default()).unwrap_err();
    let nar = archive("one");
    put(&mut store, &info(1, &nar), &mut &nar[..]).unwrap_err();
    assert!(scratch.names().is_empty());
    flag.store(false, Ordering::Relaxed);
    let (added, put) = add(&mut store, &source, &Recipe::default()).unwrap();
    assert_eq!(
        (put, scratch.names()),
        (Put::Added, vec![added.to_string()])
    );
}

#[test]
fn what_cannot_be_an_object_is_refused() {
    let scratch = Scratch::new();
    let mut store = scratch.open();
    let source = scratch.path("a name");
    fs::write(&source, "text").unwrap();
    let mut recipe = Recipe::default();
    let error = add(&mut store, &source, &recipe).unwrap_err();
    assert!(error.to_string().contains("--name"), "{error}");
    recipe.name = Some("name".to_owned());
    recipe.references.insert(name(1));
    // Valid nowhere.
    add(&mut store, &source, &recipe).unwrap_err();
    recipe.method = Method::Flat;
    assert_eq!(
        add(&mut store, &source, &recipe).unwrap_err().kind(),
        Kind::Usage
    );
    recipe.references.clear();
    let directory = scratch.path("store");
    assert_eq!(
        add(&mut store, &directory, &recipe).unwrap_err().kind(),
        Kind::Usage
    );
    recipe.method = Method::Text;
    recipe.algorithm = Algorithm::Sha1;
    assert_eq!(
        add(&mut store, &source, &recipe).unwrap_err().kind(),
        Kind::Usage
    );
    assert!(scratch.names().is_empty());
}

#[test]
fn only_what_is_there_is_registered() {
    let scratch = Scratch::new();
    let mut store = scratch.open();
    fs::write(scratch.object(&name(1)), "text").unwrap();
    let registration = |number| Registration {
        name: name(number),
        nar: None,
        deriver: None,
        references: [name(1)].into(),
    };
    let wish = registration::Wish {
        again: false,
        canonicalise: true,
    };
    let both = vec![registration(1), registration(2)];
    registration::register(&mut store, both, wish).unwrap_err();
    assert!(!is_valid(&store, &name(1)));
    let one = vec![registration(1)];
    assert_eq!(registration::register(&mut store, one.clone(), wish), Ok(1));
    assert_eq!(registration::register(&mut store, one, wish), Ok(0));
    let known = store.metadata().path_info(&name(1)).unwrap().unwrap();
    assert_eq!(known.references, [name(1)].into());
    assert_eq!(scratch.names(), [name(1).to_string()]);
    let text = b"/nix/store/x\n";
    let error = registration::read(store.dir(), Form::WithHashes, &text[..]).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn what_was_made_by_hand_is_sealed_at_once() {
    let scratch = Scratch::new();
    let mut store = scratch.open();
    fs::write(scratch.object(&name(1)), format!("see {}", name(2))).unwrap();
    let both = [name(1), name(2)].into();
    operations::seal(&mut store, &both).unwrap_err();
    assert!(!is_valid(&store, &name(1)));
    fs::write(scratch.object(&name(2)), "text").unwrap();
    let done = operations::seal(&mut store, &both).unwrap();
    assert_eq!(done, [(name(1), Put::Added), (name(2), Put::Added)]);
    let known = store.metadata().path_info(&name(1)).unwrap().unwrap();
    assert_eq!(known.references, [name(2)].into());
    let done = operations::seal(&mut store, &both).unwrap();
    assert_eq!(done, [(name(1), Put::Present), (name(2), Put::Present)]);
    assert_eq!(scratch.names(), [name(1).to_string(), name(2).to_string()]);
}
