//! Checkpoints on their way to where the log is not: standard output, another file, an address.
//!
//! A thread of its own, because each of these may take its time; the writer never waits for it. A checkpoint goes
//! there once the log has it. What does not arrive is counted and said once; the next one says all it said.

use std::{
    convert::Infallible,
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use super::AuditCounts;

/// Checkpoints that wait to be sent; beyond that they are counted as not arrived.
const WAITING_MAX: usize = 64;
/// How long an address may take.
const POST_TIMEOUT: Duration = Duration::from_secs(5);
/// At the end, how long the last ones may take.
const LAST: Duration = Duration::from_secs(1);

/// Where checkpoints go besides the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// An address they are posted to.
    Url(String),
}

impl fmt::Display for Anchor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => formatter.write_str("standard output"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Url(url) => formatter.write_str(url),
        }
    }
}

impl Anchor {
    /// Takes a checkpoint there.
    fn take(&self, line: &[u8]) -> Result<(), String> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line).and_then(|()| out.flush()).map_err(|error| error.to_string())
            }
            Self::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(line).and_then(|()| file.sync_data()))
                .map_err(|error| error.to_string()),
            Self::Url(url) => {
                let agent: ureq::Agent =
                    ureq::Agent::config_builder().timeout_global(Some(POST_TIMEOUT)).build().into();
                let posted = agent.post(url).content_type("application/json").send(line);
                posted.map(|_| ()).map_err(|error| error.to_string())
            }
        }
    }
}

/// The way there.
pub(super) struct Anchors {
    /// Those that the log does not have yet.
    kept: Vec<Vec<u8>>,
    way: Option<Way>,
    counts: Arc<AuditCounts>,
}

struct Way {
    waiting: SyncSender<Vec<u8>>,
    /// Disconnected once the thread has ended.
    ended: Receiver<Infallible>,
}

impl Anchors {
    /// Starts the thread, if there is anything for it to do.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(anchors: Vec<Anchor>, counts: Arc<AuditCounts>) -> io::Result<Self> {
        if anchors.is_empty() {
            return Ok(Self { kept: Vec::new(), way: None, counts });
        }
        let (waiting, received) = mpsc::sync_channel::<Vec<u8>>(WAITING_MAX);
        let (running, ended) = mpsc::channel();
        let noted = Arc::clone(&counts);
        thread::Builder::new().name("anchor".to_owned()).spawn(move || {
            let mut failing = vec![false; anchors.len()];
            for line in received {
                for (anchor, was_failing) in anchors.iter().zip(&mut failing) {
                    let taken = anchor.take(&line);
                    noted.note_anchored(taken.is_ok());
                    let is_failing = taken.is_err();
                    match taken {
                        Err(error) if !*was_failing => {
                            tracing::warn!("checkpoints of the audit log do not get to {anchor}: {error}");
                        }
                        Ok(()) if *was_failing => {
                            tracing::info!("checkpoints of the audit log get to {anchor} again");
                        }
                        _ => {}
                    }
                    *was_failing = is_failing;
                }
            }
            drop(running);
        })?;
        Ok(Self { kept: Vec::new(), way: Some(Way { waiting, ended }), counts })
    }

    /// Keeps a checkpoint until the log has it.
    pub(super) fn keep(&mut self, line: &[u8]) {
        self.kept.push(line.to_vec());
    }

    /// The last one that was kept is void.
    pub(super) fn forget_last(&mut self) {
        self.kept.pop();
    }

    /// The log has what was kept: it goes on its way. Whether there was anything.
    pub(super) fn release(&mut self) -> bool {
        let any = !self.kept.is_empty();
        for line in self.kept.drain(..) {
            if let Some(way) = &self.way
                && way.waiting.try_send(line).is_err()
            {
                self.counts.note_anchored(false);
            }
        }
        any
    }

    /// Gives the last ones a moment to arrive.
    pub(super) fn finish(self) {
        if let Some(Way { waiting, ended }) = self.way {
            drop(waiting);
            // It is told to nobody if they do not: the process ends.
            let _ = ended.recv_timeout(LAST);
        }
    }
}
