//! A started program as a guard: whatever happens, it is stopped.
//!
//! On drop it is asked to end, then killed together with its descendants, by their pids. Should this process die
//! without dropping (a panic that aborts, SIGKILL), the kernel ends it: see `launch`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{exit::SetUp, process::Processes};

/// How long a program may take to end by itself.
const END: Duration = Duration::from_secs(5);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Of its own output, the last so many bytes are shown.
const OUTPUT_BYTES_MAX: u64 = 2_000;

/// A running program.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    errors: PathBuf,
}

impl Child {
    /// Starts a program on a CPU, its standard output appended to one file and its standard error to another.
    ///
    /// # Errors
    /// When a file cannot be opened or no process can be made. A program that cannot be started ends at once, with
    /// the reason in `errors`.
    pub(crate) fn start(
        program: &Path,
        args: Vec<OsString>,
        cpu: usize,
        output: &Path,
        errors: &Path,
    ) -> Result<Self, SetUp> {
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| SetUp::new(format!("cannot write {}: {error}", path.display())))
        };
        let process = Command::new(own_binary()?)
            .args(["launch", "--cpu", &cpu.to_string(), "--parent", &process::id().to_string(), "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(open(output)?)
            .stderr(open(errors)?)
            // Ctrl-C is for this process, which then stops its children in its own order.
            .process_group(0)
            .spawn()
            .map_err(|error| SetUp::new(format!("cannot start {}: {error}", program.display())))?;
        Ok(Self { process, errors: errors.to_owned() })
    }

    /// The program with its descendants; `None` when it has ended.
    pub(crate) fn processes(&self) -> Option<Processes> {
        Processes::new(&[self.process.id()]).ok().flatten()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// The last of what it wrote to its standard error.
    pub(crate) fn last_words(&self) -> String {
        let text = tail(&self.errors).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() { "it wrote nothing".into() } else { text.into() }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, which: Signal) {
        signal(self.process.id(), which);
    }

    /// Asks it to end and waits; kills it when it does not.
    pub(crate) fn stop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        signal(self.process.id(), Signal::TERM);
        if until(END, || self.ended()).is_some() {
            return;
        }
        // As long as it is not reaped its pid is its own, and so are its descendants'.
        for pid in self.processes().map(|processes| processes.members()).unwrap_or_default() {
            signal(pid, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Looks again and again for what other programs do not announce; `None` when the time is over.
pub(crate) fn until<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "a deadline bounds it, and no shard runs here")]
        thread::sleep(LOOK);
    }
}

/// The path of this program, for its own commands.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn own_binary() -> Result<PathBuf, SetUp> {
    std::env::current_exe()
        .map_err(|error| SetUp::new(format!("cannot find this program's own file: {error}")))
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // One that has ended needs none.
        let _ = kill_process(pid, signal);
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
