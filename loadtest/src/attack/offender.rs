//! One offending connection: what it sends, when, and whether it ever reads.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// How offenders behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A byte of a request head now and then (slowloris).
    SlowHeads,
    /// A whole head that announces a body, then a byte of it now and then.
    SlowBodies,
    /// A request, whose answer is never read; best for a path with a large one.
    NeverReads,
    /// Connections that say nothing, opened anew as soon as they are closed.
    Flood,
    /// Requests without end on each connection, never waiting for an answer.
    Pipeline,
    /// A request, and gone before the answer; every other one in the middle of its body, by a reset.
    OpenAndLeave,
}

/// What an offender does when its connection is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Sent at once.
    pub(crate) opening: Vec<u8>,
    /// Sent after that, again and again.
    pub(crate) more: More,
    pub(crate) reads: Reads,
    /// Goes away by a reset as soon as the opening is sent.
    pub(crate) leaves: bool,
}

/// What follows the opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Nothing,
    /// One byte, each time this has passed.
    Byte(u8, Duration),
    /// This, as often as there is room for.
    Flow(Vec<u8>),
}

/// Whether an offender takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Always,
    Never,
}

/// Bytes that a slow body announces.
const BODY_BYTES: u64 = 1_000_000;
/// Requests that a pipelining offender sends at a time.
const PIPELINED: usize = 64;

impl Kind {
    /// Its name as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SlowHeads => "slow-heads",
            Self::SlowBodies => "slow-bodies",
            Self::NeverReads => "never-reads",
            Self::Flood => "flood",
            Self::Pipeline => "pipeline",
            Self::OpenAndLeave => "open-and-leave",
        }
    }

    /// What the offender numbered `number` does. `head` is `Host: …` and all its fields, each with its line end.
    pub(crate) fn script(self, number: usize, path: &str, head: &str, every: Duration) -> Script {
        let get = format!("GET {path} HTTP/1.1\r\n{head}\r\n").into_bytes();
        let post = |bytes: u64| {
            format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {bytes}\r\n\r\n").into_bytes()
        };
        let script = |opening, more, reads| Script { opening, more, reads, leaves: false };
        match self {
            Self::SlowHeads => {
                let opening = format!("GET {path} HTTP/1.1\r\n{head}X-Slow: ").into_bytes();
                script(opening, More::Byte(b'a', every), Reads::Always)
            }
            Self::SlowBodies => script(post(BODY_BYTES), More::Byte(b'a', every), Reads::Always),
            Self::NeverReads => script(get, More::Nothing, Reads::Never),
            Self::Flood => script(Vec::new(), More::Nothing, Reads::Always),
            Self::Pipeline => script(Vec::new(), More::Flow(get.repeat(PIPELINED)), Reads::Always),
            Self::OpenAndLeave if number.is_multiple_of(2) => {
                Script { leaves: true, ..script(get, More::Nothing, Reads::Always) }
            }
            Self::OpenAndLeave => {
                let opening = [post(1_000), vec![b'a'; 500]].concat();
                Script { leaves: true, ..script(opening, More::Nothing, Reads::Always) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_stay_open_and_bodies_announce_more_than_comes() {
        let script = |kind: Kind| kind.script(0, "/p", "Host: h\r\n", Duration::from_secs(1));
        let text = |kind: Kind| String::from_utf8(script(kind).opening).expect("ASCII");
        assert_eq!(text(Kind::SlowHeads), "GET /p HTTP/1.1\r\nHost: h\r\nX-Slow: ");
        assert_eq!(text(Kind::SlowBodies), "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
        assert_eq!(script(Kind::NeverReads).reads, Reads::Never);
        assert!(text(Kind::Flood).is_empty() && script(Kind::OpenAndLeave).leaves);
        let More::Flow(flow) = script(Kind::Pipeline).more else { panic!("a pipeline has no end") };
        assert_eq!(flow.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count(), PIPELINED);
    }
}
