// SPDX-License-Identifier: MIT OR Apache-2.0
//! Roots and locks together with real Nix, in two versions: each keeps what the other has rooted.
//!
//! Nix runs in a root folder (`scripts/nix-root`), in a pid namespace of its own; the test itself has
//! the roots, the server and the locks outside of it, on the same directories.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../common/root_folder.rs"]
mod root_folder;
#[path = "../common/skip.rs"]
mod skip;

use overstore::roots::{
    GcLock, GcServer, HashPart, Interrupt, PathLocks, Protected, Root, Stale, StoreDirs, TempRoots,
    add_indirect_root, add_permanent_root, find_permanent_roots, find_runtime_roots,
    find_temp_roots,
};
use overstore::store::{ObjectName, StoreDir};
use root_folder::{Inside, root_folder};
use skip::skip;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What takes longer hangs.
const LIMIT_SECONDS: u32 = 120;

macro_rules! with_nix {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $($(#[$doc])* mod $name {
            #[test]
            fn trixie() {
                crate::run("trixie", crate::steps::$name);
            }
            #[test]
            fn sid() {
                crate::run("sid", crate::steps::$name);
            }
        })+
    };
}

with_nix! {
    our_temporary_root_keeps_an_object,
    temporary_roots_and_locks_of_nix_are_seen,
    nix_adds_while_we_collect,
    permanent_roots_are_those_of_nix,
    runtime_roots_are_those_of_nix,
}

struct World {
    root: PathBuf,
    scratch: PathBuf,
    _removed: tempfile::TempDir,
    state: PathBuf,
    store: StoreDir,
}

