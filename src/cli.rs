//! The command line: what each command is for, and the exit codes.

mod audit;
mod doctor;
mod topology;
mod tune;

use std::{io::IsTerminal, net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{
    base::clock::Clock,
    control::{
        admin::address::AdminAddress,
        admin_client::{self, Errand, NoAnswer},
        api_key,
        config::{self, Issues, compile, environment},
        discovery::Discovery,
        explain::{self, Question},
        listening::Given,
        log_level,
        revocation::Revocations,
        tail_client::{Follow, Look, NoLines, follow},
        token::{Claims, mint},
        upgrade::Predecessor,
    },
    demo,
    gateway::{Gateway, StartError},
    stage::{Desk, auth::is_usable_as_consumer},
};

/// The request would be refused.
const NOT_FORWARDED: u8 = 1;
/// Something is wrong with an audit log.
const NOT_INTACT: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 64;
/// A file that a command is about cannot be read.
const UNREADABLE: u8 = 66;
/// An address could not be bound.
const UNBOUND: u8 = 69;
/// There is no gateway where one was looked for.
const UNREACHABLE: u8 = 69;
/// A bug, or a system that breaks its promises.
const BUG: u8 = 70;
/// The configuration was refused.
const REFUSED: u8 = 78;

/// An API gateway for payment systems: exact limits, no double payments, one shard per core on io_uring.
///
/// Exit codes: 0 done, 1 refused (of explain), incomplete (of tune), not intact (of audit verify) or a warning (of doctor),
/// 2 a failure (of doctor), 64 wrong usage, 66 a file cannot be read, 69 an address could not be bound or nobody answers there,
/// 70 a bug, 78 configuration refused.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve.
    ///
    /// Serves the configuration in FILE until SIGTERM or SIGINT, then lets requests in flight finish within
    /// timeouts.drain and ends. SIGHUP puts the file as it then stands in force, SIGUSR1 opens the access log anew.
    /// SIGUSR2 starts the binary that stands at the same path as a successor and hands over to it.
    Run {
        /// The configuration, in TOML.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Try everything at once: gateway, admin API and two endpoints in one process (the default).
    ///
    /// Prints a valid token and commands that succeed, are refused, and run into the quota.
    Demo,
    /// Check a configuration and print every mistake in it, each with file, line and key.
    ///
    /// Binds nothing and resolves no names. Ends with 0, or with 78 if there is a mistake.
    Check {
        /// The configuration, in TOML.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Say how a running gateway is doing, as JSON.
    Status {
        #[command(flatten)]
        gateway: Running,
    },
    /// Have a running gateway put its configuration file, as it now stands, in force.
    ///
    /// Ends with 78 and every mistake in the file if there is one; the old configuration then stays in force.
    Reload {
        #[command(flatten)]
        gateway: Running,
    },
    /// Have a running gateway finish what is in flight, then end.
    Drain {
        #[command(flatten)]
        gateway: Running,
    },
    /// Follow a running gateway's log as it is written, without touching its files.
    ///
    /// Shows what the log shows, also where log.access is off, and nothing of what was before. A gap line says how many
    /// lines are missing when they come faster than they are taken. Comes back when the gateway does; ends with Ctrl-C.
    Tail {
        #[command(flatten)]
        gateway: Running,
        /// Only lines of this route; - for requests that match none.
        #[arg(long, value_name = "NAME")]
        route: Option<String>,
        /// Only lines with this status: 429, a class such as 5xx, or a range such as 200-299.
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
        /// Only lines of this consumer, by name or as the log shows it.
        #[arg(long, value_name = "ID")]
        consumer: Option<String>,
        /// How lines are shown.
        #[arg(long, value_enum, default_value = "text")]
        format: Look,
        /// End after so many lines.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Mint a token for a configured HMAC key, for development and load tests.
    Token {
        /// The configuration, in TOML.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Name of the [[jwt]] that shall accept the token.
        #[arg(long, value_name = "NAME")]
        jwt: String,
        /// The consumer.
        #[arg(long, value_name = "ID")]
        sub: String,
        /// Scopes, separated by spaces.
        #[arg(long, value_name = "S")]
        scope: Option<String>,
        /// How long the token is good.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// The key to sign with; the first when left out.
        #[arg(long, value_name = "K")]
        kid: Option<String>,
    },
    /// Say step by step what a request would meet: route, credential, permission, limits, cluster.
    ///
    /// Decides as a running gateway does, with nothing used of any quota and every endpoint up. Ends with 0 if
    /// the request would be forwarded, with 1 if it would be refused; then the last lines say what the client
    /// is told and what only the log is. Prints no token and no key. A token or key that is written as @FILE
    /// is read from the file, so that it is in no list of processes.
    Explain {
        /// The configuration, in TOML.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A token, sent as Authorization: Bearer.
        #[arg(long, value_name = "T")]
        token: Option<String>,
        /// An API key, sent as X-Api-Key.
        #[arg(long, value_name = "K")]
        api_key: Option<String>,
        /// The address the connection comes from.
        #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
        client_ip: IpAddr,
        /// A header; may be given several times. Host is localhost when left out.
        #[arg(long = "header", value_name = "NAME: VALUE")]
        headers: Vec<String>,
        /// The method.
        #[arg(value_name = "METHOD")]
        method: String,
        /// The path, perhaps with a query.
        #[arg(value_name = "PATH")]
        path: String,
    },
    /// Say what on this machine may keep the gateway from its promises, why, and what to do about it.
    ///
    /// Looks and changes nothing: the kernel and its rings, limits, CPUs, interrupts, the network stack, memory, clocks,
    /// the log's disk. Ends with 0, with 1 if something will fail or costs speed (warn), with 2 if something fails
    /// already (fail), with 78 if the configuration is refused. What cannot be seen is unknown, and no failure.
    Doctor(doctor::Doctor),
    /// Draw the machine and where its threads go: CPUs, cores, caches, NUMA nodes, network queues and interrupts.
    ///
    /// Reads /sys and /proc and changes nothing. Ends with 78 if the shards cannot be placed as asked.
    Topology(topology::Topology),
    /// Work with the audit log.
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Mint an API key.
    ///
    /// Prints two lines: the key, which the client sends as X-Api-Key and of which this is the only copy, and
    /// the entry for api_keys of the client's [[consumer]], which holds the key's SHA-256.
    Key {
        /// What the key is called; when left out, after its hash.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// Set this machine up for a gateway, and undo it again.
    ///
    /// One table says what is wanted and why; tuning/README.md prints it. The old values are written down before anything
    /// is touched, so that revert brings them back, also after a crash.
    Tune(tune::TuneArgs),
}

/// Which gateway a command is for.
#[derive(Debug, clap::Args)]
struct Running {
    /// Its listen.admin: an address and port, or unix:PATH.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9901")]
    admin: AdminAddress,
    /// The file of its listen.admin_token_file.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

impl Running {
    /// What the gateway wants to see, if anything.
    fn token(&self) -> Result<Option<String>, Failure> {
        self.admin_token_file.as_deref().map(first_line).transpose()
    }
}

/// Runs the command the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    log_level::start(std::io::stderr().is_terminal());
    let done = match cli.command.unwrap_or(Command::Demo) {
        Command::Run { config } => run(&config),
        Command::Demo => demo::run().map_err(Failure::from),
        Command::Check { file } => check(&file),
        Command::Status { gateway } => ask(&gateway, Errand::Status),
        Command::Reload { gateway } => ask(&gateway, Errand::Reload),
        Command::Drain { gateway } => ask(&gateway, Errand::Drain),
        Command::Tail { gateway, route, status, consumer, format, count } => {
            let filter = [("route", route), ("status", status), ("consumer", consumer)];
            let filter = filter.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            tail(&gateway, filter, format, count)
        }
        Command::Token { config, jwt, sub, scope, ttl, kid } => {
            token(&config, &jwt, &sub, scope.as_deref(), ttl, kid.as_deref())
        }
        Command::Explain { config, token, api_key, client_ip, mut headers, method, path } => {
            add_credentials(&mut headers, token.as_deref(), api_key.as_deref())
                .and_then(|()| explain(&config, &method, &path, &headers, client_ip))
        }
        Command::Doctor(asked) => doctor::run(&asked),
        Command::Topology(asked) => topology::run(asked),
        Command::Audit { command } => audit::run(&command),
        Command::Key { id } => key(id.as_deref()),
        Command::Tune(args) => tune::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            eprint!("{message}");
            ExitCode::from(code)
        }
    }
}

/// Why a command failed: the exit code, and lines for a person.
struct Failure {
    code: u8,
    message: String,
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Refused(message) => {
                Self { code: REFUSED, message: format!("{}\n", message.trim_end()) }
            }
            StartError::Unbound(message) => Self { code: UNBOUND, message: format!("{message}\n") },
        }
    }
}

impl From<Issues> for Failure {
    fn from(issues: Issues) -> Self {
        Self { code: REFUSED, message: issues.to_string() }
    }
}

fn run(path: &std::path::Path) -> Result<(), Failure> {
    // First of all, because it needs to be alone.
    let given = Given::by_systemd().map_err(StartError::Refused)?;
    let plan = config::load(path, &environment)?;
    let predecessor = Predecessor::find()
        .map_err(|error| StartError::Refused(format!("nothing can be taken over: {error}")))?;
    let gateway = Gateway::succeed(plan, Some(path.to_owned()), predecessor, given)?;
    gateway.serve(std::future::ready(())).map_err(|error| StartError::Refused(error.to_string()).into())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn check(path: &std::path::Path) -> Result<(), Failure> {
    let plan = config::load(path, &environment)?;
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (routes, clusters) = (counted(plan.routes.len(), "route"), counted(plan.clusters.len(), "cluster"));
    println!("{}: good ({routes}, {clusters})", path.display());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn ask(gateway: &Running, errand: Errand) -> Result<(), Failure> {
    let token = gateway.token()?;
    match admin_client::ask(&gateway.admin, token.as_deref(), errand) {
        Ok(answer) => {
            println!("{answer:#}");
            Ok(())
        }
        Err(NoAnswer::Unreachable(message)) => {
            Err(Failure { code: UNREACHABLE, message: format!("{message}\n") })
        }
        Err(NoAnswer::Refused(answer)) => {
            let mistakes = answer["mistakes"].as_array().map(Vec::as_slice).unwrap_or_default();
            let lines = mistakes.iter().chain([&answer["error"]]);
            let lines: Vec<&str> = lines.filter_map(serde_json::Value::as_str).collect();
            let message = if lines.is_empty() { format!("{answer:#}\n") } else { lines.join("\n") + "\n" };
            Err(Failure { code: REFUSED, message })
        }
    }
}

fn tail(
    gateway: &Running,
    filter: Vec<(&'static str, String)>,
    look: Look,
    count: Option<u64>,
) -> Result<(), Failure> {
    let what = Follow { admin: gateway.admin.clone(), token: gateway.token()?, filter, look, count };
    follow(&what).map_err(|reason| match reason {
        NoLines::Unreachable(message) => Failure { code: UNREACHABLE, message: format!("{message}\n") },
        NoLines::Refused(message) => Failure { code: USAGE, message: format!("{message}\n") },
    })
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn token(
    path: &std::path::Path,
    jwt: &str,
    sub: &str,
    scope: Option<&str>,
    ttl: Duration,
    kid: Option<&str>,
) -> Result<(), Failure> {
    let plan = config::load(path, &environment)?;
    let usage = |message: String| Failure { code: USAGE, message: format!("{message}\n") };
    let keys = plan.key_sets.iter().find(|keys| keys.name == jwt).ok_or_else(|| {
        let known: Vec<&str> = plan.key_sets.iter().map(|keys| keys.name.as_str()).collect();
        usage(format!("no jwt is named \"{jwt}\"; there are: {}", known.join(", ")))
    })?;
    if !is_usable_as_consumer(sub) {
        let message = "--sub: a consumer has 1 to 256 bytes, no control characters, and no blanks around it";
        return Err(usage(message.to_owned()));
    }
    let ttl_s = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let claims = Claims { consumer: sub, scope, ttl_s, issued_s: Clock::new().now().unix_seconds() };
    println!("{}", mint(keys, kid, &claims).map_err(usage)?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn key(id: Option<&str>) -> Result<(), Failure> {
    if id.is_some_and(|id| id.is_empty() || id.chars().any(char::is_control)) {
        let message = "--id: a name is not empty and has no control characters\n".to_owned();
        return Err(Failure { code: USAGE, message });
    }
    let minted = api_key::mint(id).map_err(|error| Failure { code: BUG, message: format!("{error}\n") })?;
    println!("{}\n{}", minted.key, minted.entry);
    Ok(())
}

/// What the file at `path` says, without the end of its line.
fn first_line(path: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure {
        code: USAGE,
        message: format!("{} cannot be read: {error}\n", path.display()),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Adds the fields that carry the credentials.
fn add_credentials(
    headers: &mut Vec<String>,
    token: Option<&str>,
    api_key: Option<&str>,
) -> Result<(), Failure> {
    for (credential, field) in [(token, "Authorization: Bearer"), (api_key, "X-Api-Key:")] {
        let Some(credential) = credential else { continue };
        let credential = match credential.strip_prefix('@') {
            None => credential.to_owned(),
            Some(path) => first_line(path.as_ref())?,
        };
        headers.push(format!("{field} {credential}"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn explain(
    path: &std::path::Path,
    method: &str,
    target: &str,
    headers: &[String],
    peer: IpAddr,
) -> Result<(), Failure> {
    let plan = config::load(path, &environment)?;
    let now = Clock::new().now();
    let head_bytes_max = plan.bounds.head_bytes_max;
    let revocations =
        Revocations::start(plan.revocation.clone(), now.unix_seconds()).map_err(StartError::Refused)?;
    let addresses = Discovery::begin(&plan).addresses();
    let snapshot = compile::compile(plan, &addresses, 1, None).map_err(StartError::Refused)?;
    let mut desk = Desk::new(0, fastrand::Rng::new());
    desk.revoked = revocations.cell().reader();
    let question = Question { method, target, fields: headers, peer, head_bytes_max };
    let explanation = explain::explain(&snapshot, &mut desk, &question, now)
        .map_err(|error| Failure { code: USAGE, message: format!("{error}\n") })?;
    print!("{}", explanation.text);
    if explanation.forwarded {
        return Ok(());
    }
    Err(Failure { code: NOT_FORWARDED, message: String::new() })
}
