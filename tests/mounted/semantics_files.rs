// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are open: unlinked, remapped, sparse, direct, synchronised.

use crate::common::check::{Must, absent, fails, lists, reads, stat};
use crate::common::for_each_mode;
use crate::common::mmap::SharedPage;
use crate::common::mode::Mode;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

const ROUNDS: usize = 300;

for_each_mode!(
    /// "create in place with the caller's ids and umask (also `mkdir 0500` and
    /// `open(O_CREAT, 0444)` by a plain user)": the descriptor writes whatever the mode says, and
    /// more files than any table of open files holds can be written so.
    read_only_from_the_start,
    |fx| {
        let m = fx.mount();
        let mut files = Vec::new();
        for number in 0..ROUNDS {
            let mode = [0o444, 0o400, 0o000, 0o200][number % 4];
            let path = m.path(format!("f{number}"));
            let mut open = OpenOptions::new();
            let mut file = open.read(true).write(true).create_new(true).mode(mode).open(&path).must();
            file.write_all(b"first ").must();
            files.push((file, path, mode));
        }
        for (file, path, mode) in &mut files {
            file.write_all(b"second").must();
            file.set_len(11).must();
            file.rewind().must();
            let mut text = String::new();
            file.read_to_string(&mut text).must();
            assert_eq!(text, "first secon", "{}", path.display());
            assert_eq!(stat(path).mode() & 0o777, *mode);
        }
        rustix::fs::mkdir(m.path("d"), rustix::fs::Mode::from_raw_mode(0o500)).must();
        assert_eq!(stat(&fx.upper().path("d")).mode() & 0o777, 0o500);
        let inside = fs::write(m.path("d/f"), "x");
        match fx.mode() {
            Mode::user => fails(Errno::ACCESS, "create in a 0500 directory", inside),
            Mode::root | Mode::userns => inside.must(),
        }
    }
);

for_each_mode!(
    /// chmod 0444, then write on the descriptor that is open: permitted at open, permitted now.
    read_only_while_open,
    |fx| {
        fx.upper().file("old", "old");
        let m = fx.mount();
        for (name, mode) in [("old", 0o444), ("new", 0o444), ("none", 0o000)] {
            let mut open = OpenOptions::new();
            let mut file = open.read(true).append(true).create(true).open(m.path(name)).must();
            file.write_all(b"1").must();
            file.set_permissions(fs::Permissions::from_mode(mode)).must();
            file.write_all(b"2").must();
            let by_name = fs::set_permissions(m.path(name), fs::Permissions::from_mode(mode));
            by_name.must();
            file.write_all(b"3").must();
            file.rewind().must();
            let mut text = String::new();
            file.read_to_string(&mut text).must();
            assert!(text.ends_with("123"), "{name}: {text}");
            assert_eq!(stat(&m.path(name)).mode() & 0o777, mode);
        }
    }
);

for_each_mode!(
    /// "unlinked-open files": read, write, ftruncate, fchmod, fstat (nlink 0), also when the mode
    /// forbids writing, also of a file that was never written through the mount.
    unlinked_but_open,
    |fx| {
        fx.upper().file("old", "old text").file("d/read-only", "old text").mode("d/read-only", 0o444);
        let m = fx.mount();
        let mut open = OpenOptions::new();
        let mut new = open.read(true).write(true).create(true).truncate(true).open(m.path("new")).must();
        new.write_all(b"old text").must();
        new.set_permissions(fs::Permissions::from_mode(0o444)).must();
        let old = OpenOptions::new().read(true).write(true).open(m.path("old")).must();
        for (file, name) in [(&new, "new"), (&old, "old")] {
            fs::remove_file(m.path(name)).must();
            absent(&m.path(name));
            assert_eq!(file.metadata().must().nlink(), 0, "{name}");
            file.write_all_at(b"NEW", 0).must();
            file.set_len(6).must();
            file.set_permissions(fs::Permissions::from_mode(0o600)).must();
            let (mut text, mut handle) = (String::new(), file);
            handle.rewind().must();
            handle.read_to_string(&mut text).must();
            assert_eq!(text, "NEW te", "{name}");
            let found = file.metadata().must();
            assert_eq!((found.len(), found.mode() & 0o777, found.nlink()), (6, 0o600, 0), "{name}");
        }
        let reader = File::open(m.path("d/read-only")).must();
        fs::remove_file(m.path("d/read-only")).must();
        assert_eq!(io::read_to_string(reader).must(), "old text");
        lists(&fx.upper().path("d"), &[]);
    }
);

