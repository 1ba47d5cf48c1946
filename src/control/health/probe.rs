//! One probe: a connection, or a request and its status. Blocks; see `probes.rs` for who waits.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use ureq::Body;

use crate::stage::balance::{self, AgentSaid, LoadReport, Probe, Question};

/// What was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// In words.
    pub words: String,
    /// The share of its weight that the endpoint wants, in percent, if it was asked and said so.
    pub percent: Option<u32>,
}

/// Of what an agent says, so much is read.
const AGENT_BYTES_MAX: u64 = 256;

/// Asks the endpoint at `address`, which is called `name`.
///
/// # Errors
/// What was wrong, in words.
pub fn ask(probe: &Probe, report: LoadReport, address: SocketAddr, name: &str) -> Result<Said, String> {
    let timeout = Duration::from_millis(probe.timeout_ms);
    match &probe.question {
        Question::Tcp => TcpStream::connect_timeout(&address, timeout)
            .map(|_| Said { words: "connected".to_owned(), percent: None })
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
            let mut answer = asked.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            if !expect.contains(&status) {
                return Err(format!("status {status}"));
            }
            let said = match report {
                LoadReport::Agent => balance::agent(&beginning(answer.body_mut())?),
                LoadReport::None | LoadReport::Orca => AgentSaid::default(),
            };
            if said.is_down {
                return Err("it says that it is down".to_owned());
            }
            Ok(Said { words: status.to_string(), percent: said.percent })
        }
    }
}

/// The first bytes of `body`, as text as far as they are.
fn beginning(body: &mut Body) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = body.as_reader().take(AGENT_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
