// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories that must not be used, or not together, each with its message.

mod common;

use common::{Place, USAGE, can, in_namespace, needs_root, refused, said, text};
use std::os::unix::fs::symlink;

#[test]
fn symlinks_are_not_followed() {
    let place = Place::new();
    symlink(place.path("l"), place.path("sl")).unwrap();
    symlink(place.path(""), place.path("up")).unwrap();
    symlink("/proc/self/cwd", place.path("magic")).unwrap();
    let (l, u, m) = (place.path("l"), place.path("u"), place.path("m"));
    let real = format!("name the directory itself: {}", l.display());
    refused(
        &place.check(&place.path("sl"), &u, &m, ""),
        USAGE,
        &["sl is a symlink", &real],
    );
    refused(
        &place.check(&place.path("up/l"), &u, &m, ""),
        USAGE,
        &["up is a symlink", &real],
    );
    refused(
        &place.check(&l, &place.path("up/u"), &m, ""),
        USAGE,
        &["up is a symlink"],
    );
    refused(
        &place.check(&l, &u, &place.path("up/m"), ""),
        USAGE,
        &["up is a symlink"],
    );
    refused(
        &place.check(&l, &u, &place.path("magic"), ""),
        USAGE,
        &["magic is a symlink"],
    );
    let magic = "/proc/self/cwd".as_ref();
    refused(
        &place.check(magic, &u, &m, ""),
        USAGE,
        &["/proc/self is a symlink"],
    );
}

#[test]
fn directories_inside_each_other() {
    let place = Place::new();
    for name in ["l/in", "u/in", "m/in", "u.work"] {
        std::fs::create_dir(place.path(name)).unwrap();
    }
    let table = [
        ("l", "l", "m", "is the upper directory"),
        ("l", "l/in", "m", "lies inside the lower directory"),
        ("u/in", "u", "m", "lies inside the upper directory"),
        ("l", "u", "u", "is the upper directory"),
        ("l", "u", "u/in", "lies inside the upper directory"),
        ("l", "u", "l/in", "lies inside the lower directory"),
        ("m/in", "u", "m", "lies inside the mountpoint"),
        ("l", "m/in", "m", "lies inside the mountpoint"),
        ("l", "u", "u.work", "is the work directory"),
    ];
    for (lower, upper, merged, message) in table {
        let [lower, upper, merged] = [lower, upper, merged].map(|name| place.path(name));
        let output = place.check(&lower, &upper, &merged, "");
        refused(&output, USAGE, &[message]);
    }
    let output = place.check(&place.path("l"), &place.path("u"), &place.path("l"), "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn work_directories_that_will_not_do() {
    let place = Place::new();
    let (l, u, m) = (place.path("l"), place.path("u"), place.path("m"));
    let check = |work: &str| place.check(&l, &u, &m, &format!("workdir={work}"));
    std::fs::create_dir_all(place.path("full/work")).unwrap();
    let full = place.path("full").display().to_string();
    assert_eq!(
        check(&full).status.code(),
        Some(0),
        "the kernel's own leftovers"
    );
    std::fs::write(place.path("full/mine"), "").unwrap();
    refused(&check(&full), USAGE, &["not empty, it has mine"]);
    std::fs::remove_file(place.path("full/mine")).unwrap();
    refused(
        &check("/dev/shm"),
        USAGE,
        &["not on the filesystem and mount of the upper"],
    );
    let inside = u.join("w");
    std::fs::create_dir(&inside).unwrap();
    let inside = inside.display().to_string();
    refused(&check(&inside), USAGE, &["lies inside the upper directory"]);
}

/// The kernel empties `work` when it mounts: what it did not leave there itself is somebody's.
#[test]
fn work_directories_with_files_of_somebody() {
    // How the directory is filled, and what the refusal names.
    let table = [
        ("mkdir work; touch work/file", Some("work/file")),
        (
            "mkdir -p work/precious; touch work/precious/f",
            Some("work/precious"),
        ),
        ("mkdir -p work/#1; touch work/#1/f", Some("work/#1/f")),
        ("mkdir work; touch 'work/#'", Some("work/#")),
        ("mkdir work; touch 'work/#1F'", Some("work/#1F")),
        ("mkdir work; touch 'work/#1g'", Some("work/#1g")),
        ("mkdir -p work/incompat/volatile", Some("work/incompat")),
        ("mkdir index; touch index/x", Some("index/x")),
        ("touch work", Some("work")),
        ("mkdir ../mine; ln -s ../mine work", Some("work")),
        ("touch index", Some("index")),
        (
            "mkdir work/ index; touch 'work/#1' 'work/#2f'; mkdir 'work/#a'; ln -s x 'work/#b'",
            None,
        ),
        ("mkdir -m 0 work", None),
    ];
    for (setup, named) in table {
        for work in ["u.work", "named"] {
            let place = Place::new();
            std::fs::create_dir(place.path(work)).unwrap();
            let filled = std::process::Command::new("sh")
                .args(["-ec", setup])
                .current_dir(place.path(work))
                .status();
            assert!(filled.unwrap().success());
            let option = match work {
                "named" => format!("workdir={}", place.path(work).display()),
                _ => String::new(),
            };
            let (l, u, m) = (place.path("l"), place.path("u"), place.path("m"));
            let output = place.check(&l, &u, &m, &option);
            match named {
                Some(name) => {
                    let named = format!("not empty, it has {name};");
                    refused(&output, USAGE, &[&named]);
                }
                None => assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr)),
            }
        }
    }
}

/// What the kernel itself leaves when it is stopped halfway: the next mount takes it up.
#[test]
fn work_directories_as_the_kernel_leaves_them() {
    let place = Place::new();
    if !needs_root() || !can(&place, "-m") {
        return;
    }
    let script = r#"
        mkdir -p -m 0 u.work/work; mkdir 'u.work/work/#5'; mknod 'u.work/work/#5/gone' c 0 0
        mknod 'u.work/work/#6' c 0 0; touch 'u.work/work/#1f'
        bin/mount.overstore overlay "$D/m" -o "$O,backend=kernel"; echo $?
        umount m; ls -A u.work/work
        mknod u.work/work/other c 0 0
        bin/mount.overstore overlay "$D/m" -o "$O,backend=kernel" 2>/dev/null; echo $?; ls u.work/work
    "#;
    said(&in_namespace(&place, "-m", script), "0\n1\nother\n");
}

#[test]
fn the_longest_path_and_a_mountpoint_that_is_not_empty() {
    let place = Place::new();
    let mut deep = place.path("l").into_os_string();
    while deep.len() < 4095 {
        let rest = 4095 - deep.len() - 1;
        // A slash alone would not count.
        let part = if rest > 200 && rest < 204 {
            100
        } else {
            rest.min(200)
        };
        deep.push(format!("/{}", "n".repeat(part)));
    }
    assert_eq!(deep.len(), 4095);
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(place.path("m/something"), "").unwrap();
    let output = place.check(deep.as_ref(), &place.path("u"), &place.path("m"), "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    deep.push("n");
    let output = place.check(deep.as_ref(), &place.path("u"), &place.path("m"), "");
    refused(
        &output,
        USAGE,
        &["lower directory", "longer than 4095 bytes"],
    );
}
