//! The command line's side of the admin API: one request, one answer, for a person.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

/// Longer than any reload takes: names may have to be looked up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Errand {
    /// How it goes.
    Status,
    /// To put the configuration file as it now stands in force.
    Reload,
    /// To finish what is in flight and end.
    Drain,
}

/// Why there is no good answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody could be asked.
    Unreachable(String),
    /// The gateway refused, with what it said.
    Refused(Value),
}

/// Asks the gateway whose admin API is at `admin`.
///
/// # Errors
/// [`NoAnswer`].
pub fn ask(admin: SocketAddr, errand: Errand) -> Result<Value, NoAnswer> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let asked = match errand {
        Errand::Status => agent.get(format!("http://{admin}/status")).call(),
        Errand::Reload => agent.post(format!("http://{admin}/reload")).send_empty(),
        Errand::Drain => agent.post(format!("http://{admin}/drain")).send_empty(),
    };
    let unreachable = |error: ureq::Error| {
        NoAnswer::Unreachable(format!(
            "no gateway answers at {admin}: {error}; is it running, and is this its listen.admin (see --admin)?"
        ))
    };
    let mut answer = asked.map_err(unreachable)?;
    let succeeded = answer.status().is_success();
    let text = answer.body_mut().read_to_string().map_err(unreachable)?;
    let value = serde_json::from_str(&text).map_err(|_| {
        NoAnswer::Unreachable(format!(
            "what answers at {admin} is no gateway of this kind; it said: {text:.200}"
        ))
    })?;
    if succeeded { Ok(value) } else { Err(NoAnswer::Refused(value)) }
}
