// SPDX-License-Identifier: MIT OR Apache-2.0
//! A store of real Nix, asked through its daemon and by its database: both tell the same.

use crate::nix::Nix;
use crate::{layout, manifest, state};
use overstore::metadata::lower::daemon::{Daemon, Patience};
use overstore::metadata::{Source, lower};
use overstore::store::percent::encode_query_value;
use overstore::store::{ObjectName, StoreDir};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

fn directory() -> StoreDir {
    StoreDir::new(Path::new("/nix/store")).unwrap()
}

fn object(path: &str) -> ObjectName {
    directory().parse(Path::new(path)).unwrap().unwrap()
}

fn daemon(nix: &Nix) -> Daemon {
    Daemon::new(&nix.path("socket"), directory(), Patience::default())
}

fn database(nix: &Nix, how: &str) -> Box<dyn Source> {
    let lower = format!("{}{how}", nix.path("lower").display());
    lower::open(&layout(&lower)).unwrap().unwrap()
}

/// Objects of every kind: built ones with references, derivations, sources, text, one with a signature.
fn make(nix: &mut Nix) {
    nix.run("echo source >/mnt/source; store --add /mnt/source");
    nix.run("nix-build --quiet --store $lower --no-out-link /run/tests/world.nix -A app -A top -A fixed");
    nix.run("store --generate-binary-cache-key k-1 /mnt/secret /mnt/public");
    nix.run("nix store sign --store $lower -k /mnt/secret /nix/store/$(basename /mnt/lower/nix/store/*-app)");
}

/// Asks both everything.
fn same(one: &dyn Source, other: &dyn Source) -> usize {
    let all = one.all_valid().unwrap();
    assert_eq!(other.all_valid().unwrap(), all);
    let (mut signed, mut addressed, mut derived, mut made) = (0, 0, 0, 0);
    for name in &all {
        assert!(one.is_valid(name).unwrap() && other.is_valid(name).unwrap());
        let info = one.path_info(name).unwrap().unwrap();
        assert_eq!(other.path_info(name).unwrap().as_ref(), Some(&info));
        assert_eq!(one.referrers(name), other.referrers(name), "{name}");
        assert_eq!(
            one.valid_derivers(name),
            other.valid_derivers(name),
            "{name}"
        );
        let outputs = one.outputs(name).unwrap();
        assert_eq!(other.outputs(name).unwrap(), outputs, "{name}");
        let part = name.hash_part();
        assert_eq!(one.with_hash_part(part).unwrap().as_ref(), Some(name));
        assert_eq!(other.with_hash_part(part).unwrap().as_ref(), Some(name));
        signed += usize::from(!info.signatures.is_empty());
        addressed += usize::from(info.ca.is_some());
        derived += usize::from(info.deriver.is_some());
        made += outputs.len();
    }
    // Nothing of it was compared by nobody having it.
    assert!(signed > 0 && addressed > 2 && derived > 2 && made > 3);
    let nobody = object("/nix/store/00000000000000000000000000000000-nobody.drv");
    for source in [one, other] {
        assert_eq!(source.is_valid(&nobody), Ok(false));
        assert_eq!(source.path_info(&nobody), Ok(None));
        assert!(source.outputs(&nobody).unwrap().is_empty());
        assert!(source.referrers(&nobody).unwrap().is_empty());
        assert_eq!(source.with_hash_part(nobody.hash_part()), Ok(None));
    }
    all.len()
}

fn run(suite: &str) {
    let Some(mut nix) = Nix::of(suite) else {
        return;
    };
    make(&mut nix);
    let by_database = database(&nix, "");
    let read_only = database(&nix, "%3Fread-only%3Dtrue");
    assert_eq!(read_only.all_valid(), by_database.all_valid());
    nix.run("start_daemon");
    let served = daemon(&nix);
    assert!(same(&served, by_database.as_ref()) > 8);
    nars(&mut nix, &served);
    grows(&mut nix, &served);
    roots(&mut nix);
    restarts(&mut nix, &served);
    nix.run("end_daemon");
    drop((served, by_database, read_only));
    nested(&mut nix);
    untouched(&mut nix);
}

/// A NAR comes to its end, and one that is not there is an error.
fn nars(nix: &mut Nix, served: &Daemon) {
    for name in ["app", "source", "lower", "top.drv"] {
        let path = nix.run(&format!(
            "echo /nix/store/$(basename /mnt/lower/nix/store/*-{name})"
        ));
        nix.run(&format!("nix-store --dump /mnt/lower{path} >/mnt/nar"));
        let mut found = Vec::new();
        served
            .nar(&object(&path))
            .unwrap()
            .read_to_end(&mut found)
            .unwrap();
        assert!(found == std::fs::read(nix.path("nar")).unwrap(), "{name}");
    }
    let nobody = object("/nix/store/00000000000000000000000000000000-nobody");
    let error = served.nar(&nobody).unwrap_err().to_string();
    assert!(
        error.contains("it answered: ") && error.contains("nobody"),
        "{error}"
    );
}

