// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever a user does to the size or the shape of a tree, the driver lives, others are served,
//! and what was used up is given back.

use crate::common::check::{Must, absent, fails, lists, reads, stat, text, within};
use crate::common::fixture::Fixture;
use crate::common::mode::{PLAIN_ID, program};
use crate::common::mount::{MountGuard, run};
use crate::common::{for_each_mode, trace};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The levels of the deep tree.
const DEPTH: usize = 20_000;

/// Mounts a driver that may have `descriptors` descriptors.
fn mount_limited(fx: &Fixture, descriptors: u64) -> MountGuard {
    let before = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(descriptors),
        maximum: Some(descriptors),
    };
    setrlimit(Resource::Nofile, few).must();
    let m = fx.mount();
    // Root alone may have more again, and only root's tests need it.
    let _stays = setrlimit(Resource::Nofile, before);
    m
}

fn open_dir(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Returns the names in an open directory.
fn names(directory: &OwnedFd) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        found.insert(text(entry?.file_name().to_bytes()));
    }
    found.retain(|name| name != "." && name != "..");
    Ok(found)
}

/// Makes and uses `count` directories, so that the driver keeps the descriptors of none before.
fn crowd_out(m: &MountGuard, count: usize) {
    fs::create_dir(m.path("crowd")).must();
    for number in 0..count {
        let directory = m.path(format!("crowd/{number}"));
        fs::create_dir(&directory).must();
        absent(&directory.join("nothing"));
        stat(&directory);
    }
}

for_each_mode!(
    /// A tree may be deeper than any path is long, and than any stack: the way to its deepest
    /// directory is found again when no descriptor on the way is kept.
    a_deep_tree,
    [userns],
    |fx| {
        // A filesystem of its own goes as a whole; nothing here could walk such a tree by path.
        fs::create_dir_all(fx.scratch("up")).must();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(fx.scratch("up")));
        fx.upper().dir("deep");
        let m = mount_limited(fx, 256);
        let mode = Mode::from_raw_mode(0o755);
        let mut at = open_dir(CWD, m.path("deep").to_str().expect("ASCII")).must();
        // A tracer tells where a descriptor leads by its path, which must not be longer than any.
        let depth = if trace::directory().is_some() { 500 } else { DEPTH };
        for _ in 0..depth {
            mkdirat(&at, "d", mode).must();
            at = open_dir(&at, "d").must();
        }
        crowd_out(&m, 200);
        assert_eq!(names(&at).must(), BTreeSet::new());
        let made = openat(&at, "leaf", OFlags::CREATE | OFlags::WRONLY, mode).must();
        rustix::io::write(&made, b"deep").must();
        assert_eq!(names(&at).must(), BTreeSet::from(["leaf".to_owned()]));
        assert_eq!(statat(&at, "leaf", AtFlags::empty()).must().st_size, 4);
        let above = open_dir(&at, "..").must();
        assert_eq!(names(&above).must(), BTreeSet::from(["d".to_owned()]));
        reads_and_writes(&m);
        drop((at, above, made, m));
        run(Command::new("umount").arg(fx.scratch("up")));
    }
);

/// Requires that the mount works.
#[track_caller]
fn reads_and_writes(m: &MountGuard) {
    fs::write(m.path("alive"), "alive").must();
    reads(&m.path("alive"), "alive");
    fs::remove_file(m.path("alive")).must();
    absent(&m.path("alive"));
}

/// An answer that is none, or one of these names.
#[track_caller]
fn lists_at_most(directory: &OwnedFd, allowed: &[&str]) {
    let found = names(directory);
    println!("listed: {found:?}");
    for name in found.unwrap_or_default() {
        assert!(allowed.contains(&&*name), "{name}");
    }
}

for_each_mode!(
    /// Directories that are moved into each other's place behind the mount, while they are known
    /// by where they were, may be errors but never a way without end.
    a_circle_of_directories,
    |fx| {
        let u = fx.upper();
        u.file("u/A/in-a", "a").file("u/A/B/in-b", "b").file("u/other", "o");
        fx.lower().file("low", "lower");
        let m = mount_limited(fx, 256);
        let a = open_dir(CWD, m.path("u/A").to_str().expect("ASCII")).must();
        let b = open_dir(&a, "B").must();
        statat(&b, "in-b", AtFlags::empty()).must();
        fs::rename(u.path("u/A/B"), u.path("u/B")).must();
        fs::rename(u.path("u/A"), u.path("u/B/A")).must();
        let number = stat(&u.path("u/B/A")).ino();
        match statat(&b, "A", AtFlags::empty()) {
            Ok(found) => assert_eq!(found.st_ino, number),
            Err(errno) => println!("lookup of A in B: {errno}"),
        }
        // Twice: with the descriptors of both at hand, and when their way has to be found.
        for round in 0..2 {
            for (directory, below) in [(&b, "A"), (&a, "nothing"), (&b, "nothing")] {
                let found = statat(directory, below, AtFlags::empty()).map(|found| found.st_ino);
                println!("round {round}: {below}: {found:?}");
            }
            lists_at_most(&a, &["in-a", "B"]);
            lists_at_most(&b, &["in-b", "A"]);
            if round == 0 {
                crowd_out(&m, 200);
            }
        }
        for path in ["u/A/in-a", "u/B/in-b", "u/B/A/in-a", "u/A/B/in-b"] {
            println!("{path}: {:?}", fs::read(m.path(path)));
        }
        drop((a, b));
        reads_and_writes(&m);
        reads(&m.path("low"), "lower");
        reads(&m.path("u/other"), "o");
        fs::remove_dir_all(m.path("crowd")).must();
        lists(&m.path(""), &["low", "u"]);
    }
);

