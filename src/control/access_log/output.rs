//! Where lines go: a file that is rotated, standard output, or the system's log daemon.
//!
//! Takes whole lines and says how far it got; a file is exchanged between two batches only, by renaming it, so
//! that no line is lost or torn. Never decides what a lost line means.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::super::config::plan::{LogSink, Rotation};

/// An open sink.
pub(super) struct Output {
    sink: LogSink,
    rotation: Rotation,
    target: Target,
    /// The last write stopped within a line.
    torn: bool,
    /// A file that could not be rotated is not tried again before this.
    not_before: Option<Instant>,
}

enum Target {
    File(OpenFile),
    /// Standard output, or what stands at the path is no plain file.
    Stream(File),
    Syslog(Syslog),
    /// What is written is gone.
    Nowhere,
}

/// A plain file, and what its rotation needs to know.
struct OpenFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    since: Instant,
}

/// A write that did not get everything out.
pub(super) struct Stuck {
    /// Bytes that did.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

/// After a rotation that failed.
const ROTATION_PAUSE: Duration = Duration::from_secs(10);

impl Output {
    pub(super) fn open(sink: &LogSink, rotation: Rotation) -> io::Result<Self> {
        let target = match sink {
            LogSink::File(path) => open_file(path)?,
            LogSink::Off => Target::Nowhere,
            LogSink::Stdout => Target::Stream(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            LogSink::Syslog(path) => Target::Syslog(Syslog::open(path)?),
        };
        Ok(Self { sink: sink.clone(), rotation, target, torn: false, not_before: None })
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.sink, self.rotation)?;
        Ok(())
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Stuck> {
        self.rotate_when_due(lines.len() as u64);
        self.follow().map_err(|error| Stuck { written: 0, error })?;
        if let Target::Syslog(syslog) = &mut self.target {
            return syslog.send(lines);
        }
        if self.torn {
            self.put(b"\n").map_err(|stuck| Stuck { written: 0, ..stuck })?;
            self.torn = false;
        }
        let result = self.put(lines);
        if let Err(Stuck { written: written @ 1.., .. }) = result {
            self.torn = lines[written - 1] != b'\n';
        }
        result
    }

    /// A file that was deleted takes lines that nobody can read: begin another at its path, or say why not.
    fn follow(&mut self) -> io::Result<()> {
        if let Target::File(open) = &self.target
            && open.file.metadata()?.nlink() == 0
        {
            self.reopen()?;
            tracing::warn!("the access log's file had been deleted; there is a new one");
        }
        Ok(())
    }

    fn rotate_when_due(&mut self, more: u64) {
        let Target::File(open) = &self.target else { return };
        let full = self.rotation.bytes.is_some_and(|bytes| open.bytes > 0 && open.bytes + more > bytes);
        let old = self.rotation.age.is_some_and(|age| open.bytes > 0 && open.since.elapsed() >= age);
        let waits = self.not_before.is_some_and(|time| Instant::now() < time);
        if !(full || old) || waits || self.torn {
            return;
        }
        let (path, name) = (open.path.clone(), aside(&open.path));
        // The old file is renamed and stays open until the new one is: if that fails, it goes on under its own name.
        let rotated = fs::rename(&path, &name).and_then(|()| {
            self.reopen().inspect_err(|_| {
                let _ = fs::rename(&name, &path);
            })
        });
        if let Err(error) = rotated {
            tracing::warn!("the access log cannot be rotated, the old file stays in use: {error}");
            self.not_before = Some(Instant::now() + ROTATION_PAUSE);
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Stuck> {
        let file = match &mut self.target {
            Target::File(open) => &mut open.file,
            Target::Stream(file) => file,
            Target::Syslog(_) | Target::Nowhere => return Ok(()),
        };
        let (mut written, mut end) = (0, Ok(()));
        while written < bytes.len() {
            match file.write(&bytes[written..]) {
                Ok(0) => end = Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => end = Err(error),
            }
            if end.is_err() {
                break;
            }
        }
        if let Target::File(open) = &mut self.target {
            open.bytes += written as u64;
        }
        end.map_err(|error| Stuck { written, error })
    }
}

fn open_file(path: &Path) -> io::Result<Target> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Target::Stream(file));
    }
    Ok(Target::File(OpenFile { file, path: path.to_owned(), bytes: metadata.len(), since: Instant::now() }))
}

/// The name a full file gets: its own and the time, and a number if that is taken.
pub(in crate::control) fn aside(path: &Path) -> PathBuf {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ").to_string();
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{time}"));
        if number > 0 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    (0..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0))
}

/// The system's log daemon at a unix datagram socket: each line is the text of an RFC 5424 message.
struct Syslog {
    path: PathBuf,
    socket: UnixDatagram,
    /// What stands between the time and the line: host, program, process, message id, no structured data.
    origin: String,
}

/// Facility local0, severity informational (RFC 5424 section 6.2.1).
const PRIORITY: &str = "<134>1";

impl Syslog {
    fn open(path: &Path) -> io::Result<Self> {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-" } else { &host };
        let origin = format!("{host} tollgate {} access -", std::process::id());
        Ok(Self { path: path.to_owned(), socket: connect(path)?, origin })
    }

    /// Sends each line; a daemon that was started anew is found again.
    fn send(&mut self, lines: &[u8]) -> Result<(), Stuck> {
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let mut written = 0;
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let mut message = format!("{PRIORITY} {time} {} ", self.origin).into_bytes();
            message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            let sent = self.socket.send(&message).or_else(|_| {
                self.socket = connect(&self.path)?;
                self.socket.send(&message)
            });
            sent.map_err(|error| Stuck { written, error })?;
            written += line.len();
        }
        Ok(())
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}
