//! The gateway from outside: the real binary, real sockets, a scripted endpoint, a raw client.
//!
//! Each file is one chapter of what users are promised. The rig in `rig/` shares no code with the gateway,
//! so it cannot share its mistakes. Nothing here sleeps: whoever waits, waits for a condition, with a
//! deadline that only a hang can reach.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test failing")]

mod rig;

mod access;
mod activation;
mod admin_access;
mod alerts;
mod algorithms;
mod audit;
mod auth;
mod balance;
mod bodies;
mod circuit;
mod cluster_queue;
mod commands;
mod config;
mod corpus;
mod corpus_peers;
mod dashboard;
mod delivery;
mod discovery;
mod drain;
mod explain;
mod faults;
mod framing;
mod heads;
mod health;
mod hedging;
mod isolation;
mod issuer;
mod life;
mod limits;
mod live_orders;
mod load_reports;
mod machine;
mod mishaps;
mod observe;
mod offsets;
mod openapi;
mod overload;
mod paths;
mod pinning;
mod policies;
mod pools;
mod proxied;
mod quotas;
mod releases;
mod reload;
mod retries;
mod revocation;
mod sandbox;
mod slow;
mod steering;
mod terminations;
mod tokens;
mod tuning;
mod upgrade;
mod versions;
