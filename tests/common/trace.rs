// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads what strace wrote about the driver and requires that only the upper is ever written.
//!
//! The rule is the strict one: a call that opens for writing or that changes a name or an
//! attribute must lead into the upper directory. Everything else, the lower first of all, is a
//! failure, whether the kernel let the call pass or not.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// Set to the directory that takes the logs; turns tracing on.
const DIRECTORY: &str = "OVERSTORE_STRACE";

/// How strace is called: threads, descriptors with their paths, whole strings, changes alone.
pub(crate) const FLAGS: [&str; 7] = [
    "-f",
    "-y",
    "-s4096",
    "-e",
    concat!(
        "trace=open,openat,openat2,open_tree,creat,truncate,ftruncate,fallocate,pwrite64,pwritev,pwritev2,",
        "copy_file_range,sendfile,splice,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,",
        "mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,?fchmodat2,",
        "chown,fchown,lchown,fchownat,utime,utimes,futimesat,utimensat,setxattr,lsetxattr,",
        "fsetxattr,?setxattrat,removexattr,lremovexattr,fremovexattr,?removexattrat,dup,dup2,",
        "dup3,fcntl,chdir,fchdir"
    ),
    "-e",
    "signal=none",
];

/// Returns the directory for logs, if tracing is asked for.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// Requires that every change in `log` leads into one of `allowed`.
pub(crate) fn only_the_upper_is_written(log: &Path, allowed: &[PathBuf]) {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = super::check::text(&bytes);
    assert!(!text.is_empty(), "{}: nothing was traced", log.display());
    let found = violations(&text, allowed);
    assert!(found.is_empty(), "{}: {found:#?}", log.display());
}

/// Lists the calls that change something outside of `allowed`.
pub(crate) fn violations(text: &str, allowed: &[PathBuf]) -> Vec<String> {
    let mut reader = Reader {
        descriptors: open_before(text),
        ..Reader::default()
    };
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(call) = reader.whole(line) else {
            continue;
        };
        reader.learn(&call);
        for target in reader.targets(&call) {
            let inside = |directory: &PathBuf| target.starts_with(directory);
            if !allowed.iter().any(inside) && !harmless(&target) {
                found.push(format!("{}: {call}", target.display()));
            }
        }
    }
    found
}

/// Returns where descriptors lead that were open when a tracer attached: their first mention is as
/// an argument, not as a result.
fn open_before(text: &str) -> HashMap<String, PathBuf> {
    let mut first = HashMap::new();
    for call in text.lines().filter_map(|line| line.split_once(' ')) {
        let result = call.1.rsplit_once(" = ").map_or("", |(_, result)| result);
        let words = arguments(call.1);
        for word in words.iter().map(String::as_str).chain([result]) {
            if let Some((number, path)) = descriptor(word) {
                let known = first.entry(number.to_owned());
                known.or_insert_with(|| PathBuf::from(path));
            }
        }
    }
    first
}

/// Devices, process files, pipes, sockets and the like belong to no layer.
fn harmless(target: &Path) -> bool {
    let text = target.to_string_lossy();
    let no_path = !text.starts_with('/') && text.contains(':');
    no_path
        || ["/dev", "/proc", "/sys"]
            .iter()
            .any(|top| target.starts_with(top))
}

/// Joins interrupted lines and remembers where descriptors lead.
#[derive(Debug, Default)]
struct Reader {
    unfinished: HashMap<String, String>,
    descriptors: HashMap<String, PathBuf>,
    /// Descriptors in mounts of the driver's own: strace shows their paths from the top of that
    /// mount on, which is this directory.
    tops: HashMap<String, PathBuf>,
    working: PathBuf,
}

impl Reader {
    /// Returns `name(arguments) = result` once it is complete, without the thread number.
    fn whole(&mut self, line: &str) -> Option<String> {
        let (thread, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            self.unfinished.insert(thread.to_owned(), start.to_owned());
            return None;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let end = resumed.split_once(" resumed>")?.1;
            return Some(self.unfinished.remove(thread)? + end);
        }
        Some(rest.to_owned())
    }

    /// Remembers the path behind the descriptor that a call returned.
    fn learn(&mut self, call: &str) {
        let Some((_, result)) = call.rsplit_once(" = ") else {
            return;
        };
        if let Some((number, _)) = descriptor(result) {
            match self.top(call) {
                Some(top) => drop(self.tops.insert(number.to_owned(), top)),
                None => drop(self.tops.remove(number)),
            }
            self.descriptors
                .insert(number.to_owned(), self.file(result));
        }
        if call.starts_with("chdir(") && result.starts_with('0') {
            self.working = arguments(call)
                .first()
                .map_or(PathBuf::new(), |path| self.name(path));
        }
    }

