//! One probe: a connection, or a request and its status. Blocks; see `probes.rs` for who waits.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::stage::balance::{Probe, Question};

/// Asks the endpoint at `address`, which is called `name`.
///
/// # Errors
/// What was wrong, in words; what was right otherwise.
pub fn ask(probe: &Probe, address: SocketAddr, name: &str) -> Result<String, String> {
    let timeout = Duration::from_millis(probe.timeout_ms);
    match &probe.question {
        Question::Tcp => TcpStream::connect_timeout(&address, timeout)
            .map(|_| "connected".to_owned())
            .map_err(|error| error.to_string()),
        Question::Http { path, host, expect } => {
            let config = ureq::Agent::config_builder()
                .timeout_global(Some(timeout))
                .max_redirects(0)
                .http_status_as_error(false)
                .proxy(None)
                .user_agent("tollgate-probe")
                .build();
            let agent: ureq::Agent = config.into();
            let asked = agent
                .get(format!("http://{address}{path}"))
                .header("Host", host.as_deref().unwrap_or(name))
                .header("Connection", "close")
                .call();
            let status = asked.map_err(|error| error.to_string())?.status().as_u16();
            if expect.contains(&status) { Ok(status.to_string()) } else { Err(format!("status {status}")) }
        }
    }
}
