//! What both sides of a connection need: the ring and the sockets.

pub(crate) mod ring;
pub(crate) mod socket;
