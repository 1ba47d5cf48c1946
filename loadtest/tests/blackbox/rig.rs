//! Processes of the binary with a deadline, endpoints that are scripted here, and the reports they are read from.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test calls it hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until `condition` holds.
#[expect(clippy::disallowed_methods, reason = "the one place where tests wait for a condition")]
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        thread::sleep(LOOK);
    }
}

/// A started command, killed when the test ends first.
pub(crate) struct Started(Option<Child>);

impl Started {
    pub(crate) fn new(args: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(Some(child))
    }

    /// What Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        let pid = i32::try_from(self.0.as_ref().unwrap().id()).unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::INT,
        )
        .unwrap();
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let (sender, receiver) = mpsc::channel();
        let child = self.0.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(PATIENCE) else {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("a command did not end");
        };
        Ended::new(output.unwrap())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { status: output.status, out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}{}", self.out, self.err);
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn loadtest(args: &[&str]) -> Ended {
    Started::new(args).end()
}

/// Runs a command with `--json`; how it ended, and the report.
#[track_caller]
pub(crate) fn report(args: &[&str]) -> (Ended, Value) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("report.json");
    let mut all = args.to_vec();
    all.extend(["--json", file.to_str().unwrap()]);
    let ended = loadtest(&all);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("no report: {ended:?}"));
    (ended, serde_json::from_str(&text).unwrap())
}

/// Like [`report`], for figures that only mean something where the generator itself kept up: a run that calls itself
/// void for a busy machine is made again, a few times.
#[track_caller]
pub(crate) fn valid_report(args: &[&str]) -> Value {
    for _ in 0..3 {
        let (ended, report) = report(args);
        if ended.status.code() != Some(3) {
            ended.expect_code(0);
            return report;
        }
    }
    panic!("the machine was too busy for a valid run three times");
}

/// The scripted endpoint, as its own process.
pub(crate) struct Upstream {
    started: Started,
    pub(crate) url: String,
    out: BufReader<std::process::ChildStdout>,
}

impl Upstream {
    pub(crate) fn new(args: &[&str]) -> Self {
        let mut all = vec!["upstream", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let mut started = Started::new(&all);
        let mut out = BufReader::new(started.0.as_mut().unwrap().stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        Self { url: format!("http://{address}/"), started, out }
    }

    pub(crate) fn pid(&self) -> String {
        self.started.0.as_ref().unwrap().id().to_string()
    }

    /// Ends it; how many answers it counted, and how many of them were 500.
    pub(crate) fn counts(mut self) -> (u64, u64) {
        self.started.interrupt();
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        let number = |before: &str| -> u64 {
            let rest = &text[text.find(before).unwrap() + before.len()..];
            rest.split(|character: char| !character.is_ascii_digit()).next().unwrap().parse().unwrap()
        };
        (number("answers "), number("("))
    }
}

/// An endpoint scripted by a test: `answer` gets each request's head and says with what status to answer.
pub(crate) fn endpoint(answer: impl Fn(&str) -> u16 + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || serve(stream, &answer));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answer: &impl Fn(&str) -> u16) {
    stream.set_nodelay(true).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let status = answer(&head);
        if write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// A number of a report, by its path.
#[track_caller]
pub(crate) fn number(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number at {pointer}: {report}"))
}
