// SPDX-License-Identifier: MIT OR Apache-2.0
//! Differences that two plain directories cannot have, made by hand.

use super::*;
use rustix::fs::CWD;
use std::path::PathBuf;

/// Two trees with one file of equal contents, and what a look at them finds.
struct Trees {
    scratch: tempfile::TempDir,
    progress: Progress,
}

impl Trees {
    fn new() -> Trees {
        let scratch = tempfile::tempdir().unwrap();
        for side in ["fuse", "kernel", "lower", "upper"] {
            std::fs::create_dir(scratch.path().join(side)).unwrap();
            std::fs::write(scratch.path().join(side).join("file"), "x").unwrap();
        }
        Trees {
            scratch,
            progress: Progress::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// What `look` finds, as `what: fuse, kernel`.
    fn finds(&self, layers: Option<&Layers>, look: impl Fn(&mut Look<'_>, &Sides)) -> Vec<String> {
        let sides = Sides::open(&self.path("fuse"), &self.path("kernel")).unwrap();
        let comparer = Comparer {
            sides: &sides,
            layers,
            numbers: None,
            strict: false,
            progress: &self.progress,
        };
        let mut looking = comparer.look();
        look(&mut looking, &sides);
        let found = looking.findings.differences.into_iter();
        found
            .map(|it| format!("{}: {}, {}", it.what.word(), it.fuse, it.kernel))
            .collect()
    }

    /// What is found of the file when listings tell this of it.
    fn listed(&self, change: impl Fn(&mut Both<Option<Listed>>)) -> Vec<String> {
        self.finds(None, |look, sides| {
            let at = sides.tops.as_ref().map(|top| At::new(top, b"file"));
            let stats = at.map(|at| at.stat());
            let mut listed = stats.as_ref().map(|stat| {
                Some(Listed {
                    kind: FileType::RegularFile,
                    ino: stat.as_ref().unwrap().st_ino,
                    times: 1,
                })
            });
            change(&mut listed);
            look.listed(b"file", listed, &stats);
        })
    }
}

#[test]
fn listings_that_agree_are_no_difference() {
    let trees = Trees::new();
    assert!(trees.listed(|_| {}).is_empty());
    let unknown = |listed: &mut Both<Option<Listed>>| {
        listed.kernel.as_mut().unwrap().kind = FileType::Unknown;
        listed.kernel.as_mut().unwrap().ino = 1;
    };
    assert!(
        trees.listed(unknown).is_empty(),
        "the kernel may leave both open"
    );
}

#[test]
fn a_name_that_one_listing_lacks() {
    let found = Trees::new().listed(|listed| listed.fuse = None);
    assert_eq!(found, ["listing: not listed, listed"]);
    let found = Trees::new().listed(|listed| listed.kernel = None);
    assert_eq!(found, ["listing: listed, not listed"]);
}

#[test]
fn a_name_that_is_listed_twice() {
    let found = Trees::new().listed(|listed| listed.fuse.as_mut().unwrap().times = 2);
    assert_eq!(found, ["listed-times: 2, 1"]);
}

#[test]
fn a_kind_that_is_listed_and_not_true() {
    let found = Trees::new().listed(|listed| {
        listed.kernel.as_mut().unwrap().kind = FileType::Directory;
    });
    assert_eq!(found, ["listed-type: file, file, listed as directory"]);
}

#[test]
fn a_number_that_is_listed_and_not_true() {
    let found = Trees::new().listed(|listed| listed.fuse.as_mut().unwrap().ino = 0);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("listed-inode: 0, the object's is "),
        "{found:?}"
    );
}

#[test]
fn inode_numbers_where_both_layers_share_a_filesystem() {
    let trees = Trees::new();
    let layers = Layers::open(&trees.path("lower"), &trees.path("upper")).unwrap();
    assert!(layers.one_filesystem);
    let of = |name: &'static str| {
        let stat = rustix::fs::stat(trees.path(name)).unwrap();
        move |look: &mut Look<'_>, _: &Sides| {
            let mut moved = stat;
            moved.st_ino += 1;
            let stats = Both {
                fuse: &stat,
                kernel: &moved,
            };
            look.single(b"file", stats);
        }
    };
    let found = trees.finds(Some(&layers), of("fuse/file"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("inode: "), "{found:?}");
    assert!(trees.finds(None, of("fuse/file")).is_empty());
}

#[test]
fn a_side_that_refuses_to_list_attributes() {
    let trees = Trees::new();
    let found = trees.finds(None, |look, _| {
        let got = Both {
            fuse: Err(Errno::OPNOTSUPP),
            kernel: Ok(Xattrs::new()),
        };
        look.xattrs(b"file", got);
    });
    assert_eq!(found, ["xattrs: EOPNOTSUPP, 0 attributes"]);
}

#[test]
fn a_question_that_one_side_refuses_otherwise() {
    let trees = Trees::new();
    std::fs::remove_file(trees.path("kernel/file")).unwrap();
    rustix::fs::mkfifoat(CWD, trees.path("kernel/file"), rustix::fs::Mode::RWXU).unwrap();
    let found = trees.finds(None, |look, sides| {
        look.probe(
            &Meeting {
                path: b"file",
                depth: 0,
                at: sides.tops.as_ref().map(|top| At::new(top, b"file")),
                listed: None,
            },
            FileType::RegularFile,
        );
    });
    assert_eq!(
        found,
        ["errno: EACCES, succeeds"],
        "executing a fifo of mode 0700"
    );
}

#[test]
fn a_side_that_fails_in_the_middle() {
    let trees = Trees::new();
    std::fs::remove_file(trees.path("kernel/file")).unwrap();
    std::fs::create_dir(trees.path("kernel/file")).unwrap();
    let found = trees.finds(None, |look, sides| {
        let at = sides.tops.as_ref().map(|top| At::new(top, b"file"));
        look.content(b"file", at);
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with(", EISDIR"), "{found:?}");
}
