// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nothing ever writes into the lower: the ways around the front door. (Every test compares the
//! lower before and after; here it matters most.)

use crate::common::check::{Must, fails, reads, stat, within};
use crate::common::for_each_mode;
use crate::common::mmap::SharedPage;
use rustix::fs::{FallocateFlags, XattrFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::time::Duration;

for_each_mode!(
    /// A shared writable mapping of a lower file: the store into memory cannot be refused, writing
    /// it back is, and every other reader sees the true content again within a second.
    shared_mapping_of_a_lower_file,
    |fx| {
        let content = ".".repeat(4096);
        fx.lower().file("f", &content);
        let m = fx.mount();
        reads(&m.path("f"), &content);
        let file = OpenOptions::new().read(true).write(true).open(m.path("f")).must();
        let page = SharedPage::map(&file).must();
        page.store(100, b'X');
        fails(Errno::ROFS, "msync", page.sync());
        let right = || fs::read(m.path("f")).is_ok_and(|bytes| bytes == content.as_bytes());
        assert!(within(Duration::from_secs(1), right), "readers see the refused store, while mapped");
        page.store(200, b'Y');
        drop(page);
        drop(file);
        drop(File::open(m.path("f")).must().sync_all());
        assert!(within(Duration::from_secs(1), right), "readers see the refused store, after unmap");
        reads(&fx.lower().path("f"), &content);
    }
);

for_each_mode!(
    /// fallocate of a lower file: EROFS, in each of its forms; the size stays.
    fallocate_of_a_lower_file,
    |fx| {
        fx.lower().file("f", "lower");
        let m = fx.mount();
        let file = OpenOptions::new().write(true).open(m.path("f")).must();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for flags in [FallocateFlags::empty(), FallocateFlags::KEEP_SIZE, punch] {
            let what = format!("fallocate {flags:?}");
            fails(Errno::ROFS, &what, rustix::fs::fallocate(&file, flags, 0, 100_000));
        }
        assert_eq!(stat(&m.path("f")).len(), 5);
        assert_eq!(stat(&fx.lower().path("f")).len(), 5);
        reads(&m.path("f"), "lower");
    }
);

for_each_mode!(
    /// copy_file_range and sendfile-like copies into a lower file: EROFS.
    copy_into_a_lower_file,
    |fx| {
        fx.lower().file("f", "lower").file("g", "other");
        fx.upper().file("u", "upper");
        let m = fx.mount();
        let to = OpenOptions::new().write(true).open(m.path("f")).must();
        for from in ["u", "g"] {
            let source = File::open(m.path(from)).must();
            let done = rustix::fs::copy_file_range(&source, None, &to, None, 5);
            fails(Errno::ROFS, from, done);
        }
        reads(&m.path("f"), "lower");
    }
);

for_each_mode!(
    /// setxattr and removexattr of a lower file with `xattr`: EROFS.
    attributes_of_a_lower_file,
    |fx| {
        fx.lower().file("f", "lower").xattr("f", "user.note", "lower").dir("d");
        let m = fx.mount_with("xattr");
        for name in ["f", "d"] {
            let set = rustix::fs::setxattr(m.path(name), "user.new", b"x", XattrFlags::empty());
            fails(Errno::ROFS, &format!("setxattr {name}"), set);
        }
        fails(Errno::ROFS, "removexattr", rustix::fs::removexattr(m.path("f"), "user.note"));
    }
);

for_each_mode!(
    /// Reading a lower file, by any means, does not change it; neither does running, mapping or
    /// listing (the manifest tells all times but the access time).
    reading_changes_nothing,
    |fx| {
        fx.lower().file("d/f", "lower").symlink("d/s", "f").mode("d/f", 0o755);
        let m = fx.mount();
        for _ in 0..3 {
            reads(&m.path("d/f"), "lower");
            fs::read_link(m.path("d/s")).must();
            assert_eq!(fs::read_dir(m.path("d")).must().count(), 2);
        }
        let flags = rustix::fs::Access::READ_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(m.path("d/f"), flags).must();
    }
);