/// New objects are seen: by a daemon at once, in a database by whoever opens it anew.
fn grows(nix: &mut Nix, served: &Daemon) {
    let log = nix.path("lower/nix/var/nix/db/db.sqlite-wal");
    let followed = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    let before = database(nix, "");
    let count = before.all_valid().unwrap().len();
    let new = object(&nix.run("echo new >/mnt/new; store --add /mnt/new"));
    assert_eq!(served.is_valid(&new), Ok(true));
    assert_eq!(before.all_valid().unwrap().len(), count);
    // Read without a log, since there was nothing in it, it may have been read in pieces.
    match (followed, before.finish()) {
        (true, finished) => assert_eq!(finished, Ok(())),
        (false, finished) => {
            let error = finished.unwrap_err().to_string();
            assert!(error.contains("opened for writing meanwhile"), "{error}");
        }
    }
    let after = database(nix, "");
    assert_eq!(after.is_valid(&new), Ok(true));
    assert_eq!(after.path_info(&new), served.path_info(&new));
    let both = [
        new.clone(),
        object("/nix/store/00000000000000000000000000000000-nobody"),
    ];
    assert_eq!(served.valid_among(&both.into()), Ok([new].into()));
}

/// What is kept is not collected.
fn roots(nix: &mut Nix) {
    let path = nix.run("echo kept >/mnt/kept; store --add /mnt/kept");
    let keeper = daemon(nix);
    keeper.add_temp_root(&object(&path)).unwrap();
    let (code, printed) = nix.try_run(&format!("store --delete {path}"));
    assert_ne!(code, 0, "{printed}");
    assert_eq!(keeper.is_valid(&object(&path)), Ok(true));
}

/// A daemon that was started anew is connected to anew.
fn restarts(nix: &mut Nix, served: &Daemon) {
    let all = served.all_valid().unwrap();
    nix.run("end_daemon");
    // Which error depends on what the last process was doing as it ended.
    assert!(served.all_valid().is_err());
    nix.run("start_daemon");
    assert_eq!(served.all_valid(), Ok(all));
}

/// An overlay store over an overlay store, both made by Nix.
fn nested(nix: &mut Nix) {
    let over = |root: &str, name: &str, lower: &str| {
        let lower = encode_query_value(lower.as_bytes());
        format!(
            "local-overlay://?root={root}/{name}&upper-layer={root}/{name}-upper\
             &check-mount=false&lower-store={lower}"
        )
    };
    let urls = |root: &str| {
        let one = over(root, "one", &format!("{root}/lower"));
        let two = over(root, "two", &one);
        (one, two)
    };
    let (one, two) = urls("/mnt");
    nix.run("mkdir -p /mnt/one-upper /mnt/two-upper; \
             echo extra-experimental-features = local-overlay-store read-only-local-store >>$NIX_CONF_DIR/nix.conf");
    let mut added = BTreeSet::new();
    for (name, url) in [("first", &one), ("second", &two)] {
        let add = format!("echo {name} >/mnt/{name}; nix-store --store '{url}' --add /mnt/{name}");
        added.insert(object(nix.run(&add).lines().last().unwrap()));
    }
    let (_, outside) = urls(nix.path("").to_str().unwrap().trim_end_matches('/'));
    let third = encode_query_value(outside.as_bytes());
    let nest = lower::open(&layout(&third)).unwrap().unwrap();
    let below = database(nix, "").all_valid().unwrap();
    assert_eq!(added.len(), 2);
    assert!(added.is_disjoint(&below));
    assert_eq!(nest.all_valid().unwrap(), &below | &added);
    for name in &added {
        let path = format!("/nix/store/{name}");
        let hash = nix.run(&format!(
            "nix-store --store '{two}' --query --hash {path} | tail -n 1"
        ));
        let found = nest.path_info(name).unwrap().unwrap().nar_hash;
        let found = overstore::store::base32::encode(&found.0);
        assert_eq!(hash, format!("sha256:{found}"));
    }
    assert_eq!(nest.finish(), Ok(()));
}

/// Reading the database changes nothing, be its log empty, full or gone.
fn untouched(nix: &mut Nix) {
    let db = nix.path("lower/nix/var/nix/db");
    for prepare in ["true", "rm -f /mnt/lower/nix/var/nix/db/db.sqlite-*"] {
        nix.run(prepare);
        let before = state(&nix.path("lower"));
        let reader = database(nix, "");
        for name in reader.all_valid().unwrap() {
            assert!(reader.path_info(&name).unwrap().is_some());
        }
        assert_eq!(reader.finish(), Ok(()));
        drop(reader);
        let after = state(&nix.path("lower"));
        let changed = manifest::differences(&before, &after);
        assert!(
            changed.is_empty(),
            "{prepare}: {}: {changed:#?}",
            db.display()
        );
    }
}

#[test]
fn of_trixie() {
    run("trixie");
}

#[test]
fn of_sid() {
    run("sid");
}
