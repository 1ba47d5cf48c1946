//! Bodies: what comes in chunks.

use tollgate::http::{body::BodyReader, framing::Framing};

/// How much is it to take a body out of its chunks?
pub(crate) struct Unchunk {
    wire: Vec<u8>,
    bytes: Vec<u8>,
}

impl Unchunk {
    /// 16 KiB in chunks of 1 KiB.
    pub(crate) fn new() -> Self {
        let mut wire = Vec::new();
        for _ in 0..16 {
            wire.extend_from_slice(b"400\r\n");
            wire.extend_from_slice(&[b'x'; 1024]);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        Self { bytes: wire.clone(), wire }
    }

    /// Reads it. Reading moves bytes together where they stand, so they are put back first.
    pub(crate) fn once(&mut self) -> usize {
        self.bytes.copy_from_slice(&self.wire);
        let mut reader = BodyReader::new(Framing::Chunked, u64::MAX);
        let (mut at, mut sum) = (0, 0);
        while !reader.is_done() {
            let piece = reader.piece(&mut self.bytes[at..]).expect("the body is good");
            at += piece.consumed;
            sum += piece.payload;
        }
        sum
    }
}
