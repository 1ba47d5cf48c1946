//! The options that every load-driving command shares, and the [`Plan`] they make.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cpus::{self, CpuList},
    exit::SetUp,
    generator::{Pace, Plan, schedule::Arrivals},
    process::Processes,
    share::Share,
    target::Target,
    workload::{
        Clients, Expected, Pick, Route, Workload,
        mix::{self, is_token},
        template::Template,
        token::{Algorithm, Claims, Tokens},
    },
};

/// Descriptors besides those of connections.
const OTHER_DESCRIPTORS: u64 = 64;
/// Requests in flight or waiting, unless `--max-in-flight` says otherwise: 8 bytes each.
const IN_FLIGHT_MAX: usize = 65_536;
/// Threads of one run.
const THREADS_MAX: usize = 1024;
/// Requests per second of one thread: what is asked for beyond what can be sent is still counted one by one.
const RATE_MAX: f64 = 1e7;
/// Connections of one run: more than the ports of one address, and a bound on what is kept for them.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Bytes of a body made by `--body BYTES`.
const BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// How load is driven and what it consists of.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Connections that carry the load.
    #[arg(short = 'c', long, default_value_t = 64, value_name = "N")]
    connections: usize,
    /// Further keep-alive connections: each sends one request and is then held open.
    #[arg(long, default_value_t = 0, value_name = "N")]
    idle: usize,
    /// Threads; by default one for each CPU of --cpus, or for each usable CPU.
    #[arg(short = 't', long, value_name = "N")]
    threads: Option<usize>,
    /// CPUs to pin the threads to, as 0-3,8.
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuList>,
    /// Load before anything is measured.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "D")]
    warmup: Duration,
    /// From a request's sending to its complete answer.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "D")]
    timeout: Duration,
    /// How intended starts follow each other.
    #[arg(long, value_enum, default_value = "fixed")]
    arrivals: Arrivals,
    /// Requests sent or waiting for a connection; beyond it the longest-waiting one is counted as missed.
    #[arg(long, value_name = "N")]
    max_in_flight: Option<usize>,
    /// Wake up this long before an intended start and spin: less lag (a sleep ends 20 to 60 µs late on many machines)
    /// for more CPU time, which the target must not share.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration, value_name = "D")]
    spin: Duration,
    /// Seed of everything that is chosen.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// A process of the target: its CPU time and memory, with its descendants', are reported. Repeatable.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// The lag (99th percentile) up to which a result is always valid.
    #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration, value_name = "D")]
    pub(crate) max_lag: Duration,

    /// By default GET, or POST with a body.
    #[arg(short = 'X', long, value_name = "METHOD", conflicts_with = "mix")]
    method: Option<String>,
    /// A file to send, or a number of bytes such as 65536 or 64KiB.
    #[arg(long, value_name = "FILE|BYTES", conflicts_with = "mix")]
    body: Option<String>,
    /// A field of each request, as "Name: value"; values may hold {{uuid}}, {{client}}, {{seq}}, {{random:1-100}}. Repeatable.
    #[arg(short = 'H', long, value_name = "K:V")]
    header: Vec<String>,
    /// A new connection for each request.
    #[arg(long, conflicts_with = "idle")]
    close: bool,
    /// The statuses that are right; others fail the run. By default 2xx and 3xx are, and others are only counted.
    #[arg(long, value_name = "STATUS", value_delimiter = ',', conflicts_with = "mix")]
    expect: Vec<u16>,
    /// A TOML file of weighted routes with methods, bodies, fields and expected statuses.
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    /// The share of answers that may have an unexpected status before the run fails.
    #[arg(long, value_name = "RATE")]
    allow_errors: Option<Share>,

    /// Clients, each with its own name (client-0, client-1, …) and token.
    #[arg(long, default_value_t = 1, value_name = "N")]
    clients: u32,
    /// Choose clients with Zipf's exponent S instead of in rotation.
    #[arg(long, value_name = "S")]
    zipf: Option<f64>,
    /// The secret of the clients' tokens; one trailing newline is not part of it.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How tokens are signed.
    #[arg(long, value_enum, default_value = "HS256", requires = "secret_file")]
    alg: Algorithm,
    /// The `kid` of the tokens' header.
    #[arg(long, requires = "secret_file")]
    kid: Option<String>,
    /// The tokens' life; they are minted again after half of it.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration, value_name = "D")]
    ttl: Duration,
    /// The tokens' `scope`.
    #[arg(long, requires = "secret_file")]
    scope: Option<String>,
    /// The tokens' `iss`.
    #[arg(long, requires = "secret_file")]
    issuer: Option<String>,
    /// The tokens' `aud`.
    #[arg(long, requires = "secret_file")]
    audience: Option<String>,
    /// The share of requests whose token has a broken signature; each must be answered 401.
    #[arg(long, value_name = "RATE", requires = "secret_file")]
    bad_token: Option<Share>,
}

