// SPDX-License-Identifier: MIT OR Apache-2.0
//! One database, written by us and by real Nix in turn, in two versions: each reads what the other
//! wrote, and both would have written the same.

use crate::place::{local, raw, store_dir, upper};
use crate::root_folder::{Inside, root_folder, scratch};
use crate::skip::skip;
use overstore::metadata::{Registration, Source};
use overstore::store::{Algorithm, ContentAddress, Hash, Method, ObjectName, PathInfo, Sha256};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What takes longer hangs.
const LIMIT_SECONDS: u32 = 120;

struct World {
    root: PathBuf,
    dir: tempfile::TempDir,
}

impl World {
    fn new(suite: &str) -> Option<World> {
        let root = match root_folder(suite) {
            Ok(root) => root,
            Err(why) => {
                skip(&why);
                return None;
            }
        };
        let dir = scratch("metadata-nix-");
        Some(World { root, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, store: &str) -> PathBuf {
        self.path(store).join("nix/var/nix")
    }

    /// Has Nix do one step.
    #[track_caller]
    fn nix(&self, words: &[&str]) {
        Inside::new(&self.root, LIMIT_SECONDS)
            .bind(&self.dir, "/mnt")
            .bind_here("tests/metadata", "/run/tests")
            .run(["bash", "/run/tests/nix.sh"].iter().chain(words))
            .check();
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path("said").join(name))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn said_name(&self, name: &str) -> ObjectName {
        ObjectName::parse(self.said(name).as_bytes()).unwrap()
    }

    /// Writes an object of a store and returns its info.
    fn object(
        &self,
        store: &str,
        name: &str,
        content: &str,
        references: &[&ObjectName],
    ) -> PathInfo {
        let name = ObjectName::parse(name.as_bytes()).unwrap();
        let place = self.path(store).join("nix/store").join(name.as_str());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, content).unwrap();
        let mut nar = Vec::new();
        nix_nar::Encoder::new(&place)
            .unwrap()
            .read_to_end(&mut nar)
            .unwrap();
        let mut info = PathInfo::new(name, Sha256::of(&nar), nar.len() as u64);
        info.references = references.iter().copied().cloned().collect();
        info.registration_time = 1_600_000_000;
        info
    }
}

fn full(name: &ObjectName) -> String {
    store_dir().store_path(name).to_str().unwrap().to_owned()
}

fn lines(names: &[&ObjectName]) -> String {
    let paths: BTreeSet<String> = names.iter().map(|name| full(name)).collect();
    paths.into_iter().collect::<Vec<_>>().join("\n")
}

/// Requires that Nix said the same of every object as `source` says.
#[track_caller]
fn same(said: &str, source: &dyn Source) -> usize {
    let said: BTreeMap<String, Value> = serde_json::from_str(said).unwrap();
    let names = source.all_valid().unwrap();
    let paths: Vec<String> = names.iter().map(full).collect();
    assert_eq!(said.keys().cloned().collect::<Vec<_>>(), paths);
    for name in &names {
        let info = source.path_info(name).unwrap().unwrap();
        let expected = json!({
            "ca": info.ca.map(|ca| ca.to_string()),
            "deriver": info.deriver.as_ref().map(full),
            "narHash": info.nar_hash.sri(),
            "narSize": info.nar_size,
            "references": info.references.iter().map(full).collect::<Vec<_>>(),
            "registrationTime": info.registration_time,
            "signatures": info.signatures,
            "ultimate": info.ultimate,
        });
        for (field, value) in expected.as_object().unwrap() {
            // Nix leaves some fields out where there is nothing to say.
            let found = said[&full(name)]
                .get(field)
                .cloned()
                .unwrap_or(match field.as_str() {
                    "signatures" => json!([]),
                    "ultimate" => json!(false),
                    _ => Value::Null,
                });
            assert_eq!(found, *value, "{field} of {name}");
        }
    }
    names.len()
}

/// Columns, foreign keys and indices of the core tables.
fn shape(state: &Path) -> BTreeSet<String> {
    let database = raw(state);
    let mut found = BTreeSet::new();
    for table in [
        "ValidPaths",
        "Refs",
        "DerivationOutputs",
        "SchemaMigrations",
    ] {
        for query in [
            "SELECT 'column ' || concat_ws('|', name, upper(type), \"notnull\", dflt_value, pk) FROM pragma_table_info(?1)",
            "SELECT 'key ' || concat_ws('|', \"table\", \"from\", \"to\", on_update, on_delete) FROM pragma_foreign_key_list(?1)",
            "SELECT 'index ' || concat_ws('|', list.\"unique\", origin, info.name, info.seqno) FROM pragma_index_list(?1) AS list, \
             pragma_index_info(list.name) AS info WHERE list.name != 'IndexReferrer'",
            "SELECT type || ' ' || name FROM sqlite_schema WHERE tbl_name = ?1 AND name != 'IndexReferrer'",
        ] {
            let mut query = database.prepare(query).unwrap();
            let rows = query
                .query_map([table], |row| row.get::<_, String>(0))
                .unwrap();
            found.extend(rows.map(|row| format!("{table}: {}", row.unwrap())));
        }
    }
    found
}

/// An object with all that a row can say, and one to which it refers.
fn two(world: &World) -> [PathInfo; 2] {
    let lib = world.object("ours", "00000000000000000000000000000001-lib", "lib", &[]);
    let mut tool = world.object(
        "ours",
        "00000000000000000000000000000002-tool",
        "tool",
        &[&lib.name],
    );
    tool.references.insert(tool.name.clone());
    tool.deriver = Some(ObjectName::parse(b"00000000000000000000000000000003-tool.drv").unwrap());
    tool.ultimate = true;
    tool.signatures = ["k-1:YWJj".to_owned(), "a-1:YWJj".to_owned()].into();
    tool.ca = Some(ContentAddress {
        method: Method::Nar,
        hash: Hash::of(Algorithm::Sha256, b"tool"),
    });
    [tool, lib]
}

/// Nix reads a database that we made, and we what it made of it.
fn ours(world: &World) {
    let [tool, lib] = two(world);
    let state = world.state("ours");
    let batch = [tool.clone(), lib.clone()].map(Registration::new);
    let mut open = upper(&state);
    open.write(|change| change.register(&batch)).unwrap();
    // While we have it open.
    world.nix(&["read_ours", &full(&tool.name), &full(&lib.name)]);
    drop(open);
    let said = world.said("ours");
    let said: BTreeMap<String, Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said[&full(&tool.name)]["registrationTime"],
        json!(1_600_000_000)
    );
    assert_eq!(
        said[&full(&tool.name)]["narHash"],
        json!(tool.nar_hash.sri())
    );
    assert_eq!(
        said[&full(&tool.name)]["signatures"],
        json!(["a-1:YWJj", "k-1:YWJj"])
    );
    assert_eq!(world.said("references"), lines(&[&lib.name, &tool.name]));
    assert_eq!(world.said("referrers"), lines(&[&tool.name]));
    let found = local(&state);
    assert_eq!(same(&world.said("ours-then"), &found), 2);
    let signed = found.path_info(&lib.name).unwrap().unwrap();
    assert!(
        signed
            .signatures
            .iter()
            .any(|one| one.starts_with("test-1:"))
    );
}

