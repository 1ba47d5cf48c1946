//! A sample of an exchange: its record, and how long each of the nine steps took.
//!
//! Goes from a shard to the control thread through a ring of its own (`log_ring.rs`), a few a second; a full ring
//! drops it. Packing and unpacking are inverse to each other.

use super::record::Record;

/// The steps of an exchange, in their order.
pub const STEPS: [&str; 9] =
    ["accept", "parse", "route", "authenticate", "limit", "balance", "forward", "respond", "log"];

/// One exchange that was looked at closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// How long each of [`STEPS`] took, in microseconds; only if the exchange was chosen to be timed.
    pub steps_us: Option<[u64; STEPS.len()]>,
    /// The gateway's own span (W3C Trace Context), under which the endpoint was asked.
    pub span: u64,
    /// The span of whoever called; zero if none was named.
    pub parent: u64,
    /// What the log knows of it.
    pub record: Record<'a>,
}

/// Bytes behind the record: whether it is timed, the steps, two spans.
const TAIL_BYTES: usize = 1 + 8 * STEPS.len() + 16;

impl<'a> Sample<'a> {
    /// Replaces what `packed` holds by this sample.
    pub fn pack(&self, packed: &mut Vec<u8>) {
        self.record.pack(packed);
        packed.push(u8::from(self.steps_us.is_some()));
        for step_us in self.steps_us.unwrap_or_default() {
            packed.extend_from_slice(&step_us.to_le_bytes());
        }
        packed.extend_from_slice(&self.span.to_le_bytes());
        packed.extend_from_slice(&self.parent.to_le_bytes());
    }

    /// The sample that was packed into `packed`; `None` if that is not one.
    pub fn unpack(packed: &'a [u8]) -> Option<Self> {
        let (record, tail) = packed.split_at_checked(packed.len().checked_sub(TAIL_BYTES)?)?;
        let (&timed, tail) = tail.split_first()?;
        let mut words =
            tail.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let steps_us: [u64; STEPS.len()] = std::array::from_fn(|_| words.next().unwrap_or_default());
        Some(Self {
            steps_us: (timed == 1).then_some(steps_us),
            span: words.next()?,
            parent: words.next()?,
            record: Record::unpack(record)?,
        })
    }
}
