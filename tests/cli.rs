// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line as a user meets it: mistakes, mounts, status, `run`.
//!
//! Tests that need more than a file system say "skipped: why" where they cannot run; with
//! `OVERSTORE_REQUIRE=1` in the environment a skip is a failure.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "common/skip.rs"]
mod skip;

use skip::skip;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A user who may do nothing special; has an entry in /etc/passwd everywhere.
const NOBODY: u32 = 65534;

/// Who runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Root of this machine.
    Root,
    /// Root of a user namespace, with its own mount namespace.
    NamespaceRoot,
    /// A plain user.
    Plain,
}

/// The directories of one test; gone with it, mounts included.
struct Place {
    dir: tempfile::TempDir,
    who: Who,
}

impl Place {
    fn new(who: Who) -> Place {
        let dir = tempfile::Builder::new()
            .prefix("overstore-cli-")
            .tempdir()
            .unwrap();
        let place = Place { dir, who };
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["l", "u", "m"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        fs::write(place.path("l/low"), "from the lower\n").unwrap();
        // Not by this process: a test that forks meanwhile would hold it open for writing.
        let copied = Command::new("cp")
            .args([
                OsStr::new(env!("CARGO_BIN_EXE_overstore")),
                place.path("overstore").as_os_str(),
            ])
            .status();
        assert!(copied.unwrap().success());
        if who == Who::Plain && is_root() {
            for name in ["l", "u", "m", ""] {
                chown(place.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The options that name the layers.
    fn layers(&self) -> String {
        format!(
            "lowerdir={},upperdir={}",
            self.path("l").display(),
            self.path("u").display()
        )
    }

    /// The program, in the environment of whoever runs it here.
    fn overstore(&self) -> Command {
        let program = self.path("overstore");
        self.command(program)
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = self.command("/bin/sh");
        command.args(["-c", script]);
        command.env("O", self.path("overstore"));
        command.env("LAYERS", self.layers());
        command.env("M", self.path("m"));
        command.current_dir(self.dir.path());
        command
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.who {
            Who::NamespaceRoot => {
                let mut command = Command::new("unshare");
                command.args(["-Urm", "--"]).arg(program);
                command
            }
            Who::Root | Who::Plain => Command::new(program),
        };
        if self.who == Who::Plain && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        for name in [
            "OVERSTORE_STORE",
            "OVERSTORE_LOG",
            "NIX_REMOTE",
            "NIX_STORE_DIR",
            "NIX_STORE",
        ] {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a private namespace the mount has gone with the namespace.
        if self.who != Who::NamespaceRoot {
            drop(
                self.overstore()
                    .args(["umount", "--lazy"])
                    .arg(self.path("m"))
                    .output(),
            );
        }
        // OverlayFS leaves a directory of mode 0 in its work directory, which stops its owner.
        let mut open = Command::new("chmod");
        drop(open.args(["-R", "u+rwX"]).arg(self.path("")).output());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether `who` can be played here, with FUSE.
fn can(who: Who) -> bool {
    let device = Path::new("/dev/fuse");
    let Ok(metadata) = fs::metadata(device) else {
        skip("no /dev/fuse");
        return false;
    };
    let open_to_all = metadata.permissions().mode() & 0o006 == 0o006;
    let why = match who {
        Who::Root if !is_root() => "not root",
        Who::Plain | Who::NamespaceRoot if !open_to_all => "/dev/fuse is not open to all users",
        Who::Plain if !succeeds(Command::new("fusermount3").arg("-V")) => "no fusermount3",
        Who::NamespaceRoot if !succeeds(Command::new("unshare").args(["-Urm", "true"])) => {
            "no user namespaces"
        }
        _ => return true,
    };
    skip(why);
    false
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[track_caller]
fn assert_ok(output: &Output) {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        stderr(output)
    );
}

/// Waits until `done`, for as long as a loaded machine may need.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What is typed, the exit code, and what the one line of explanation must hold.
const MISTAKES: &[(&str, i32, &[&str])] = &[
    ("umount", 2, &["required", "<MERGED>", "umount --help"]),
    ("frob", 2, &["'frob'", "overstore --help"]),
    ("mount --frobnicate", 2, &["--frobnicate", "mount --help"]),
    (
        "--help >/dev/full",
        3,
        &["standard output", "No space left"],
    ),
    ("run ls", 125, &["COMMAND", "run --help"]),
    ("run --backend foo -- true", 125, &["foo", "run --help"]),
    ("mount http://foo", 2, &["http://foo", "local-overlay:"]),
    (
        "mount local-overlay m",
        2,
        &["local-overlay", "does not begin"],
    ),
    (
        "mount -o \"$(printf 'lowerdir=no\\nb,upperdir=u,nix-check=off')\" m",
        3,
        &["lower", "no\\nb"],
    ),
    ("sync l", 1, &["sync l", "no overstore driver"]),
    (
        "mount -o lowerdir=none,upperdir=u m",
        3,
        &["lower", "/none", "No such"],
    ),
    (
        "mount -o lowerdir=file,upperdir=u m",
        3,
        &["lower", "/file", "not a directory"],
    ),
    (
        "mount -o lowerdir=l,upperdir=none m",
        3,
        &["upper", "/none", "mkdir"],
    ),
    (
        "mount -o lowerdir=l,upperdir=file m",
        3,
        &["upper", "/file", "not a directory"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u,workdir=none m",
        3,
        &["work", "/none"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u,workdir=/proc m",
        2,
        &["workdir=/proc", "filesystem"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u none",
        3,
        &["merged", "/none", "mkdir"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u file",
        3,
        &["merged", "/file", "not a directory"],
    ),
    ("mount -o lowerdir=l,upperdir=u u/m", 2, &["merged", "/u/m"]),
    (
        "mount -o lowerdir=l,upperdir=u+v m",
        2,
        &["u+v", "'+'", "nix-check=off"],
    ),
    (
        "mount -o 'lowerdir=l,upperdir=u v' m",
        2,
        &["u v", "' '", "nix-check=off"],
    ),
    (
        "mount -o lowerdir=l,upperdir=u,frobnicate=1 m",
        2,
        &["frobnicate"],
    ),
    ("mount -o upperdir=u m", 2, &["lowerdir"]),
    (
        "mount -o lowerdir=l,upperdir=u",
        2,
        &["merged directory", "for example"],
    ),
    ("mount", 2, &["none is given", "local-overlay://"]),
    (
        "mount 'local-overlay://?upper-layer=rel'",
        2,
        &["upper-layer", "rel"],
    ),
    ("umount m", 1, &["unmount m", "nothing is mounted"]),
    (
        "umount /proc",
        1,
        &["/proc", "not a merged view", "umount(8)"],
    ),
    ("status m", 1, &["no merged view"]),
];

/// Every mistake ends with its exit code and one line that names it and the way out.
#[test]
fn mistakes_are_explained_in_one_line() {
    let place = Place::new(if is_root() { Who::Root } else { Who::Plain });
    fs::write(place.path("file"), "").unwrap();
    for (words, code, parts) in MISTAKES {
        let output = place.shell(&format!("\"$O\" {words}")).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{words}: {text}");
        assert_eq!(text.lines().count(), 1, "{words}: {text}");
        assert!(text.starts_with("error: "), "{words}: {text}");
        for part in *parts {
            assert!(text.contains(part), "{words}: {part:?} is not in: {text}");
        }
    }
}

#[test]
fn an_upper_of_somebody_else_is_refused_to_a_plain_user() {
    if !is_root() {
        return skip("not root");
    }
    let place = Place::new(Who::Plain);
    chown(place.path("u"), Some(0), Some(0)).unwrap();
    let output = place
        .overstore()
        .args(["mount", "-o", &place.layers()])
        .arg(place.path("m"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("write to upper directory"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn usage_mistakes_of_run_end_with_125() {
    let place = Place::new(if is_root() { Who::Root } else { Who::Plain });
    for args in [
        vec!["run", "--frobnicate"],
        vec!["run", "--", "true"],
        vec!["-v", "run"],
    ] {
        let output = place.overstore().args(&args).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(125),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let place = Place::new(if is_root() { Who::Root } else { Who::Plain });
    for args in [
        vec!["--help"],
        vec!["--version"],
        vec!["run", "--help"],
        vec!["status", "--help"],
    ] {
        let output = place.overstore().args(&args).output().unwrap();
        assert_ok(&output);
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{args:?}"
        );
    }
}

/// The mount table of a namespace is seen from inside only: the whole life is one script.
const LIFE: &str = r#"
set -e
"$O" mount -o "$LAYERS" "$M"
cat "$M/low"
grep " $M " /proc/self/mounts
"$O" status "$M" --json
if "$O" mount -o "$LAYERS" "$M"; then echo "mounted twice"; fi
"$O" umount "$M"
if grep " $M " /proc/self/mounts; then echo "still mounted"; fi
"#;

fn life(who: Who) {
    if !can(who) {
        return;
    }
    let place = Place::new(who);
    let output = place.shell(LIFE).output().unwrap();
    assert_ok(&output);
    let text = stdout(&output);
    let seen = format!("fuse.overstore,{}", place.layers());
    assert!(text.starts_with("from the lower\noverlay "), "{text}");
    assert!(text.contains(&seen), "{text}");
    assert!(text.contains(r#""state": "alive""#), "{text}");
    assert!(!text.contains("mounted"), "{text}");
    assert!(
        stderr(&output).contains("already mounted, by pid"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn root_mounts_and_unmounts() {
    life(Who::Root);
}

#[test]
fn root_of_a_user_namespace_mounts_and_unmounts() {
    life(Who::NamespaceRoot);
}

#[test]
fn a_plain_user_mounts_and_unmounts() {
    life(Who::Plain);
}

/// A store URL is all that is needed: what Nix would create is created.
#[test]
fn a_store_url_mounts_and_creates_what_nix_would() {
    const SCRIPT: &str = r#"
        set -e
        url="local-overlay://?root=$PWD/root&lower-store=local%3A//%3Freal%3D$PWD/l&upper-layer=$PWD/fresh"
        "$O" mount "$url&frobnicate=1"
        cat root/nix/store/low
        ls root/nix/var/nix/db/db.sqlite
        NIX_REMOTE="$url" "$O" mount || echo "twice: $?"
        NIX_REMOTE="$url" "$O" run -- cat /nix/store/low
        "$O" umount root/nix/store
        "$O" mount "$url" "$PWD/elsewhere" || echo "elsewhere: $?"
        "$O" mount "local-overlay://?root=$PWD/r&lower-store=$PWD/none&upper-layer=$PWD/other" || ls -d r other || :
    "#;
    let wanted =
        "from the lower\nroot/nix/var/nix/db/db.sqlite\ntwice: 3\nfrom the lower\nelsewhere: 2\n";
    for who in [Who::Root, Who::NamespaceRoot, Who::Plain] {
        if !can(who) {
            continue;
        }
        let place = Place::new(who);
        let output = place.shell(SCRIPT).output().unwrap();
        assert_eq!(stdout(&output), wanted, "{who:?}: {}", stderr(&output));
        assert!(
            stderr(&output).starts_with("warning: unknown setting 'frobnicate'"),
            "{}",
            stderr(&output)
        );
    }
}

/// Drivers that start at the same time do not end up on top of each other.
#[test]
fn of_several_starts_one_wins() {
    const SCRIPT: &str = r#"
        for i in 1 2 3 4 5; do "$O" mount -o "$LAYERS" "$M" 2>/dev/null && echo mounted & done; wait
        grep -c " $M " /proc/self/mounts; "$O" umount "$M"
    "#;
    run_table(Who::Root, &[(SCRIPT, "mounted\n1\n")]);
    run_table(Who::Plain, &[(SCRIPT, "mounted\n1\n")]);
}

/// A driver in the foreground: killed at the latest when the test ends.
struct Driver(std::process::Child);

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Driver {
    fn start(place: &Place) -> Driver {
        let child = place
            .overstore()
            .args(["mount", "--foreground", "-o", &place.layers()])
            .arg(place.path("m"))
            .spawn()
            .unwrap();
        eventually("mounted", || place.path("m/low").symlink_metadata().is_ok());
        Driver(child)
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

fn is_mounted(place: &Place) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.contains(&format!(" {} ", place.path("m").display()))
}

#[test]
fn a_signal_unmounts_and_ends_the_driver() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut driver = Driver::start(&place);
    driver.terminate();
    assert!(driver.0.wait().unwrap().success());
    assert!(!is_mounted(&place));
}

#[test]
fn a_signal_leaves_the_mount_of_a_successor_alone() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut first = Driver::start(&place);
    let user = fs::File::open(place.path("m")).unwrap();
    assert_ok(
        &place
            .overstore()
            .args(["umount", "-l"])
            .arg(place.path("m"))
            .output()
            .unwrap(),
    );
    let _second = Driver::start(&place);
    first.terminate();
    // It goes on serving the user it still has.
    assert_eq!(rustix::fs::Dir::read_from(&user).unwrap().count(), 3);
    drop(user);
    assert!(first.0.wait().unwrap().success());
    assert!(is_mounted(&place));
}

#[test]
fn a_busy_mount_is_refused_and_detached_on_demand() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut driver = Driver::start(&place);
    let user = fs::File::open(place.path("m")).unwrap();
    let umount = |lazy: &[&str]| {
        place
            .overstore()
            .arg("umount")
            .args(lazy)
            .arg(place.path("m"))
            .output()
            .unwrap()
    };
    let refused = umount(&[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("--lazy"), "{}", stderr(&refused));
    assert_ok(&umount(&["--lazy"]));
    assert!(!is_mounted(&place));
    drop(user);
    assert!(driver.0.wait().unwrap().success());
}

#[test]
fn a_dead_mount_is_shown_as_such_and_can_be_unmounted() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let mut driver = Driver::start(&place);
    let merged = place.path("m");
    let overstore = |words: &[&str]| place.overstore().args(words).arg(&merged).output().unwrap();
    // A view that was listed opens without asking the driver: it is the control channel that tells.
    assert_ok(&overstore(&["sync"]));
    assert_eq!(std::fs::read_dir(&merged).unwrap().count(), 1);
    driver.0.kill().unwrap();
    driver.0.wait().unwrap();
    let sync = overstore(&["sync"]);
    assert_eq!(sync.status.code(), Some(3), "{}", stderr(&sync));
    let told = stderr(&sync).contains("driver is gone; remove it: overstore umount");
    assert!(told, "{}", stderr(&sync));
    let status = overstore(&["status", "--json"]);
    assert_ok(&status);
    let dead = stdout(&status).contains(r#""state": "dead""#);
    assert!(dead, "{}", stdout(&status));
    let again = overstore(&["mount", "-o", &place.layers()]);
    assert_eq!(again.status.code(), Some(3));
    for part in ["driver is gone", "overstore umount"] {
        assert!(stderr(&again).contains(part), "{}", stderr(&again));
    }
    assert_ok(&overstore(&["umount"]));
    assert!(!is_mounted(&place));
}

#[test]
fn a_hung_driver_does_not_hang_status() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let driver = Driver::start(&place);
    let pid = rustix::process::Pid::from_child(&driver.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let started = Instant::now();
    let status = place
        .overstore()
        .args(["status", "--json"])
        .arg(place.path("m"))
        .output()
        .unwrap();
    assert!(
        stdout(&status).contains(r#""state": "hung""#),
        "{}",
        stdout(&status)
    );
    assert!(started.elapsed() < Duration::from_secs(8));
}

/// What would have to wait for a hung driver says so and how to end that.
#[test]
fn a_hung_driver_is_given_up() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let driver = Driver::start(&place);
    let pid = rustix::process::Pid::from_child(&driver.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let output = place
        .shell(
            r#"
            "$O" mount -o "$LAYERS" "$M" 2>&1 | grep -o 'already mounted'
            "$O" mount "local-overlay://?real=$M&lower-store=/&upper-layer=$PWD/u&state=$PWD" 2>&1 |
                grep -o 'already mounted'
            "$O" run -o "$LAYERS" -- echo ran
            "$O" sync "$M" 2>&1 | sed "s|$PWD|D|g"
        "#,
        )
        .output()
        .unwrap();
    let expected = "already mounted\nalready mounted\nran\n\
        error: wait for the driver of D/m: no answer for 30 seconds; \
        overstore umount --force D/m gives it up\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
}

/// `run` behaves as if its command had been started directly.
const RUN: &[(&str, &str)] = &[
    (
        r#""$O" run -o "$LAYERS" -- cat /nix/store/low"#,
        "from the lower\n",
    ),
    (r#""$O" run -o "$LAYERS" -- sh -c 'exit 7'; echo $?"#, "7\n"),
    (
        r#""$O" run -o "$LAYERS" -- sh -c 'kill -TERM $$' 2>/dev/null; echo $?"#,
        "143\n",
    ),
    (
        r#""$O" run -o "$LAYERS" -- no-such-command 2>/dev/null; echo $?"#,
        "127\n",
    ),
    (
        r#""$O" run -o "$LAYERS" -- /etc/passwd 2>/dev/null; echo $?"#,
        "126\n",
    ),
    (
        r#""$O" run -o lowerdir=/none -- true 2>/dev/null; echo $?"#,
        "125\n",
    ),
    (
        r#"cd l; test "$("$O" run -o "$LAYERS" -- pwd)" = "$(pwd)" && echo same"#,
        "same\n",
    ),
    (
        r#"test "$("$O" run -o "$LAYERS" -- env | grep -v ^_=)" = "$(env | grep -v ^_=)" && echo same"#,
        "same\n",
    ),
    (
        r#"test "$("$O" run -o "$LAYERS" -- id)" = "$(id)" && echo same"#,
        "same\n",
    ),
    (
        r#"exec "$O" run -o "$LAYERS" -- sh -c 'test $$ = '$$' && echo same'"#,
        "same\n",
    ),
    (
        r#"umask 027; "$O" run -o "$LAYERS" -- sh -c umask"#,
        "0027\n",
    ),
    (
        r#"ulimit -n 300; "$O" run -o "$LAYERS" -- sh -c 'ulimit -n'"#,
        "300\n",
    ),
    (
        r#"echo through | "$O" run -o "$LAYERS" -- cat | cat"#,
        "through\n",
    ),
    (
        r#""$O" run -o "$LAYERS" -- sh -c 'grep SigIgn /proc/self/status; grep SigBlk /proc/self/status' > a; sh -c 'grep SigIgn /proc/self/status; grep SigBlk /proc/self/status' > b; cmp a b && echo same"#,
        "same\n",
    ),
    (
        r#""$O" run -o "$LAYERS" -- sh -c 'ls /proc/self/fd | wc -l' > a; sh -c 'ls /proc/self/fd | wc -l' > b; cmp a b && echo same"#,
        "same\n",
    ),
    (
        r#"ls / | grep -vx nix > a; "$O" run -o "$LAYERS" -- ls / | grep -vx nix > b; cmp a b && echo same"#,
        "same\n",
    ),
    (
        r#""$O" run -o "$LAYERS" -- sh -c 'echo new > /nix/store/new'; cat u/new"#,
        "new\n",
    ),
    (
        r#""$O" run -o "$LAYERS" -- "$O" run -o "$LAYERS" -- cat /nix/store/low"#,
        "from the lower\n",
    ),
    (r#"yes | "$O" run -o "$LAYERS" -- head -n 1"#, "y\n"),
    (r#""$O" run -o "$LAYERS" -- yes | head -n 1"#, "y\n"),
    (
        r#""$O" run -o "lowerdir=$PWD/l,upperdir=$PWD/fresh" -- cat /nix/store/low; ls -d fresh"#,
        "from the lower\nfresh\n",
    ),
];

fn run_table(who: Who, table: &[(&str, &str)]) {
    if !can(who) {
        return;
    }
    for (script, wanted) in table {
        let place = Place::new(who);
        let output = place.shell(script).output().unwrap();
        assert_eq!(stdout(&output), *wanted, "{script}: {}", stderr(&output));
    }
}

#[test]
fn run_as_root_is_as_without_it() {
    run_table(Who::Root, RUN);
}

#[test]
fn run_as_a_plain_user_is_as_without_it() {
    run_table(Who::Plain, RUN);
}

#[test]
fn run_as_root_of_a_user_namespace_is_as_without_it() {
    run_table(Who::NamespaceRoot, RUN);
}

/// The view stands on what the host has: nothing, `/nix` alone, or the store directory.
#[test]
fn run_finds_a_place_for_the_view() {
    const SCRIPT: &str = r#"
        mkdir -p host/some; echo kept > host/file; ln -s some host/link; export NIX_STORE_DIR
        for NIX_STORE_DIR in /no/such/place "$PWD/host/store" "$PWD/host/some"; do
            "$O" run -o "$LAYERS" -- sh -c 'cat "$NIX_STORE_DIR/low" "'"$PWD"'/host/link/../file"'
        done
        "$O" run -o "$LAYERS" -- sh -c "cd host/some; ls; test -e /no && echo leaked"
        ls host host/some; test -e /no && echo leaked; exit 0
    "#;
    let wanted = "from the lower\nkept\n".repeat(3) + "low\nfile\nlink\nsome\n";
    for who in [Who::Root, Who::Plain] {
        // The last directory of the loop is the store directory from here on: `ls` shows the view.
        let wanted = wanted.replacen("low\nfile", "low\nhost:\nfile", 1) + "\nhost/some:\n";
        run_table(who, &[(SCRIPT, &wanted)]);
    }
}

/// The copy of a directory that makes room for the view takes no files: they would be lost.
#[test]
fn run_loses_no_file() {
    const SCRIPT: &str = r#"
        mkdir host; export NIX_STORE_DIR="$PWD/host/store"
        "$O" run -o "$LAYERS" -- sh -c 'echo x > host/new' 2>/dev/null || echo refused
    "#;
    run_table(Who::Plain, &[(SCRIPT, "refused\n")]);
}

/// Nix looks for the mount at its real directory, which is not the store directory if the URL
/// names a root.
#[test]
fn run_shows_the_view_at_the_real_directory_too() {
    const SCRIPT: &str = r#"
        mkdir -p root/nix/store
        "$O" run "local-overlay://?root=$PWD/root&lower-store=local%3A//%3Freal%3D$PWD/l&upper-layer=$PWD/u" \
            -- sh -c 'cat root/nix/store/low; grep -c "^overlay $PWD/root/nix/store " /proc/self/mounts'
    "#;
    run_table(Who::Plain, &[(SCRIPT, "from the lower\n1\n")]);
}

/// The driver keeps nothing of the command's open: a reader of its output sees the end.
#[test]
fn run_ends_the_pipes_with_the_command() {
    if !can(Who::Plain) {
        return;
    }
    let place = Place::new(Who::Plain);
    // Descriptor 3 is the pipe as well, as with `make` or a lock that is passed on.
    let script = r#"exec "$O" run -o "$LAYERS" -- sh -c 'exec >&- 3>&-; sleep 10' 3>&1"#;
    let mut child = place.shell(script).stdout(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "the pipe stays open"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Where FUSE cannot be had, `auto` says so and takes the kernel's overlay; `fuse` ends.
#[test]
fn run_falls_back_to_the_kernel_and_says_so() {
    if !can(Who::Root) {
        return;
    }
    let place = Place::new(Who::Root);
    let script = r#"
        "$O" run --backend kernel -o "$LAYERS" -- true || exit 9
        # What root's OverlayFS left there nobody else may use.
        rm -r "$PWD/u.work"
        mount --make-rprivate / && mount --bind /etc/passwd /dev/fuse && chmod 644 "$PWD/l/low"
        drop="setpriv --reuid 65534 --regid 65534 --clear-groups --"
        $drop "$O" run -o "$LAYERS" -- cat /nix/store/low
        $drop "$O" run --backend fuse -o "$LAYERS" -- true
        echo $?
    "#;
    chown(place.path("u"), Some(NOBODY), Some(NOBODY)).unwrap();
    chown(place.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .current_dir(place.path(""));
    command
        .env("O", place.path("overstore"))
        .env("LAYERS", place.layers());
    let output = command.output().unwrap();
    if output.status.code() == Some(9) {
        return skip("the kernel's OverlayFS cannot be mounted here");
    }
    assert_eq!(
        stdout(&output),
        "from the lower\n125\n",
        "{}",
        stderr(&output)
    );
    let lines: Vec<&str> = stderr(&output).lines().collect();
    assert!(
        lines[0].starts_with("warning: using the kernel's OverlayFS"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("error: open /dev/fuse"), "{lines:?}");
}

#[test]
fn run_keeps_the_terminal() {
    if !succeeds(Command::new("script").arg("--version")) {
        return skip("no script(1)");
    }
    const SCRIPT: &str = r#"script -qec '"$O" run -o "$LAYERS" -- sh -c "test -t 0 && test -t 1 && tty </dev/tty >/dev/null && echo terminal"' /dev/null | tr -d '\r'"#;
    run_table(Who::Plain, &[(SCRIPT, "terminal\n")]);
}

#[test]
fn run_dies_of_the_signal_its_command_dies_of() {
    if !can(Who::Plain) {
        return;
    }
    let place = Place::new(Who::Plain);
    let status = place
        .overstore()
        .args([
            "run",
            "-o",
            &place.layers(),
            "--",
            "sh",
            "-c",
            "kill -KILL $$",
        ])
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(9));
}

/// Nothing is left: no mount on the host, and the driver ends with the last process inside.
#[test]
fn run_leaves_nothing_behind() {
    if !can(Who::Plain) {
        return;
    }
    let place = Place::new(Who::Plain);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let script = r#""$O" run -o "$LAYERS" -- sh -c 'sleep 0.5 >/dev/null 2>&1 & echo $!'"#;
    assert_ok(&place.shell(script).output().unwrap());
    assert!(!before.contains(place.dir.path().to_str().unwrap()));
    eventually("the driver ends", || drivers(&place) == 0);
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!after.contains(place.dir.path().to_str().unwrap()));
}

/// Counts the living processes that run this test's copy of the program.
fn drivers(place: &Place) -> usize {
    let program = place.path("overstore");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path().join("exe")).ok())
        .filter(|exe| *exe == program)
        .count()
}

#[test]
fn run_with_the_kernels_overlay_shows_the_same() {
    const KERNEL: &[(&str, &str)] = &[
        (
            r#""$O" run --backend kernel -o "$LAYERS" -- cat /nix/store/low"#,
            "from the lower\n",
        ),
        (
            r#""$O" run --backend kernel -o "$LAYERS" -- sh -c 'echo x > /nix/store/new'; cat u/new"#,
            "x\n",
        ),
        (
            r#""$O" run --backend kernel -o "$LAYERS" -- sh -c 'grep " /nix/store " /proc/self/mounts' | cut -d' ' -f1-3"#,
            "overlay /nix/store overlay\n",
        ),
    ];
    // On an upper that is itself an overlay (a container) the kernel cannot serve.
    let place = Place::new(Who::Plain);
    if !succeeds(&mut place.shell(KERNEL[0].0)) {
        return skip("the kernel's OverlayFS cannot be mounted here");
    }
    for who in [Who::Root, Who::Plain, Who::NamespaceRoot] {
        run_table(who, KERNEL);
    }
}

/// What every command says and does about a view that the kernel serves.
#[test]
fn a_view_of_the_kernel() {
    const SCRIPT: &str = r#"
        mkdir -m 755 d && echo lower > l/dup && echo upper > u/dup
        "$O" mount --backend kernel -o "$LAYERS" "$M" || exit 9
        "$O" status "$M" | sed "s|$PWD|D|g"
        "$O" status --json "$M" | grep -c '"backend": "kernel"'
        cat m/dup; rm u/dup; "$O" sync "$M"; echo $?; cat m/dup
        cd d; "$O" sync ../m; echo $?; cd ..; ln -s m way; "$O" sync way; echo $?
        "$O" repair on "$M" 2>&1 | sed "s|$PWD|D|g"
        "$O" mount --backend kernel -o "$LAYERS" "$M" 2>&1 | grep -c 'already'
        mkdir other; "$O" mount --backend fuse -o "$LAYERS" other 2>&1 | sed "s|$PWD|D|g"
        "$O" run -o "$LAYERS" -- true 2>&1 | grep -c 'in use by the view'
        "$O" mount --backend fuse -o "ro,$LAYERS" other && cat other/dup && "$O" umount other
        "$O" umount "$M"; echo $?; ls m | wc -l
        "$O" sync "$M" 2>/dev/null; echo $?
    "#;
    for who in [Who::Root, Who::NamespaceRoot] {
        if !can(who) {
            continue;
        }
        let output = Place::new(who).shell(SCRIPT).output().unwrap();
        if output.status.code() == Some(9) {
            skip("the kernel's OverlayFS cannot be mounted here");
            continue;
        }
        let expected = "D/m\n  lower    D/l\n  upper    D/u\n  served   kernel, alive\n\
            \x20 changes  show after overstore sync\n\
            1\nupper\n0\nlower\n0\n0\n\
            error: switch repair of D/m: the kernel serves it; there is nothing to switch: \
            OverlayFS always lets lower objects be replaced\n1\n\
            error: write to upper directory D/u: in use by the view at D/m; \
            unmount it first: overstore umount D/m; or mount with `-o ro`\n1\nlower\n\
            0\n0\n1\n";
        assert_eq!(stdout(&output), expected, "{who:?}: {}", stderr(&output));
    }
}

#[test]
fn every_command_explains_itself() {
    for command in [
        "mount", "umount", "run", "status", "sync", "repair", "check", "compare",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_overstore"))
            .args([command, "--help"])
            .output()
            .unwrap();
        assert_ok(&output);
        for part in ["EXAMPLES", "EXIT CODES", "Usage: overstore"] {
            assert!(stdout(&output).contains(part), "{command}: {part}");
        }
    }
}

#[test]
fn the_hook_explains_itself_and_takes_one_directory() {
    let hook = |args: &[&str]| {
        let mut hook = Command::new(env!("CARGO_BIN_EXE_overstore-sync"));
        hook.args(args).output().unwrap()
    };
    let help = hook(&["--help"]);
    assert_ok(&help);
    for part in [
        "remount-hook",
        "Usage: overstore-sync <MERGED>",
        "EXAMPLES",
        "EXIT CODES",
    ] {
        assert!(stdout(&help).contains(part), "{part}");
    }
    let cases: [(&[&str], i32, &str); 4] = [
        (&[], 2, "see `overstore-sync --help`"),
        (&["/", "/"], 2, "see `overstore-sync --help`"),
        (&["/"], 1, "no overstore driver serves it"),
        (&["/none"], 3, "open /none: No such file"),
    ];
    for (args, code, part) in cases {
        let refused = hook(args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}");
        let told = stderr(&refused);
        assert!(told.contains(part) && told.lines().count() == 1, "{told}");
    }
}

/// Runs `script` as root with a `/dev` of its own, in which `$O` is the program and `$L` the layers.
fn with_own_devices(place: &Place, script: &str) -> Output {
    let start = "mount -t tmpfs -o mode=0755 tmpfs /dev; mknod -m 0666 /dev/null c 1 3; \
        cp \"$O\" /dev/overstore; O=/dev/overstore;";
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc"])
        .arg(format!("{start} {script}"))
        .env("O", env!("CARGO_BIN_EXE_overstore"))
        .env("L", place.layers())
        .env("M", place.path("m"))
        .output()
        .unwrap()
}

#[test]
fn what_the_machine_lacks_is_told_with_the_way_out() {
    if !can(Who::Root) {
        return;
    }
    let plain = "setpriv --reuid daemon --regid daemon --clear-groups";
    let device = "mknod -m 0666 /dev/fuse c 10 229;";
    let mount = "\"$O\" mount -o \"$L\" \"$M\"";
    let cases: [(String, &[&str]); 4] = [
        (
            format!("{plain} \"$O\" mount --backend kernel -o \"$L\" \"$M\""),
            &["Operation not permitted", "root"],
        ),
        (
            "\"$O\" mount --backend fuse -o \"$L\" \"$M\"".to_owned(),
            &["/dev/fuse", "No such file", "modprobe fuse"],
        ),
        (
            format!("mknod -m 0600 /dev/fuse c 10 229; {plain} {mount}"),
            &["/dev/fuse", "0666"],
        ),
        (
            format!("{device} mkdir /dev/none; {plain} env PATH=/dev/none {mount}"),
            &["fusermount3", "fuse3"],
        ),
    ];
    for (script, parts) in cases {
        let place = Place::new(Who::Root);
        for name in ["", "l", "u", "m"] {
            chown(place.path(name), Some(1), Some(1)).unwrap();
        }
        let output = with_own_devices(&place, &script);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{script}: {text}");
        assert_eq!(text.lines().count(), 1, "{script}: {text}");
        for part in parts {
            assert!(text.contains(part), "{script}: {part:?} is not in: {text}");
        }
    }
}