/// We read a database that Nix made, and it what we made of it.
fn theirs(world: &World) {
    let (state, drv, other) = (
        world.state("theirs"),
        world.said_name("drv"),
        world.said_name("other"),
    );
    let found = local(&state);
    assert_eq!(same(&world.said("theirs"), &found), 3);
    let outputs = found.outputs(&drv).unwrap();
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["dev", "out"]);
    assert_eq!(
        lines(&outputs.values().collect::<Vec<_>>()),
        world.said("outputs")
    );
    assert_eq!(
        found.valid_derivers(&outputs["out"]).unwrap(),
        [drv.clone()].into()
    );
    drop(found);
    let new = world.object(
        "theirs",
        "00000000000000000000000000000004-new",
        "new",
        &[&drv],
    );
    let mut upper = upper(&state);
    let mut again = upper.path_info(&other).unwrap().unwrap();
    again.signatures.insert("z-1:YWJj".to_owned());
    let batch = [new, again].map(Registration::new);
    upper.write(|change| change.register(&batch)).unwrap();
    world.nix(&["read_theirs"]);
    assert_eq!(same(&world.said("theirs"), &upper), 4);
}

/// Rows that Nix copies up from its lower store are those that we copy up.
fn copied(world: &World) {
    let (drv, other) = (world.said_name("drv"), world.said_name("other"));
    world.nix(&["copy_up", &full(&drv), &full(&other)]);
    let lower = local(&world.state("theirs"));
    let state = world.path("state-ours");
    let mut upper = upper(&state);
    let copied = upper.write(|change| change.copy_up([&drv, &other], &lower));
    assert_eq!(copied, Ok(3));
    let theirs = local(&world.path("state-nix"));
    assert_eq!(theirs.all_valid().unwrap(), upper.all_valid().unwrap());
    for name in theirs.all_valid().unwrap() {
        let row = lower.path_info(&name).unwrap();
        assert_eq!(
            theirs.path_info(&name).unwrap(),
            row,
            "{name} copied by Nix"
        );
        assert_eq!(upper.path_info(&name).unwrap(), row, "{name} copied by us");
        assert_eq!(
            theirs.outputs(&name).unwrap(),
            upper.outputs(&name).unwrap()
        );
    }
    // A reference that only the lower has.
    let below = ObjectName::parse(b"00000000000000000000000000000004-new").unwrap();
    let name = ObjectName::parse(b"00000000000000000000000000000005-top").unwrap();
    let mut top = PathInfo::new(name.clone(), Sha256::of(b""), 96);
    top.references.insert(below.clone());
    let batch = [Registration::new(top)];
    upper
        .write(|change| change.register_merging(&batch, &lower))
        .unwrap();
    world.nix(&["read_overlay", &full(&name)]);
    assert_eq!(same(&world.said("overlay"), &upper), 5);
    let lib = lower.path_info(&drv).unwrap().unwrap();
    let mut closure = vec![&name, &below, &drv];
    closure.extend(lib.others());
    assert_eq!(world.said("requisites"), lines(&closure));
}

fn run(suite: &str) {
    let Some(world) = World::new(suite) else {
        return;
    };
    world.nix(&["make"]);
    ours(&world);
    assert_eq!(shape(&world.state("ours")), shape(&world.state("theirs")));
    theirs(&world);
    copied(&world);
}

#[test]
fn nix_of_trixie() {
    run("trixie");
}

#[test]
fn nix_of_sid() {
    run("sid");
}
