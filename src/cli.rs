//! The command line: what each command is for, and the exit codes.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{
    base::clock::Clock,
    control::{
        api_key,
        config::{self, Issues, environment},
        token::{Claims, mint},
    },
    demo,
    gateway::{Gateway, StartError},
    stage::auth::is_usable_as_consumer,
};

/// Wrong usage.
const USAGE: u8 = 64;
/// An address could not be bound.
const UNBOUND: u8 = 69;
/// A bug, or a system that breaks its promises.
const BUG: u8 = 70;
/// The configuration was refused.
const REFUSED: u8 = 78;

/// An API gateway for payment systems: exact limits, no double payments, one shard per core on io_uring.
///
/// Exit codes: 0 done, 64 wrong usage, 69 an address could not be bound, 70 a bug, 78 configuration refused.
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
    /// timeouts.drain and ends. SIGUSR1 opens the access log anew. SIGHUP and SIGUSR2 do nothing in this version.
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
    /// Mint an API key.
    ///
    /// Prints two lines: the key, which the client sends as X-Api-Key and of which this is the only copy, and
    /// the entry for api_keys of the client's [[consumer]], which holds the key's SHA-256.
    Key {
        /// What the key is called; when left out, after its hash.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
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
    let level = tracing_subscriber::filter::LevelFilter::INFO;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_max_level(level)
        .with_target(false)
        .init();
    let done = match cli.command.unwrap_or(Command::Demo) {
        Command::Run { config } => run(&config),
        Command::Demo => demo::run().map_err(Failure::from),
        Command::Check { file } => check(&file),
        Command::Token { config, jwt, sub, scope, ttl, kid } => {
            token(&config, &jwt, &sub, scope.as_deref(), ttl, kid.as_deref())
        }
        Command::Key { id } => key(id.as_deref()),
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
    let plan = config::load(path, &environment)?;
    let gateway = Gateway::start(plan)?;
    gateway.serve(std::future::ready(())).map_err(|error| StartError::Refused(error.to_string()).into())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn check(path: &std::path::Path) -> Result<(), Failure> {
    let plan = config::load(path, &environment)?;
    println!("{}: good ({} routes, {} clusters)", path.display(), plan.routes.len(), plan.clusters.len());
    Ok(())
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
