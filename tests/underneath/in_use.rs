// SPDX-License-Identifier: MIT OR Apache-2.0
//! A duplicate vanishes from the upper while somebody uses it: files and mappings that are open keep
//! their data, programs go on running, working directories and mounts inside stay.

use crate::common::check::{Must, reads, text};
use crate::common::fixture::Fixture;
use crate::common::mmap::SharedPage;
use crate::common::mount::{is_mounted, run};
use crate::look::same;
use crate::promise::{TAGS, View};
use crate::quiet::event;
use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// More than the kernel reads ahead from the start.
const SIZE: usize = 16 << 20;

/// Bytes that tell where they are from.
fn content() -> Vec<u8> {
    let words = (0..SIZE / 8).flat_map(|word| word.to_le_bytes());
    words.collect()
}

/// Puts the same file into both layers, as Nix has finished it, for each tag.
fn duplicates(fx: &Fixture, name: &str, content: &[u8], mode: u32) {
    for layer in [fx.lower(), fx.upper()] {
        for tag in TAGS {
            let name = format!("{tag}.{name}");
            layer.file(&name, content).mode(&name, mode).mtime(name, 1);
        }
    }
}

/// Requires that what is removed shows as the lower's from then on.
fn vanish(fx: &Fixture, v: &View, name: &str, mut used: impl FnMut(&str), after: impl Fn(&str)) {
    let full = |tag: &str| format!("{tag}.{name}");
    let change = |tag: &str| {
        same(&v.path(full(tag)), &fx.upper().path(full(tag))).expect("the upper's, before");
        used(tag);
        let path = fx.upper().path(full(tag));
        if path.is_dir() {
            fs::remove_dir_all(path).must();
        } else {
            fs::remove_file(path).must();
        }
    };
    v.both_ways(change, |tag| {
        after(tag);
        same(&v.path(full(tag)), &fx.lower().path(full(tag)))
    });
    TAGS.iter().for_each(|tag| after(tag));
}

event!(
    /// A file that is open: what was not read before reads as the old data, at once and later.
    while_open,
    |fx, told| {
        let want = content();
        duplicates(fx, "big", &want, 0o444);
        let v = told.mount(fx);
        let open = RefCell::new(Vec::new());
        let part = |file: &File, at: usize| {
            let mut got = [0; 4096];
            file.read_exact_at(&mut got, at as u64).must();
            assert!(got == want[at..at + 4096], "other bytes at {at}");
        };
        let used = |tag: &str| {
            let file = File::open(v.path(format!("{tag}.big"))).must();
            part(&file, 0);
            open.borrow_mut().push(file);
        };
        let far = RefCell::new(SIZE);
        vanish(fx, &v, "big", used, |_| {
            *far.borrow_mut() -= 2 << 20;
            open.borrow().iter().for_each(|file| part(file, *far.borrow()));
        });
    }
);

event!(
    /// A mapping: pages that nobody has touched before.
    while_mapped,
    |fx, told| {
        duplicates(fx, "mapped", &content()[..64 << 10], 0o644);
        let v = told.mount(fx);
        let maps = RefCell::new(Vec::new());
        let used = |tag: &str| {
            let path = v.path(format!("{tag}.mapped"));
            let file = OpenOptions::new().read(true).write(true).open(path).must();
            maps.borrow_mut().push(SharedPage::map(&file).must());
        };
        vanish(fx, &v, "mapped", used, |_| {
            maps.borrow().iter().for_each(|map| assert_eq!(map.load(8), 1));
        });
    }
);

/// A program that answers to lines.
struct Talker(Child, BufReader<std::process::ChildStdout>);

impl Talker {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().must();
        let output = child.stdout.take().expect("its output is a pipe");
        let mut talker = Talker(child, BufReader::new(output));
        assert_eq!(talker.line(), "ready");
        talker
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).must();
        line.trim_end().to_owned()
    }

    /// Sends a line, and returns the answer.
    fn ask(&mut self, line: &str) -> String {
        let input = self.0.stdin.as_mut().expect("its input is a pipe");
        writeln!(input, "{line}").must();
        self.line()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if std::thread::panicking() {
            drop(self.0.kill());
        }
        let status = self.0.wait();
        if !std::thread::panicking() {
            assert!(status.must().success(), "the program ended badly");
        }
    }
}