for_each_mode!(
    /// A directory that is removed while it is somebody's working directory or open: nothing can
    /// be made in it, it is empty, and its number is its own.
    removed_but_open_directory,
    |fx| {
        let m = fx.mount();
        fs::create_dir(m.path("d")).must();
        let open = File::open(m.path("d")).must();
        fs::remove_dir(m.path("d")).must();
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        fails(Errno::NOENT, "mkdir in it", rustix::fs::mkdirat(&open, "x", mode));
        open.metadata().must();
        fs::create_dir(m.path("d")).must();
        fs::write(m.path("d/f"), "x").must();
        lists(&m.path("d"), &["f"]);
    }
);

for_each_mode!(
    /// O_APPEND from two descriptors: nothing is lost, nothing is torn.
    appending,
    |fx| {
        let m = fx.mount();
        let open = || OpenOptions::new().append(true).create(true).open(m.path("log"));
        let (mut one, mut two) = (open().must(), open().must());
        for _ in 0..200 {
            one.write_all(b"one\n").must();
            two.write_all(b"two\n").must();
        }
        let text = fs::read_to_string(fx.upper().path("log")).must();
        assert_eq!(text, "one\ntwo\n".repeat(200));
        reads(&m.path("log"), &text);
    }
);

for_each_mode!(
    /// "shared writable mmap": what is stored is read by others, reaches the upper file, and a
    /// write is seen in the mapping.
    shared_mapping_of_an_upper_file,
    |fx| {
        fx.upper().file("f", vec![b'.'; 4096]);
        let m = fx.mount();
        let file = OpenOptions::new().read(true).write(true).open(m.path("f")).must();
        let page = SharedPage::map(&file).must();
        page.store(7, b'A');
        page.sync().must();
        assert_eq!(fs::read(fx.upper().path("f")).must()[7], b'A');
        assert_eq!(fs::read(m.path("f")).must()[7], b'A');
        file.write_all_at(b"B", 9).must();
        assert_eq!(page.load(9), b'B');
        page.store(8, b'C');
        drop(page);
        drop(file);
        let reached = || fs::read(fx.upper().path("f")).must()[7..10] == *b"ACB";
        assert!(crate::common::check::within(std::time::Duration::from_secs(2), reached));
    }
);

for_each_mode!(
    /// O_DIRECT reads and writes, of either layer.
    direct,
    |fx| {
        fx.lower().file("low", vec![b'l'; 8192]);
        fx.upper().file("up", vec![b'u'; 8192]);
        let m = fx.mount();
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).expect("a flag");
        let mut buffer = vec![0_u8; 16384];
        let start = buffer.as_ptr().align_offset(4096);
        for (name, byte) in [("low", b'l'), ("up", b'u')] {
            let file = OpenOptions::new().read(true).custom_flags(direct).open(m.path(name)).must();
            let part = &mut buffer[start..start + 8192];
            assert_eq!(file.read_at(part, 0).must(), 8192, "{name}");
            assert!(part.iter().all(|found| *found == byte), "{name}");
        }
        buffer[start..start + 4096].fill(b'D');
        let file = OpenOptions::new().write(true).custom_flags(direct).open(m.path("up")).must();
        assert_eq!(file.write_at(&buffer[start..start + 4096], 4096).must(), 4096);
        let bytes = fs::read(m.path("up")).must();
        assert!(bytes[..4096].iter().all(|b| *b == b'u') && bytes[4096..].iter().all(|b| *b == b'D'));
        assert!(fs::read(fx.upper().path("up")).must() == bytes);
    }
);