impl LoadArgs {
    /// How many clients there are.
    pub(crate) fn clients(&self) -> u32 {
        self.clients
    }

    /// The plan of a run against `target`.
    ///
    /// # Errors
    /// When options contradict each other, or something they name cannot be read.
    pub(crate) fn plan(&self, target: Target, rate: Option<f64>, duration: Duration) -> Result<Plan, SetUp> {
        if self.connections == 0 || self.connections + self.idle > CONNECTIONS_MAX {
            return Err(SetUp::new(format!("--connections and --idle want 1 to {CONNECTIONS_MAX} together")));
        }
        if duration.is_zero() || self.timeout.is_zero() {
            return Err(SetUp::new("--duration and --timeout must be more than nothing"));
        }
        let threads =
            self.threads.unwrap_or_else(|| self.cpus.as_ref().map_or_else(cpus::usable, CpuList::len));
        if threads == 0 || threads > THREADS_MAX {
            return Err(SetUp::new(format!("--threads wants 1 to {THREADS_MAX}")));
        }
        if let Some(rate) = rate
            && !(rate > 0.0 && rate <= RATE_MAX * threads as f64)
        {
            return Err(SetUp::new(format!(
                "{rate} requests per second cannot be sent by {threads} threads: want more than 0 and at most {RATE_MAX} \
                 for each thread"
            )));
        }
        let in_flight_max = self.max_in_flight.unwrap_or_else(|| IN_FLIGHT_MAX.max(self.connections));
        if in_flight_max < self.connections {
            return Err(SetUp::new("--max-in-flight must be at least --connections"));
        }
        allow_descriptors((self.connections + self.idle) as u64 + OTHER_DESCRIPTORS)?;
        Ok(Plan {
            workload: Arc::new(self.workload(&target)?),
            target,
            pace: rate.map_or(Pace::Closed, |rate| Pace::Open { rate, arrivals: self.arrivals }),
            pauses: None,
            connections: self.connections,
            idle: self.idle,
            threads: threads.min(self.connections),
            cpus: self.cpus.clone(),
            warmup: self.warmup,
            duration,
            timeout: self.timeout,
            in_flight_max,
            spin: self.spin,
            seed: self.seed,
            processes: Processes::new(&self.pid)?,
            records_max: 0,
        })
    }

    fn workload(&self, target: &Target) -> Result<Workload, SetUp> {
        if self.clients == 0 {
            return Err(SetUp::new("--clients must be at least 1"));
        }
        if self.zipf.is_some_and(|exponent| !(exponent.is_finite() && exponent >= 0.0)) {
            return Err(SetUp::new("--zipf wants an exponent of 0 or more"));
        }
        let tokens = match &self.secret_file {
            Some(file) => Some(Arc::new(Tokens::mint(file, self.claims(), self.clients)?)),
            None => None,
        };
        let (authority, fields) = self.fields(target)?;
        let mut routes = match &self.mix {
            Some(file) => mix::read(file)?,
            None => vec![self.route(target)?],
        };
        for route in &mut routes {
            route.fields.extend(fields.iter().cloned());
        }
        let asserts = self.mix.is_some() || !self.expect.is_empty() || self.allow_errors.is_some();
        Ok(Workload {
            authority,
            routes,
            clients: Clients {
                count: self.clients,
                pick: self.zipf.map_or(Pick::Rotation, |exponent| Pick::Zipf { exponent }),
                tokens,
                bad_token: self.bad_token.unwrap_or(Share::NONE),
            },
            close: self.close,
            errors_allowed: asserts.then(|| self.allow_errors.unwrap_or(Share::NONE)),
        })
    }

