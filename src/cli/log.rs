// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where messages go: to standard error as long as somebody reads it, then to the system's log.
//!
//! Invariant: a driver in the background never writes to a terminal that it has let go of, and
//! never waits for the log.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

/// Where syslog and journald listen.
const SOCKET: &str = "/dev/log";
/// Facility `daemon` of syslog(3), shifted; the severity is added.
const DAEMON: u8 = 3 << 3;

static SYSTEM_LOG: OnceLock<Option<UnixDatagram>> = OnceLock::new();

/// From now on messages go to the system's log; where there is none, nowhere.
pub(super) fn leave_terminal() {
    let _socket = SYSTEM_LOG.get_or_init(connect);
}

fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(SOCKET).ok()?;
    Some(socket)
}

/// Starts logging. `OVERSTORE_LOG` (as `RUST_LOG` elsewhere) decides how much; without it the
/// number of `-v`.
pub(super) fn start(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = env_logger::Env::new().filter_or("OVERSTORE_LOG", default);
    let mut log = env_logger::Builder::from_env(filter);
    log.target(env_logger::Target::Pipe(Box::new(Messages)));
    if verbose == 0 && std::env::var_os("OVERSTORE_LOG").is_none() {
        // What is left reads as the other messages do.
        log.format(|line, record| {
            let level = match record.level() {
                log::Level::Error => "error",
                _ => "warning",
            };
            writeln!(line, "{level}: {}", record.args())
        });
    }
    log.init();
}

/// Takes one message a write.
struct Messages;

impl Write for Messages {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match SYSTEM_LOG.get() {
            None => io::stderr().write(line),
            Some(None) => Ok(line.len()),
            Some(Some(socket)) => socket.send(&packet(line)).map(|_| line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Wraps a message as syslog(3) does.
fn packet(line: &[u8]) -> Vec<u8> {
    let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
    let severity = if line.starts_with(b"error") || has(b" ERROR ") {
        3
    } else if line.starts_with(b"warning") || has(b" WARN ") {
        4
    } else {
        6
    };
    let mut packet = format!("<{}>overstore[{}]: ", DAEMON + severity, std::process::id());
    packet.push_str(&line.trim_ascii_end().escape_ascii().to_string());
    packet.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_severity() {
        let text = |line: &[u8]| String::from_utf8(packet(line)).expect("ASCII");
        assert!(text(b"error: no\n").starts_with("<27>overstore["));
        assert!(text(b"warning: hm\n").starts_with("<28>"));
        assert!(text(b"[2026 INFO  overstore] mounted\n").ends_with("mounted"));
    }
}