    /// Returns the top of the own mount that the descriptor of a call's result leads into.
    fn top(&self, call: &str) -> Option<PathBuf> {
        let words = arguments(call);
        let first = words.first()?;
        if call.starts_with("open_tree(") && call.contains("OPEN_TREE_CLONE") {
            return Some(self.at(first, words.get(1)?));
        }
        let again = words.iter().take(2).find_map(|word| {
            let number = word.trim_matches('"').strip_prefix("/proc/self/fd/")?;
            Some(number.to_owned())
        });
        let from = again.or_else(|| descriptor(first).map(|(number, _)| number.to_owned()));
        self.tops.get(&from?).cloned()
    }

    /// Returns the paths that a call changes or opens for writing.
    fn targets(&self, call: &str) -> Vec<PathBuf> {
        let name = call.split('(').next().unwrap_or_default();
        let words = arguments(call);
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let at = |index: usize| self.at(word(index), word(index + 1));
        match name {
            "open" if writes(word(1)) => vec![self.opened(call, self.name(word(0)))],
            "openat" | "openat2" if writes(word(2)) => vec![self.opened(call, at(0))],
            "creat" => vec![self.opened(call, self.name(word(0)))],
            "ftruncate" | "fallocate" | "pwrite64" | "pwritev" | "pwritev2" | "fchmod"
            | "fchown" | "fsetxattr" | "fremovexattr" | "sendfile" => vec![self.file(word(0))],
            "copy_file_range" | "splice" => vec![self.file(word(2))],
            "unlinkat" | "mkdirat" | "mknodat" | "fchmodat" | "fchmodat2" | "fchownat"
            | "utimensat" | "futimesat" | "setxattrat" | "removexattrat" => vec![at(0)],
            "renameat" | "renameat2" | "linkat" => vec![at(0), at(2)],
            "symlinkat" => vec![at(1)],
            "rename" | "link" => vec![self.name(word(0)), self.name(word(1))],
            "symlink" => vec![self.name(word(1))],
            "truncate" | "unlink" | "rmdir" | "mkdir" | "mknod" | "chmod" | "chown" | "lchown"
            | "utime" | "utimes" | "setxattr" | "lsetxattr" | "removexattr" | "lremovexattr" => {
                vec![self.name(word(0))]
            }
            _ => Vec::new(),
        }
    }

    /// What was opened is what the kernel says it is; only a failed open is judged by its name.
    fn opened(&self, call: &str, named: PathBuf) -> PathBuf {
        let result = call.rsplit_once(" = ").map_or("", |(_, result)| result);
        descriptor(result).map_or(named, |_| self.file(result))
    }

    fn file(&self, word: &str) -> PathBuf {
        let Some((number, path)) = descriptor(word) else {
            return PathBuf::from(word);
        };
        match self.tops.get(number) {
            Some(top) => lexical(&top.join(path.trim_start_matches('/'))),
            None => PathBuf::from(path),
        }
    }

    /// Resolves a directory descriptor and a name below it.
    fn at(&self, directory: &str, name: &str) -> PathBuf {
        let name = unquote(name);
        if name.starts_with('/') {
            return self.absolute(Path::new(&name));
        }
        let base = self.file(directory);
        match name.is_empty() || name == "NULL" {
            true => base,
            false => lexical(&base.join(name)),
        }
    }

    fn name(&self, word: &str) -> PathBuf {
        let name = unquote(word);
        match name.starts_with('/') {
            true => self.absolute(Path::new(&name)),
            false => lexical(&self.working.join(name)),
        }
    }

    /// Follows `/proc/self/fd/N` to where that descriptor leads.
    fn absolute(&self, path: &Path) -> PathBuf {
        let text = path.to_string_lossy();
        let Some(tail) = text.strip_prefix("/proc/self/fd/") else {
            return lexical(path);
        };
        let (number, rest) = tail.split_once('/').unwrap_or((tail, ""));
        match self.descriptors.get(number) {
            Some(base) if rest.is_empty() => base.clone(),
            Some(base) => lexical(&base.join(rest)),
            None => PathBuf::from(format!("unknown descriptor {number}")),
        }
    }
}

fn writes(flags: &str) -> bool {
    let changing = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"];
    changing.iter().any(|flag| flags.contains(flag))
}

/// Reads `7</path>` or `AT_FDCWD</path>`.
fn descriptor(word: &str) -> Option<(&str, &str)> {
    let (number, rest) = word.split_once('<')?;
    let rest = rest.trim_end();
    let path = rest
        .strip_suffix("(deleted)")
        .unwrap_or(rest)
        .strip_suffix('>')?;
    Some((number, path))
}

fn unquote(word: &str) -> String {
    word.trim_matches('"').to_owned()
}

fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Splits the arguments of a call at its top-level commas.
fn arguments(call: &str) -> Vec<String> {
    let inner = call.split_once('(').map_or("", |(_, rest)| rest);
    let inner = inner
        .rsplit_once(" = ")
        .map_or(inner, |(arguments, _)| arguments);
    let inner = inner.trim_end().strip_suffix(')').unwrap_or(inner);
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0_i32, false, false);
    for letter in inner.chars() {
        match letter {
            _ if escaped => {}
            '"' => quoted = !quoted,
            '{' | '[' | '<' if !quoted => depth += 1,
            '}' | ']' | '>' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                words.push(word.trim().to_owned());
                word.clear();
                continue;
            }
            _ => {}
        }
        escaped = quoted && letter == '\\' && !escaped;
        word.push(letter);
    }
    words.push(word.trim().to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::violations;
    use std::path::PathBuf;

    fn found(line: &str) -> usize {
        violations(line, &[PathBuf::from("/t/upper")]).len()
    }

    #[test]
    fn what_leads_into_the_upper_is_allowed() {
        let lines = [
            r#"7 openat(3</t/upper>, "a", O_WRONLY|O_CREAT, 0644) = 9</t/upper/a>"#,
            r#"7 openat(4</t/lower>, "a", O_RDONLY|O_CLOEXEC) = 9</t/lower/a>"#,
            r#"7 openat(4</t/lower>, "a", O_PATH|O_NOFOLLOW) = 9</t/lower/a>"#,
            r#"7 openat(AT_FDCWD</>, "/dev/null", O_RDWR) = 9</dev/null>"#,
            r#"7 ftruncate(9</t/upper/gone>(deleted), 1) = 0"#,
            r#"7 unlinkat(3</t/upper>, "d/a", 0) = 0"#,
            r#"7 fchmod(5<socket:[1]>, 0600) = 0"#,
        ];
        for line in lines {
            assert_eq!(found(line), 0, "{line}");
        }
    }

    #[test]
    fn what_leads_anywhere_else_is_found() {
        let lines = [
            r#"7 openat(4</t/lower>, "a", O_WRONLY) = 9</t/lower/a>"#,
            r#"7 openat(4</t/lower>, "a", O_RDWR) = -1 EROFS (Read-only file system)"#,
            r#"7 openat2(4</t/lower>, "a", {flags=O_RDWR, resolve=RESOLVE_BENEATH}, 24) = 9</t/lower/a>"#,
            r#"7 openat(3</t/upper>, "../lower/a", O_RDWR) = -1 EACCES (Permission denied)"#,
            r#"7 fallocate(9</t/lower/a>, 0, 0, 4096) = 0"#,
            r#"7 copy_file_range(8</t/upper/a>, NULL, 9</t/lower/a>, NULL, 5, 0) = 5"#,
            r#"7 linkat(4</t/lower>, "a", 3</t/upper>, "a", 0) = 0"#,
            r#"7 renameat2(3</t/upper>, "a", 4</t/lower>, "a", 0) = 0"#,
            r#"7 unlinkat(4</t/lower>, "a, b", 0) = 0"#,
            r#"7 utimensat(4</t/lower>, "a", [UTIME_OMIT, {tv_sec=1, tv_nsec=0}], 0) = 0"#,
            r#"7 chmod("/t/lower/a", 0644) = 0"#,
        ];
        for line in lines {
            assert_eq!(found(line), 1, "{line}");
        }
    }

    #[test]
    fn a_way_through_a_descriptor_is_followed() {
        let log = concat!(
            "7 openat(4</t/lower>, \"a\", O_PATH) = 9</t/lower/a>\n",
            "8 chmod(\"/proc/self/fd/9\", 0644 <unfinished ...>\n",
            "7 openat(AT_FDCWD</>, \"/proc/self/fd/9\", O_RDONLY) = 10</t/lower/a>\n",
            "8 <... chmod resumed>)            = 0\n",
        );
        assert_eq!(found(log), 1);
    }

    #[test]
    fn a_mount_of_the_drivers_own_is_what_it_was_made_from() {
        let log = |layer: &str| {
            [
                &format!("7 open_tree(3</t/{layer}>, \"\", OPEN_TREE_CLONE|AT_EMPTY_PATH) = 4</>"),
                "7 fcntl(4</>, F_DUPFD_CLOEXEC, 0) = 5</>",
                "7 openat2(5</>, \"d\", {flags=O_PATH, resolve=RESOLVE_NO_XDEV}, 24) = 6</d>",
                "7 openat(AT_FDCWD</>, \"/proc/self/fd/6\", O_RDONLY) = 8</d>",
                "7 openat(8</d>, \"a\", O_RDWR|O_CREAT, 0644) = 9</d/a>",
                "7 pwrite64(9</d/a>, \"x\", 1, 0) = 1",
                "7 unlinkat(6</d>, \"a\", 0) = 0",
                "7 chmod(\"/proc/self/fd/9\", 0644) = 0",
            ]
            .join("\n")
        };
        assert_eq!(found(&log("upper")), 0);
        assert_eq!(found(&log("lower")), 4);
    }
}
