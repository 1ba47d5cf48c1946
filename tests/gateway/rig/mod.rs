//! What the chapters stand on: a gateway process, scripted endpoints, raw clients, tokens.

mod client;
mod endpoint;
mod exposition;
mod gateway;
mod name_server;
mod token;
mod wait;

pub(crate) use client::{Answer, Client};
pub(crate) use endpoint::{ALL_STAY, Deaf, Endpoint, Seen, Talk};
pub(crate) use exposition::Exposition;
pub(crate) use gateway::{Directory, Gateway, Setup, tollgate, tollgate_with};
pub(crate) use name_server::{NameServer, Says};
pub(crate) use token::{Algorithm, SECRET, bearer, mint, now_s, sign, valid_token};
pub(crate) use wait::{Gate, until};