fn run(suite: &str, steps: fn(&World)) {
    let root = match root_folder(suite) {
        Ok(root) => root,
        Err(why) => return skip(&why),
    };
    // A place that every root folder has.
    let scratch = tempfile::Builder::new()
        .prefix("overstore-roots-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in("/tmp")
        .unwrap();
    let path = scratch.path().canonicalize().unwrap();
    steps(&World {
        root,
        state: path.join("state"),
        store: StoreDir::new(&path.join("store")).unwrap(),
        scratch: path,
        _removed: scratch,
    });
}

impl World {
    fn nix(&self, arguments: &[&str]) -> Command {
        let steps = ["bash", "/run/tests/nix.sh"].map(OsStr::new);
        let arguments = arguments.iter().map(OsStr::new);
        let mut command = Inside::new(&self.root, LIMIT_SECONDS)
            .bind(&self.scratch, &self.scratch)
            .bind_here("tests/roots", "/run/tests")
            .command(
                steps
                    .into_iter()
                    .chain([self.scratch.as_os_str()])
                    .chain(arguments),
            );
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Has Nix do one step, and returns what it printed.
    fn step(&self, arguments: &[&str]) -> String {
        finished(self.nix(arguments).spawn().unwrap())
    }

    fn add(&self, name: &str) -> ObjectName {
        self.object(&self.step(&["add", name]))
    }

    fn object(&self, path: &str) -> ObjectName {
        self.store.parse(Path::new(path.trim())).unwrap().unwrap()
    }

    fn there(&self, object: &ObjectName) -> bool {
        self.store.store_path(object).symlink_metadata().is_ok()
    }

    fn keep(&self, object: &ObjectName) -> TempRoots {
        let roots = TempRoots::open(&self.state, &self.store, Interrupt::never()).unwrap();
        roots.add(object).unwrap();
        roots
    }

    /// The objects of what Nix printed as roots: `LINK -> PATH`.
    fn printed(&self) -> BTreeSet<Root> {
        let text = fs::read_to_string(self.scratch.join("printed")).unwrap();
        let root = |line: &str| {
            let (link, path) = line.split_once(" -> ").unwrap();
            Root {
                link: link.into(),
                object: self.object(path),
            }
        };
        text.lines().map(root).collect()
    }

    /// Waits for a file that a step writes, and returns what it says.
    fn told(&self, file: &str) -> String {
        let path = self.scratch.join(file);
        until(|| fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
        fs::read_to_string(path).unwrap()
    }
}

fn until(done: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(LIMIT_SECONDS.into());
    while !done() {
        assert!(Instant::now() < limit, "it never happens");
        std::thread::yield_now();
    }
}

fn finished(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

mod steps {
    use super::*;

    pub(super) fn our_temporary_root_keeps_an_object(world: &World) {
        let (kept, dead) = (world.add("kept"), world.add("dead"));
        let roots = world.keep(&kept);
        world.step(&["collect"]);
        assert!(world.there(&kept) && !world.there(&dead));
        drop(roots);
        // The name that a namesake of another namespace leaves us.
        let file = world
            .state
            .join("temproots")
            .join(std::process::id().to_string());
        let living = fs::File::create(file).unwrap();
        rustix::fs::flock(&living, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let roots = world.keep(&kept);
        world.step(&["collect"]);
        assert!(world.there(&kept));
        drop(roots);
        world.step(&["collect"]);
        assert!(!world.there(&kept));
    }

    pub(super) fn temporary_roots_and_locks_of_nix_are_seen(world: &World) {
        let end = world.scratch.join("end");
        nix::unistd::mkfifo(&end, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let building = world.nix(&["build"]).spawn().unwrap();
        let output = world.object(&world.told("building"));
        let found = find_temp_roots(&world.state, &world.store, Stale::Remove).unwrap();
        assert!(found.contains(&HashPart::of(&output)), "{found:?}");
        let (merged, both) = (world.store.as_path(), [output.clone()].into());
        assert!(PathLocks::try_take(merged, &both).unwrap().is_none());
        fs::write(&end, "x\n").unwrap();
        finished(building);
        assert!(world.there(&output));
        assert!(PathLocks::try_take(merged, &both).unwrap().is_some());
        assert!(
            find_temp_roots(&world.state, &world.store, Stale::Remove)
                .unwrap()
                .is_empty()
        );
    }

    pub(super) fn nix_adds_while_we_collect(world: &World) {
        let old = world.add("old");
        let never = Interrupt::never();
        let lock = GcLock::exclusive(&world.state, &never).unwrap();
        let protected = Protected::new([]).unwrap();
        let server = GcServer::start(&lock, &world.store, &protected).unwrap();
        let added = world.add("new");
        assert!(protected.is_protected(HashPart::of(&added)));
        // What is being deleted is waited for, across the end of this collector.
        let deleting = protected.begin_delete(&old).unwrap();
        let mut adding = world.nix(&["add", "old"]).spawn().unwrap();
        until(|| protected.is_protected(HashPart::of(&old)));
        assert!(adding.try_wait().unwrap().is_none());
        drop(server);
        drop(deleting);
        // Nobody serves now; then the next collector does.
        let next = Protected::new([]).unwrap();
        let server = GcServer::start(&lock, &world.store, &next).unwrap();
        until(|| next.is_protected(HashPart::of(&old)));
        assert_eq!(world.object(&finished(adding)), old);
        drop(server);
        drop(lock);
        assert!(GcLock::try_shared(&world.state).unwrap().is_some());
    }

    #[expect(clippy::too_many_lines, reason = "one line for each kind of link")]
    pub(super) fn permanent_roots_are_those_of_nix(world: &World) {
        let object = world.add("rooted");
        let path = world.store.store_path(&object);
        let link = |place: &str, target: &Path| {
            let link = world.scratch.join(place);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, &link).unwrap();
            link
        };
        let by_nix = world.scratch.join("by-nix");
        world.step(&["rooted", path.to_str().unwrap(), by_nix.to_str().unwrap()]);
        let auto = || {
            fs::read_dir(world.state.join("gcroots/auto"))
                .unwrap()
                .count()
        };
        let before = auto();
        add_indirect_root(&world.state, &by_nix).unwrap();
        assert_eq!(auto(), before, "the link of Nix has another name");
        let ours = world.scratch.join("ours");
        let temp = world.keep(&object);
        add_permanent_root(&world.state, &world.store, &temp, &ours, &object).unwrap();
        drop(temp);
        link("state/gcroots/direct", &path);
        link("state/gcroots/a/b/inside", &path.join("x/y"));
        link("state/profiles/p-1-link", &path);
        let outside = link("outside", &path);
        link("state/gcroots/a/relative", Path::new("../../../outside"));
        link("state/gcroots/auto/x", &outside);
        link("state/gcroots/twice", &world.state.join("gcroots/auto/x"));
        link("state/gcroots/loop", Path::new("loop"));
        link("state/gcroots/top", world.store.as_path());
        link("state/gcroots/above", &world.store.as_path().join("../x"));
        link(
            "state/gcroots/double",
            Path::new(&format!("{}//{object}", world.store.as_path().display())),
        );
        link("state/gcroots/dangling", Path::new("/nowhere"));
        link("state/gcroots/others", &world.scratch);
        let unknown = format!("{}-unknown", "0".repeat(32));
        link(
            "state/gcroots/unknown",
            &world.store.as_path().join(&unknown),
        );
        fs::write(world.state.join("gcroots/a").join(object.as_str()), "").unwrap();
        fs::write(world.state.join("gcroots").join(&unknown), "").unwrap();
        let stale = link("state/gcroots/auto/stale", Path::new("/nowhere/at/all"));

        let valid = |name: &ObjectName| Ok(*name == object);
        let find = || {
            let never = Interrupt::never();
            find_permanent_roots(&world.state, &world.store, Stale::Keep, &valid, &never).unwrap()
        };
        let found = find();
        assert_eq!(found.stale, [stale]);
        world.step(&["printed"]);
        let printed: BTreeSet<_> = world.printed();
        assert_eq!(found.roots, printed);
        assert!(found.roots.iter().any(|root| root.link == ours));
        // Nix has removed the one that is stale.
        assert!(find().stale.is_empty());
    }

    pub(super) fn runtime_roots_are_those_of_nix(world: &World) {
        let end = world.scratch.join("end");
        nix::unistd::mkfifo(&end, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let running = world.nix(&["run"]).spawn().unwrap();
        let used: Vec<_> = world
            .told("used")
            .lines()
            .map(|path| world.object(path))
            .collect();
        let find = |others: Vec<PathBuf>| {
            let dirs = StoreDirs::new(&world.store, others);
            let valid = |name: &ObjectName| Ok(used.contains(name));
            find_runtime_roots(&dirs, &valid, &Interrupt::never()).unwrap()
        };
        let places = |roots: BTreeSet<Root>| -> BTreeSet<(String, ObjectName)> {
            // Processes have other numbers there.
            let place = |link: &Path| link.iter().skip(3).collect::<PathBuf>();
            let place = |root: Root| (place(&root.link).display().to_string(), root.object);
            roots.into_iter().map(place).collect()
        };
        let (ours, elsewhere) = (find(vec![]), find(vec![world.scratch.join("elsewhere")]));
        fs::write(&end, "").unwrap();
        finished(running);
        assert_eq!(places(ours), places(world.printed()));
        let objects: BTreeSet<_> = elsewhere.into_iter().map(|root| root.object).collect();
        assert_eq!(objects, used.iter().cloned().collect());
        let nixs: BTreeSet<_> = world
            .printed()
            .into_iter()
            .map(|root| root.object)
            .collect();
        assert_eq!(nixs.len() + 1, used.len());
    }
}
