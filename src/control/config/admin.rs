//! `listen.admin` and what belongs to it: where the admin API is and who may ask it, checked.
//!
//! Whoever asks decides what the gateway does, so an address that others can reach needs a token.

use std::{net::SocketAddr, path::Path};

use super::{
    super::admin::{address::AdminAddress, bearer::BearerToken},
    issue::Issues,
    keys::{read as read_file, without_newline},
    reader::{Field, Section},
    values::{defaulted, one_of},
};

/// The keys as they were written.
pub(super) struct Admin {
    address: Field<String>,
    mode: Field<String>,
    token_file: Option<Field<String>>,
}

/// Where the admin API is and who may ask it.
#[derive(Clone, Debug)]
pub struct AdminPlan {
    /// The address.
    pub address: AdminAddress,
    /// The permissions of a unix socket.
    pub mode: u32,
    /// What clients must know, if anything.
    pub token: Option<BearerToken>,
}

/// Reads the keys in `listen`.
pub(super) fn read(listen: &mut Section<'_, '_>) -> Admin {
    Admin {
        address: defaulted(listen, "admin"),
        mode: defaulted(listen, "admin_mode"),
        token_file: listen.text("admin_token_file"),
    }
}

impl Admin {
    /// The IP address and port, if it is one, and where it stands.
    pub(super) fn tcp(&self) -> Option<Field<SocketAddr>> {
        let address = self.address.value.parse().ok()?;
        Some(self.address.map(|_| address))
    }
}

/// Checks them; `None` if a mistake left a hole.
pub(super) fn plan(admin: &Admin, directory: &Path, issues: &Issues) -> Option<AdminPlan> {
    let address = admin.address.value.parse::<AdminAddress>().map(|address| address.within(directory));
    let address = address.map_err(|mistake| admin.address.wrong(issues, mistake)).ok();
    if let Some(flaw) = address.as_ref().and_then(AdminAddress::flaw) {
        admin.address.wrong(issues, flaw);
    }
    let mode = one_of(&admin.mode, &[("0600", 0o600), ("0660", 0o660)], issues);
    let token = admin.token_file.as_ref().map(|field| {
        let token = read_file(&directory.join(&field.value))
            .and_then(|bytes| BearerToken::new(without_newline(&bytes)));
        token.map_err(|mistake| field.wrong(issues, mistake)).ok()
    });
    if token.is_none() && address.as_ref().is_some_and(|address| !address.is_local()) {
        admin.address.wrong(
            issues,
            "others can reach this address: set listen.admin_token_file, or use a loopback address such as \
             127.0.0.1:9901 or a socket such as unix:admin.sock",
        );
    }
    let token = match token {
        Some(None) => return None,
        token => token.flatten(),
    };
    Some(AdminPlan { address: address?, mode: mode?, token })
}