/// Runs `body` on a thread that is the user `id`, and nobody else.
fn as_user<T: Send>(id: u32, body: impl FnOnce() -> T + Send) -> T {
    let becoming = || {
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        rustix::thread::set_thread_groups(&[]).must();
        rustix::thread::set_thread_res_gid(group, group, group).must();
        rustix::thread::set_thread_res_uid(user, user, user).must();
        body()
    };
    thread::scope(|scope| scope.spawn(becoming).join().expect("the body is well"))
}

/// Makes, opens and removes files until the removal is refused.
fn flood(directory: &Path) -> (Vec<File>, io::Result<()>) {
    let mut open = Vec::new();
    for number in 0..2000 {
        let path = directory.join(number.to_string());
        match File::create_new(&path) {
            Ok(file) => open.push(file),
            Err(error) => return (open, Err(error)),
        }
        if let Err(error) = fs::remove_file(&path) {
            return (open, Err(error));
        }
    }
    (open, Ok(()))
}

/// What somebody else does meanwhile: looking up, reading, listing, writing and removing.
fn others_work(m: &MountGuard, directory: &Path) {
    for number in 0..40 {
        reads(&m.path(format!("many/{number}/f")), "upper");
        reads(&m.path(format!("low/{number}/f")), "lower");
        lists(&m.path(format!("many/{number}")), &["f"]);
    }
    lists(&m.path(""), &["flood", "low", "many"]);
    let path = directory.join("others");
    let file = File::create_new(&path).must();
    fs::remove_file(&path).must();
    assert_eq!(file.metadata().must().nlink(), 0);
}

for_each_mode!(
    /// Nobody can use up the driver's descriptors by keeping removed files open: it is the one who
    /// removes more who gets the error (ENFILE), and gets on once the files are closed.
    a_flood_of_removed_files,
    [root],
    |fx| {
        for number in 0..40 {
            fx.upper().file(format!("many/{number}/f"), "upper");
            fx.lower().file(format!("low/{number}/f"), "lower");
        }
        fx.upper().dir("flood").mode("flood", 0o1777);
        let m = mount_limited(fx, 600);
        let directory = m.path("flood");
        let (open, ended) = as_user(PLAIN_ID, || flood(&directory));
        println!("{} files", open.len());
        fails(Errno::NFILE, "the flood's last removal", ended);
        assert!(open.len() > 50, "refused after {} files", open.len());
        others_work(&m, &directory);
        as_user(PLAIN_ID + 1, || others_work(&m, &directory));
        let last = directory.join((open.len() - 1).to_string());
        as_user(PLAIN_ID, || fails(Errno::NFILE, "one more", fs::remove_file(&last)));
        drop(open);
        let again = || as_user(PLAIN_ID, || fs::remove_file(&last).is_ok());
        assert!(within(Duration::from_secs(2), again), "refused although all is closed");
        lists(&directory, &[]);
        let (open, _) = as_user(PLAIN_ID, || flood(&directory));
        assert!(open.len() > 50, "the second time refused after {} files", open.len());
        drop(open);
        let clean = || fs::remove_dir_all(&directory).is_ok();
        assert!(within(Duration::from_secs(2), clean));
    }
);

/// Returns the number of descriptors that the driver has.
fn descriptors(m: &MountGuard) -> usize {
    let merged = m.path("");
    let status = Command::new(program())
        .args(["status", "--json"])
        .arg(merged)
        .output()
        .must();
    let json: serde_json::Value = serde_json::from_slice(&status.stdout).must();
    let view = json.get(0).unwrap_or(&json);
    let pid = view["pid"].as_u64().expect("the driver tells its process");
    fs::read_dir(format!("/proc/{pid}/fd")).must().count()
}

/// Requires that the driver soon has about as many descriptors as `before`.
#[track_caller]
fn gives_back(m: &MountGuard, before: usize) {
    let mut now = 0;
    let given_back = within(Duration::from_secs(2), || {
        now = descriptors(m);
        now <= before + 10
    });
    assert!(given_back, "{now} descriptors, {before} before");
}

for_each_mode!(
    /// Every reference that a listing with attributes gave to the kernel is taken back: when the
    /// files are gone, so are their descriptors.
    references_of_a_long_listing,
    [root],
    |fx| {
        for number in 0..5000 {
            fx.upper().file(format!("d/{number}"), "");
        }
        fx.upper().file("f", "upper");
        let m = fx.mount();
        reads(&m.path("f"), "upper");
        let before = descriptors(&m);
        let listed = Command::new("ls").arg("-l").arg(m.path("d")).output().must();
        assert!(listed.status.success(), "{}", text(&listed.stderr));
        assert_eq!(text(&listed.stdout).lines().count(), 5001);
        for number in 0..5000 {
            fs::remove_file(m.path(format!("d/{number}"))).must();
        }
        fs::remove_dir(m.path("d")).must();
        run(Command::new("sh").args(["-c", "echo 2 >/proc/sys/vm/drop_caches"]));
        gives_back(&m, before);
    }
);
