// SPDX-License-Identifier: MIT OR Apache-2.0
//! An sshd of the test's own, on a port of the loopback interface, and sshfs on it.
//!
//! Invariant: it uses keys that are made for the test, and no file of the machine's own sshd. When
//! the guard is gone, so are the listener and every session.

use super::server::{Server, ascii};
use crate::common::check::{Must, text, within};
use crate::common::mode::Mode;
use crate::common::mount::run;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// sshd takes no relative name: it starts itself again.
const PROGRAM: &str = "/usr/sbin/sshd";

/// A local sshd.
#[derive(Debug)]
pub(crate) struct Sshd {
    directory: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Sshd {
    /// Starts an sshd whose files are in `directory`.
    pub(crate) fn new(mode: Mode, directory: &Path) -> Sshd {
        fs::create_dir_all(directory).must();
        if mode == Mode::root {
            make_room_for_privilege_separation();
        }
        for key in ["host", "user"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            run(make.arg(directory.join(key)));
        }
        let mut sshd = Sshd {
            directory: directory.to_owned(),
            port: 0,
            child: None,
        };
        sshd.choose_port();
        sshd.start();
        sshd
    }

    fn choose_port(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").must();
        self.port = listener.local_addr().must().port();
        let directory = ascii(&self.directory);
        let lines = [
            format!("Port {}", self.port),
            format!("HostKey {directory}/host"),
            format!("AuthorizedKeysFile {directory}/user.pub"),
            "ListenAddress 127.0.0.1\nPidFile none\nStrictModes no\nUsePAM no\nUseDNS no"
                .to_owned(),
            "PasswordAuthentication no\nKbdInteractiveAuthentication no".to_owned(),
            "PermitRootLogin prohibit-password\nPrintLastLog no".to_owned(),
            // As many sessions as are asked for, at once.
            "MaxStartups 100\nSubsystem sftp internal-sftp\nLogLevel ERROR\n".to_owned(),
        ];
        fs::write(self.directory.join("config"), lines.join("\n")).must();
    }

    /// Starts the listener and waits until it listens.
    pub(crate) fn start(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .must();
        let mut command = Command::new(PROGRAM);
        command
            .args(["-D", "-e", "-f"])
            .arg(self.directory.join("config"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().must());
        let listens = || TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        assert!(within(PATIENCE, listens), "sshd: {}", self.said());
    }

    /// Kills every session; the listener takes new ones.
    pub(crate) fn kill_sessions(&self) {
        let Some(child) = &self.child else { return };
        for pid in below(child.id()) {
            // One that just ended by itself is as good.
            let _ended: Result<(), _> = kill(pid, Signal::SIGKILL);
        }
    }

    /// Ends listener and sessions.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // First the listener, or there are new sessions meanwhile; its sessions are known by it.
        let sessions = below(child.id());
        drop(child.kill().and_then(|()| child.wait()));
        for pid in sessions {
            let _ended: Result<(), _> = kill(pid, Signal::SIGKILL);
        }
    }

    /// Returns the options with which an ssh client reaches this sshd.
    fn client_options(&self) -> String {
        let key = ascii(&self.directory).to_owned() + "/user";
        format!(
            "port={},IdentityFile={key},IdentitiesOnly=yes,StrictHostKeyChecking=no,BatchMode=yes,\
             UserKnownHostsFile=/dev/null,LogLevel=ERROR,ssh_command=ssh -F none",
            self.port
        )
    }

    /// Serves `store` at `at` by sshfs with the further options `more`, for reading.
    pub(crate) fn sshfs(&self, mode: Mode, store: &Path, at: &Path, more: &str) -> Server {
        let user = Command::new("id").arg("-un").output().must();
        let source = format!("{}@127.0.0.1:{}", text(&user.stdout), ascii(store));
        let options = format!("ro,{more},{}", self.client_options());
        Server::new(
            mode,
            &["sshfs", "-f", "-o", &options, &source, ascii(at)],
            at,
        )
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn said(&self) -> String {
        text(&fs::read(self.log()).unwrap_or_default())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            println!("--- sshd:\n{}\n---", self.said());
        }
    }
}

/// Makes the directory that sshd locks its unprivileged half in. The mount namespace is the test's
/// own.
fn make_room_for_privilege_separation() {
    run(Command::new("mount").args(["-n", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"]));
    fs::create_dir("/run/sshd").must();
}

/// Returns every process below `pid`.
fn below(pid: u32) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = list
        .split_whitespace()
        .filter_map(|word| word.parse::<u32>().ok());
    let mut all = Vec::new();
    for child in children {
        all.push(Pid::from_raw(
            i32::try_from(child).expect("pids are positive"),
        ));
        all.extend(below(child));
    }
    all
}