    fn claims(&self) -> Claims {
        Claims {
            algorithm: self.alg,
            kid: self.kid.clone(),
            ttl: self.ttl,
            scope: self.scope.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
        }
    }

    fn route(&self, target: &Target) -> Result<Route, SetUp> {
        let body = self.body.as_deref().map(body).transpose()?;
        let default = if body.is_some() { "POST" } else { "GET" };
        let method = self.method.clone().unwrap_or_else(|| default.into());
        if !is_token(&method) {
            return Err(SetUp::new(format!("--method {method:?} is not an HTTP method")));
        }
        if self.expect.iter().any(|status| !(200..600).contains(status)) {
            return Err(SetUp::new("--expect wants statuses from 200 to 599"));
        }
        Ok(Route {
            name: format!("{method} {}", target.path),
            weight: 1.0,
            method,
            path: Template::parse(&target.path)
                .map_err(|error| SetUp::new(format!("the target's path: {error}")))?,
            fields: Vec::new(),
            body: body.map(Template::verbatim),
            idempotency_key: false,
            expected: if self.expect.is_empty() {
                Expected::Success
            } else {
                Expected::OneOf(self.expect.clone())
            },
        })
    }

    /// The `Host`, and the fields of every request.
    fn fields(&self, target: &Target) -> Result<(String, Vec<(String, Template)>), SetUp> {
        let mut authority = target.authority.clone();
        let mut fields = Vec::with_capacity(self.header.len());
        for text in &self.header {
            let fault = |what: &str| SetUp::new(format!("--header {text:?} {what}"));
            let (name, value) = text.split_once(':').ok_or_else(|| fault("is not Name: value"))?;
            let (name, value) = (name.trim(), value.trim());
            if !is_token(name) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
                return Err(fault("is not a header field"));
            }
            match name.to_ascii_lowercase().as_str() {
                "host" => value.clone_into(&mut authority),
                "content-length" | "transfer-encoding" | "connection" => {
                    return Err(fault("would break the framing, which --body and --close decide"));
                }
                _ => {
                    let value = Template::parse(value).map_err(|error| fault(&error))?;
                    fields.push((name.to_owned(), value));
                }
            }
        }
        Ok((authority, fields))
    }
}

fn body(text: &str) -> Result<Vec<u8>, SetUp> {
    match text.parse::<Bytes>() {
        Ok(Bytes(bytes)) if bytes > BODY_BYTES_MAX => {
            Err(SetUp::new(format!("--body {text} is more than 1 GiB")))
        }
        Ok(Bytes(bytes)) => Ok(vec![b'x'; bytes]),
        Err(()) => std::fs::read(text).map_err(|error| {
            SetUp::new(format!("--body {text:?} is no number of bytes and cannot be read: {error}"))
        }),
    }
}

/// A number of bytes, as `65536`, `64KiB` or `1MiB`.
struct Bytes(usize);

impl FromStr for Bytes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let unit: usize = match unit {
            "" | "B" => 1,
            "KiB" => 1024,
            "MiB" => 1024 * 1024,
            _ => return Err(()),
        };
        let number: usize = digits.parse().map_err(|_| ())?;
        number.checked_mul(unit).map(Self).ok_or(())
    }
}

/// Raises the limit of open descriptors as far as needed; children inherit it.
///
/// # Errors
/// When the hard limit is lower.
pub(crate) fn allow_descriptors(wanted: u64) -> Result<(), SetUp> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(SetUp::new(format!(
            "{wanted} open files are needed and {} are allowed; raise `ulimit -Hn`",
            limit.maximum.unwrap_or(0)
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .map_err(|error| SetUp::new(format!("cannot raise the limit of open files to {wanted}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_sizes_or_files() {
        assert_eq!(body("64KiB").map(|bytes| bytes.len()).ok(), Some(65_536));
        assert_eq!(body("7").map(|bytes| bytes.len()).ok(), Some(7));
        assert!(body("2000MiB").is_err());
        assert!(body("/nowhere/7").is_err_and(|error| error.to_string().contains("/nowhere/7")));
    }
}
