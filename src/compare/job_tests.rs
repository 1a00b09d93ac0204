// SPDX-License-Identifier: MIT OR Apache-2.0
//! When what differs is looked at again: trees that become equal, or never do, as the layers change.

use super::*;
use std::cell::Cell;

const OPTIONS: Options = Options {
    strict: false,
    threads: 1,
};

/// Compares two trees of one file that differ in it; the layers are those given. Looking again makes
/// the trees equal if `heals`. Returns the report, and how often it was looked.
fn run(layers: &Layers, heals: bool) -> (Report, usize) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let [fuse, kernel] = ["fuse", "kernel"].map(|side| scratch.path().join(side));
    for (side, content) in [(&fuse, "one"), (&kernel, "two")] {
        std::fs::create_dir(side).expect("it is new");
        std::fs::write(side.join("file"), content).expect("it is new");
    }
    let looks = Cell::new(0);
    let refresh = || {
        looks.set(looks.get() + 1);
        if heals {
            std::fs::remove_dir_all(&kernel).expect("it is there");
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([&fuse, &kernel])
                .status();
            assert!(copied.expect("cp is there").success());
        }
        Ok(())
    };
    let job = Job {
        fuse: &fuse,
        kernel: &kernel,
        layers: Some(layers),
        refresh: Some(&refresh),
        options: OPTIONS,
        progress: &Progress::default(),
    };
    let report = job.run().expect("both can be read");
    (report, looks.get())
}

/// Layers that have just been made.
fn new_layers(scratch: &tempfile::TempDir) -> Layers {
    let [lower, upper] = ["lower", "upper"].map(|name| scratch.path().join(name));
    for layer in [&lower, &upper] {
        std::fs::create_dir(layer).expect("it is new");
    }
    Layers::open(&lower, &upper).expect("they are there")
}

/// How many contents differ: inode numbers and times are the trees' own.
fn contents(report: &Report) -> usize {
    let all = report.differences.iter();
    all.filter(|it| it.what == What::Content).count()
}

#[test]
fn what_changed_meanwhile_is_looked_at_again() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (report, looks) = run(&new_layers(&scratch), true);
    assert!(looks >= 1);
    assert_eq!(contents(&report), 0, "{report:#?}");
    assert!(report.looked_again >= 1, "{report:#?}");
}

#[test]
fn what_goes_on_changing_is_told_in_the_end() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (report, looks) = run(&new_layers(&scratch), false);
    assert_eq!((contents(&report), looks), (1, ROUNDS));
}

#[test]
fn what_did_not_change_is_told_at_once() {
    let layers = Layers::open(Path::new("/usr/bin"), Path::new("/usr/share"));
    let layers = layers.expect("every system has both");
    let (report, looks) = run(&layers, true);
    assert_eq!((contents(&report), looks), (1, 0), "{report:#?}");
    assert_eq!(report.looked_again, 0);
}
