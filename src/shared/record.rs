//! The access record: one finished exchange, packed for the way from its shard to the log writer.
//!
//! Filled on the request path, so it is bytes and numbers only; names of routes and endpoints travel as
//! indices, and text is made of it on the other side. Packing and unpacking are inverse to each other.

use std::net::IpAddr;

use super::packed::{self, Packer, Unpacker};

/// Longest text that travels in a record; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 2048;

/// How far a request got, seen from its endpoint. In the order of what can have happened there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Delivery {
    /// No endpoint can have seen any of it. A promise.
    NotSent = 0,
    /// Some of it was handed to the network; the endpoint may have acted on it.
    MaybeSent = 1,
    /// The endpoint answered.
    Answered = 2,
}

/// One exchange. Indices refer to the snapshot of `generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Minor version of HTTP/1 that the client spoke; 1 if it is not known.
    pub minor_version: u8,
    /// When the request began, microseconds since the Unix epoch.
    pub unix_us: u64,
    /// Which snapshot decided it.
    pub generation: u64,
    /// The client's address, after trusted proxies.
    pub client_ip: IpAddr,
    /// W3C trace id.
    pub trace_id: u128,
    /// Index of the route, if one matched.
    pub route: Option<u16>,
    /// Index of the cluster and of the endpoint in it, if one was chosen.
    pub endpoint: Option<(u16, u16)>,
    /// Status sent; 499 when the client was gone first.
    pub status: u16,
    /// Index of the refusal code, if the gateway answered itself.
    pub code: Option<u8>,
    /// How it ended: an index into the table of terminations.
    pub termination: u8,
    /// Attempts made.
    pub attempts: u8,
    /// How far the request got.
    pub delivery: Delivery,
    /// Bytes read from the client for this request.
    pub bytes_in: u64,
    /// Bytes sent to the client for this answer.
    pub bytes_out: u64,
    /// From the first byte of the request to the last of the answer.
    pub duration_us: u64,
    /// From the first byte sent to the endpoint to the last one read from it.
    pub upstream_us: u64,
    /// `X-Request-Id`.
    pub request_id: &'a [u8],
    /// Who called; empty when nobody was authenticated.
    pub consumer: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The path as it was sent, without the query.
    pub path: &'a [u8],
    /// Why, in more detail than the code; empty when there is nothing to add.
    pub reason: &'a [u8],
    /// `Referer` without its query, kept only when the log format shows it.
    pub referer: &'a [u8],
    /// `User-Agent`, kept only when the log format shows it.
    pub user_agent: &'a [u8],
    /// What the log's lists name of it, packed (`listed.rs`); never longer than a text.
    pub listed: &'a [u8],
}

impl<'a> Record<'a> {
    /// Replaces what `packed` holds by this record.
    pub fn pack(&self, packed: &mut Vec<u8>) {
        let mut packer = Packer::new(packed);
        packer.numbers([
            self.unix_us,
            self.generation,
            self.bytes_in,
            self.bytes_out,
            self.duration_us,
            self.upstream_us,
        ]);
        packer.address(self.client_ip);
        packer.trace_id(self.trace_id);
        let (cluster, endpoint) = self.endpoint.unwrap_or((u16::MAX, u16::MAX));
        packer.places([self.route.unwrap_or(u16::MAX), cluster, endpoint, self.status]);
        packer.bytes([
            self.code.unwrap_or(packed::NONE),
            self.attempts,
            self.delivery as u8,
            self.minor_version,
            self.termination,
        ]);
        for text in [
            self.request_id,
            self.consumer,
            self.method,
            self.path,
            self.reason,
            self.referer,
            self.user_agent,
            self.listed,
        ] {
            packer.text(text, TEXT_BYTES_MAX);
        }
    }

    /// The record that was packed into `packed`; `None` if that is not one.
    pub fn unpack(packed: &'a [u8]) -> Option<Self> {
        let mut packed = Unpacker::new(packed);
        let [unix_us, generation, bytes_in, bytes_out, duration_us, upstream_us] = packed.numbers()?;
        let (client_ip, trace_id) = (packed.address()?, packed.trace_id()?);
        let [route, cluster, endpoint, status] = packed.places()?;
        let [code, attempts, delivery, minor_version, termination] = packed.bytes()?;
        let record = Record {
            minor_version,
            unix_us,
            generation,
            client_ip,
            trace_id,
            route: Some(route).filter(|&route| route != u16::MAX),
            endpoint: Some((cluster, endpoint)).filter(|_| cluster != u16::MAX),
            status,
            code: packed::some(code),
            termination,
            attempts,
            delivery: packed::delivery(delivery),
            bytes_in,
            bytes_out,
            duration_us,
            upstream_us,
            request_id: packed.text()?,
            consumer: packed.text()?,
            method: packed.text()?,
            path: packed.text()?,
            reason: packed.text()?,
            referer: packed.text()?,
            user_agent: packed.text()?,
            listed: packed.text()?,
        };
        packed.finish(record)
    }
}
