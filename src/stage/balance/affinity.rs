//! Whom a request is for, as one number: what `hash_by` names.
//!
//! Hashed without a secret, so that every gateway, and this one after a restart, sends the same to the same endpoint.
//! Who invents keys that all meet at one endpoint gains nothing: its load is bounded.

use std::fmt;

use siphasher::sip128::SipHasher13;

use super::{
    super::{Request, auth::Verified, client::client_network},
    Balance, Cluster,
};

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// Who calls.
    Consumer,
    /// The client's address; of IPv6 its network.
    Ip,
    /// The value of this field.
    Header(Box<str>),
}

impl fmt::Display for HashBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer => formatter.write_str("consumer"),
            Self::Ip => formatter.write_str("ip"),
            Self::Header(name) => write!(formatter, "header:{name}"),
        }
    }
}

/// What `cluster` hashes of `request`; `None` if it does not, or if the request has no such thing.
pub fn affinity(cluster: &Cluster, request: &Request<'_>, caller: Option<&Verified>) -> Option<u64> {
    let Balance::Hash(by) = &cluster.balance else { return None };
    let hash = |bytes: &[u8]| SipHasher13::new().hash(bytes).h1;
    match by {
        HashBy::Consumer => caller.map(|caller| hash(caller.consumer.as_bytes())),
        HashBy::Ip => Some(hash(&client_network(request.client_ip))),
        HashBy::Header(name) => {
            request.head.fields.named(name).next().filter(|value| !value.is_empty()).map(hash)
        }
    }
}