for_each_mode!(
    /// "fallocate": room and size in the upper; keep-size and punch-hole as well.
    allocating,
    |fx| {
        let m = fx.mount();
        let file = File::create_new(m.path("f")).must();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 100_000).must();
        assert_eq!(stat(&m.path("f")).len(), 100_000);
        assert_eq!(stat(&fx.upper().path("f")).len(), 100_000);
        rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 300_000).must();
        assert_eq!(stat(&m.path("f")).len(), 100_000);
        file.write_all_at(&[b'x'; 65536], 0).must();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 4096, 8192).must();
        let bytes = fs::read(m.path("f")).must();
        assert!(bytes[4096..12288].iter().all(|byte| *byte == 0) && bytes[12288] == b'x');
        assert!(fs::read(fx.upper().path("f")).must() == bytes);
    }
);

for_each_mode!(
    /// "lseek": holes and data are where the layer's file has them.
    holes,
    |fx| {
        for (layer, name) in [(fx.lower(), "low"), (fx.upper(), "up")] {
            layer.file(name, "");
            let file = OpenOptions::new().write(true).open(layer.path(name)).must();
            file.write_all_at(b"data", 1 << 20).must();
            file.set_len(3 << 20).must();
            file.sync_all().must();
        }
        let m = fx.mount();
        for (layer, name) in [(fx.lower(), "low"), (fx.upper(), "up")] {
            let (own, file) = (File::open(layer.path(name)).must(), File::open(m.path(name)).must());
            for from in [SeekFrom::Data(0), SeekFrom::Hole(0), SeekFrom::Hole(1 << 20)] {
                let want = rustix::fs::seek(&own, from).must();
                assert_eq!(rustix::fs::seek(&file, from).must(), want, "{name} {from:?}");
            }
            fails(Errno::NXIO, "past the data", rustix::fs::seek(&file, SeekFrom::Data(2 << 20)));
        }
    }
);

for_each_mode!(
    /// "copy_file_range": from either layer into an upper file.
    copying,
    |fx| {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        fx.lower().file("low", &bytes);
        fx.upper().file("up", &bytes);
        let m = fx.mount();
        for name in ["low", "up"] {
            let (from, to) = (File::open(m.path(name)).must(), File::create(m.path("copy")).must());
            let mut left = bytes.len();
            while left > 0 {
                let done = rustix::fs::copy_file_range(&from, None, &to, None, left).must();
                assert!(done > 0, "{name}: nothing copied, {left} left");
                left -= done;
            }
            assert!(fs::read(m.path("copy")).must() == bytes, "{name}");
            assert!(fs::read(fx.upper().path("copy")).must() == bytes, "{name}");
        }
    }
);

for_each_mode!(
    /// fsync, fdatasync and fsync of a directory succeed, in either layer.
    synchronising,
    |fx| {
        fx.lower().file("low/f", "l");
        fx.upper().file("up/f", "u");
        let m = fx.mount();
        for name in ["low/f", "up/f", "low", "up", ""] {
            let open = File::open(m.path(name)).must();
            open.sync_all().must();
            open.sync_data().must();
        }
        let mut new = File::create(m.path("new")).must();
        new.write_all(b"x").must();
        new.sync_all().must();
        new.sync_data().must();
    }
);

for_each_mode!(
    /// "statfs of the upper's filesystem", from any path, and not read-only.
    statfs,
    [root, userns],
    |fx| {
        fs::create_dir_all(fx.scratch("up")).must();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=7m,nr_inodes=777", "tmpfs"]).arg(fx.scratch("up"));
        crate::common::mount::run(&mut mount);
        fx.lower().file("low/f", "l");
        fx.upper().file("f", "u");
        let m = fx.mount();
        let want = rustix::fs::statvfs(fx.upper().path("")).must();
        for name in ["", "low/f", "f"] {
            let found = rustix::fs::statvfs(m.path(name)).must();
            let tell = |s: &rustix::fs::StatVfs| {
                (s.f_frsize, s.f_blocks, s.f_bfree, s.f_files, s.f_ffree, s.f_namemax)
            };
            assert_eq!(tell(&found), tell(&want), "{name}");
            assert!(!found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        }
        let big = fs::write(m.path("big"), vec![1; 8 << 20]);
        fails(Errno::NOSPC, "8 MiB into 7", big);
        fs::remove_file(m.path("big")).must();
        fs::write(m.path("small"), "fits").must();
        reads(&m.path("small"), "fits");
    }
);
