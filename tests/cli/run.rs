// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore run`: as if its command had been started directly.

use crate::place::*;
use crate::skip::skip;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

pub(crate) fn run_table(who: Who, table: &[(&str, &str)]) {
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
    assert!(!before.contains(place.path("").to_str().unwrap()));
    eventually("the driver ends", || drivers(&place) == 0);
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!after.contains(place.path("").to_str().unwrap()));
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