/// Uses more and more of the interpreter: each line is code that was not needed before.
const TALK: &str = "
import sys
print('ready', flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
";
const PROGRAMS: [(&str, &str); 4] = [
    ("pow(3, 10**4, 10**9 + 7)", "895629451"),
    ("sorted('program', reverse=True)[0]", "r"),
    ("'%x %e' % (48879, 1.5)", "beef 1.500000e+00"),
    ("(complex(1, 2) * complex(3, 4)).imag", "10.0"),
];

event!(
    /// A program that runs: code that is not in memory yet is still found.
    while_executed,
    |fx, told| {
        let mut python = Command::new("python3");
        let found = python.args(["-ISc", "import sys; print(sys.executable)"]).output().must();
        let program = text(&found.stdout);
        duplicates(fx, "python", &fs::read(program).must(), 0o555);
        let v = told.mount(fx);
        let running = RefCell::new(Vec::new());
        let used = |tag: &str| {
            let mut command = Command::new(v.path(format!("{tag}.python")));
            command.args(["-ISuc", TALK]).stderr(Stdio::null());
            running.borrow_mut().push(Talker::start(&mut command));
        };
        let asked = RefCell::new(0);
        vanish(fx, &v, "python", used, |_| {
            let (question, answer) = PROGRAMS[*asked.borrow() % PROGRAMS.len()];
            *asked.borrow_mut() += 1;
            for talker in running.borrow_mut().iter_mut() {
                assert_eq!(talker.ask(question), answer);
            }
        });
    }
);

fn directories(fx: &Fixture) {
    for layer in [fx.lower(), fx.upper()] {
        for tag in TAGS {
            for file in ["here", "in/f"] {
                let name = format!("{tag}.dir/{file}");
                layer.file(&name, "text").mtime(name, 1);
            }
            layer
                .mtime(format!("{tag}.dir/in"), 1)
                .mtime(format!("{tag}.dir"), 1);
        }
    }
}

event!(
    /// A directory in which a process works: it finds what is there, by names that it used and by
    /// names that it did not, and where it is.
    while_worked_in,
    |fx, told| {
        directories(fx);
        let v = told.mount(fx);
        let shells = RefCell::new(Vec::new());
        let used = |tag: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo ready; while read line; do eval \"$line\"; done"]);
            shell.current_dir(v.path(format!("{tag}.dir")));
            shells.borrow_mut().push((tag.to_owned(), Talker::start(&mut shell)));
        };
        vanish(fx, &v, "dir", used, |_| {
            for (tag, shell) in shells.borrow_mut().iter_mut() {
                assert_eq!(shell.ask("read word <here; echo $word"), "text");
                assert_eq!(shell.ask("echo $(cat in/f)"), "text");
                let place = v.path(format!("{tag}.dir"));
                assert_eq!(shell.ask("/bin/pwd -P"), place.to_str().expect("ASCII"));
            }
        });
    }
);

fn bind(from: &Path, to: &Path) {
    run(Command::new("mount").arg("--bind").args([from, to]));
}

event!(
    /// A directory in which something is mounted, here and in another mount namespace: the mounts
    /// stay.
    while_mounted_upon,
    [root, userns],
    |fx, told| {
        directories(fx);
        fx.upper().file("source/bound", "bound").file("other/bound", "other");
        let v = told.mount(fx);
        let others = RefCell::new(Vec::new());
        let used = |tag: &str| {
            let inside = v.path(format!("{tag}.dir/in"));
            let mut other = Command::new("unshare");
            other.args(["-m", "--propagation", "private", "sh", "-euc"]);
            other.arg("mount --bind \"$0\" \"$1\"; echo ready; while read line; do cat \"$1/bound\"; echo; done");
            other.arg(v.path("other")).arg(&inside);
            others.borrow_mut().push(Talker::start(&mut other));
            bind(&v.path("source"), &inside);
        };
        vanish(fx, &v, "dir", used, |tag| {
            let inside = v.path(format!("{tag}.dir/in"));
            assert!(is_mounted(&inside), "detached");
            reads(&inside.join("bound"), "bound");
            for other in others.borrow_mut().iter_mut() {
                assert_eq!(other.ask("go on"), "other");
            }
        });
        drop(others);
        for tag in TAGS {
            run(Command::new("umount").arg(v.path(format!("{tag}.dir/in"))));
        }
    }
);
