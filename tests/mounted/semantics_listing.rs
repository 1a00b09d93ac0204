// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listings: positions that do not move, while names come and go.

use crate::common::check::{Must, absent, listing};
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use rustix::fs::{RawDir, SeekFrom};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::path::Path;

/// How many names each layer has of its own, and how many are in both.
const EACH: usize = 1000;

/// Three thousand names in the merged directory `d`.
fn many(fx: &Fixture) {
    fx.lower().dir("d");
    fx.upper().dir("d");
    for number in 0..EACH {
        fs::write(fx.lower().path(format!("d/low-{number}")), "").must();
        fs::write(fx.upper().path(format!("d/up-{number}")), "").must();
        fs::write(fx.lower().path(format!("d/both-{number}")), "").must();
        fs::write(fx.upper().path(format!("d/both-{number}")), "").must();
    }
}

/// A directory stream, read a few entries at a time.
struct Stream {
    directory: File,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Stream {
    fn open(path: &Path) -> Self {
        let directory = File::open(path).must();
        Stream {
            directory,
            buffer: vec![MaybeUninit::uninit(); 4096],
        }
    }

    /// Reads one buffer: names, each with the position after it. Empty at the end.
    fn more(&mut self) -> Vec<(String, u64)> {
        let mut raw = RawDir::new(&self.directory, &mut self.buffer);
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry.must();
            let name = entry
                .file_name()
                .to_str()
                .expect("test names are UTF-8")
                .to_owned();
            entries.push((name, entry.next_entry_cookie()));
            if raw.is_buffer_empty() {
                break;
            }
        }
        entries
    }

    fn rest(&mut self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        loop {
            let some = self.more();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    fn seek(&self, position: u64) {
        rustix::fs::seek(&self.directory, SeekFrom::Start(position)).must();
    }
}

fn names(entries: &[(String, u64)]) -> Vec<&str> {
    entries.iter().map(|(name, _)| name.as_str()).collect()
}

for_each_mode!(
    /// A merged directory lists each of its 3000 names once, dot and dot-dot too.
    each_name_once,
    |fx| {
        many(fx);
        let m = fx.mount();
        let all = Stream::open(&m.path("d")).rest();
        let distinct: HashSet<_> = names(&all).into_iter().collect();
        assert_eq!(all.len(), distinct.len(), "a name is listed twice");
        assert_eq!(distinct.len(), 3 * EACH + 2);
        assert!(distinct.contains(".") && distinct.contains(".."));
        assert_eq!(listing(&m.path("d")).len(), 3 * EACH);
    }
);

for_each_mode!(
    /// "listings whose positions do not move": a stream that is half read, while names are added
    /// and removed through the mount, repeats nothing and misses no name that was there all along.
    a_stream_while_names_change,
    |fx| {
        many(fx);
        let m = fx.mount();
        let mut stream = Stream::open(&m.path("d"));
        let mut seen = Vec::new();
        for round in 0_usize.. {
            let some = stream.more();
            if some.is_empty() {
                break;
            }
            seen.extend(some);
            if round < 20 {
                fs::write(m.path(format!("d/new-{round}")), "").must();
                fs::remove_file(m.path(format!("d/up-{}", round * 50))).must();
                fs::remove_file(m.path(format!("d/up-{}", EACH - 1 - round * 3))).must();
                fs::remove_file(m.path(format!("d/both-{round}"))).must();
            }
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for name in names(&seen) {
            *counts.entry(name).or_default() += 1;
        }
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "listed twice: {twice:?}");
        let now = listing(&m.path("d"));
        for name in now.keys().map(|name| name.to_str().expect("UTF-8")) {
            let fresh = name.starts_with("new-");
            assert!(fresh || counts.contains_key(name), "{name} was missed");
        }
        assert!(now.contains_key(std::ffi::OsStr::new("both-3")), "the lower one shows again");
    }
);

for_each_mode!(
    /// telldir and seekdir: a position that was told leads back to the same next name, also after
    /// names before it have come and gone.
    positions_lead_back,
    |fx| {
        many(fx);
        let m = fx.mount();
        let mut stream = Stream::open(&m.path("d"));
        let all = stream.rest();
        for number in 0..30 {
            fs::write(m.path(format!("d/new-{number}")), "").must();
            let (gone, _) = &all[100 + number];
            drop(fs::remove_file(m.path("d").join(gone)));
        }
        for at in [150, 500, 1234, 2000, 2999] {
            stream.seek(all[at].1);
            let rest = stream.rest();
            let old: HashSet<_> = names(&rest).into_iter().collect();
            assert_eq!(rest.first().map(|(name, _)| name), all.get(at + 1).map(|(name, _)| name));
            for (name, _) in &all[at + 1..] {
                assert!(old.contains(name.as_str()), "{name} is missed after position {at}");
            }
            for (name, _) in &all[..=at] {
                assert!(!old.contains(name.as_str()), "{name} is repeated after position {at}");
            }
        }
    }
);

for_each_mode!(
    /// rewinddir shows what is there now.
    rewinding_shows_the_present,
    |fx| {
        fx.lower().file("d/low", "l");
        fx.upper().file("d/up", "u");
        let m = fx.mount();
        let mut stream = Stream::open(&m.path("d"));
        assert_eq!(stream.rest().len(), 4);
        fs::write(m.path("d/new"), "").must();
        fs::remove_file(m.path("d/up")).must();
        stream.seek(0);
        let now = stream.rest();
        let mut now = names(&now);
        now.sort_unstable();
        assert_eq!(now, [".", "..", "low", "new"]);
        absent(&m.path("d/up"));
    }
);

for_each_mode!(
    /// "changes to the layers underneath show up at once": a name that the lower store or the
    /// upper gains or loses at the top shows in lookups and listings.
    top_level_changes_show,
    |fx| {
        if fx.on_kernel() {
            fx.skip("a documented difference");
        }
        fx.lower().file("old", "l");
        fx.upper().file("up", "u");
        let m = fx.mount();
        absent(&m.path("fresh"));
        absent(&m.path("fresh-up"));
        assert_eq!(listing(&m.path("")).len(), 2);
        fx.lower().file("fresh/f", "l");
        fx.upper().file("fresh-up", "u");
        fx.lower_changed_outside();
        let limit = std::time::Duration::from_secs(3);
        let shown = |name: &str| fs::symlink_metadata(m.path(name)).is_ok();
        let listed = || listing(&m.path("")).len();
        assert!(crate::common::check::within(limit, || shown("fresh/f") && shown("fresh-up")));
        assert!(crate::common::check::within(limit, || listed() == 4), "{:?}", listing(&m.path("")));
        fs::remove_dir_all(fx.lower().path("fresh")).must();
        fs::remove_file(fx.upper().path("fresh-up")).must();
        fx.lower_changed_outside();
        assert!(crate::common::check::within(limit, || !shown("fresh") && !shown("fresh-up")));
        assert!(crate::common::check::within(limit, || listed() == 2), "{:?}", listing(&m.path("")));
    }
);
