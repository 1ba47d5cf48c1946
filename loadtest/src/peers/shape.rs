//! What is measured: the shapes of load that every peer meets.

use clap::ValueEnum;

/// Idle keep-alive connections of [`Shape::Idle`].
pub(crate) const IDLE_CONNECTIONS: usize = 5_000;
const SMALL_BYTES: usize = 512;
const LARGE_BYTES: usize = 100 * 1024;
const UPLOAD_BYTES: usize = 64 * 1024;

/// One shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Answers of 512 bytes, 8 connections.
    C8,
    /// Answers of 512 bytes, 64 connections.
    C64,
    /// Answers of 512 bytes, 256 connections.
    C256,
    /// Answers of 100 KiB, 64 connections.
    Large,
    /// Uploads of 64 KiB, 64 connections.
    Upload,
    /// A new connection for each request, 64 at a time.
    Close,
    /// 5,000 idle keep-alive connections: memory only.
    Idle,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::C8 => "c8",
            Self::C64 => "c64",
            Self::C256 => "c256",
            Self::Large => "large",
            Self::Upload => "upload",
            Self::Close => "close",
            Self::Idle => "idle",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::C8 => "512 B answers, 8 connections",
            Self::C64 => "512 B answers, 64 connections",
            Self::C256 => "512 B answers, 256 connections",
            Self::Large => "100 KiB answers, 64 connections",
            Self::Upload => "64 KiB uploads, 64 connections",
            Self::Close => "Connection: close, 64 at a time",
            Self::Idle => "5,000 idle keep-alive connections",
        }
    }

    /// Connections that carry load.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::C8 | Self::Idle => 8,
            Self::C256 => 256,
            Self::C64 | Self::Large | Self::Upload | Self::Close => 64,
        }
    }

    /// Bytes of each answer's body.
    pub(crate) fn answer_bytes(self) -> usize {
        if self == Self::Large { LARGE_BYTES } else { SMALL_BYTES }
    }

    /// Bytes of each request's body, if it has one.
    pub(crate) fn request_bytes(self) -> Option<usize> {
        (self == Self::Upload).then_some(UPLOAD_BYTES)
    }
}
