//! `tollgate audit verify`: whether audit logs are what was written, and with which key that is told.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use clap::Subcommand;

use crate::control::{
    audit::{AuditKey, verify},
    config::{self, environment},
};

use super::{BUG, Failure, NOT_INTACT, UNREADABLE, USAGE};

/// The configuration that is looked for where neither a key nor a configuration is named.
const USUAL: &str = "tollgate.toml";

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Say whether audit logs are what was written, all of it.
    ///
    /// Follows every chain through the FILEs, given in any order, across rotations and restarts. Names the first bad
    /// record with file, line, shard and number and what is wrong with it, then the others, then what cannot be told:
    /// above all where nothing vouches for the end. Ends with 0 if nothing is wrong, with 1 if something is, and
    /// with 66 if a file cannot be read.
    Verify(Asked),
}

#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// The files: the one in use, and those that were put aside.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The file with the key they were written with (audit.key_file).
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    key_file: Option<PathBuf>,
    /// The configuration they were written under, which names the key; when neither is given, tollgate.toml beside the
    /// first FILE or here.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file with checkpoints that were kept elsewhere (audit.anchor); other lines in it are passed over.
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// Every process that wrote the files has ended in good order: an end that is not there was cut off.
    #[arg(long)]
    ended: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(super) fn run(command: &AuditCommand) -> Result<(), Failure> {
    let AuditCommand::Verify(asked) = command;
    let (key, whose) = asked.key()?;
    let question = verify::Question {
        files: &asked.files,
        key: &key,
        anchors: asked.anchor.as_deref(),
        all_ended: asked.ended,
    };
    let report = verify::verify(&question).map_err(|unread| unreadable(&unread.path, &unread.error))?;
    if asked.json {
        let value = serde_json::to_string_pretty(&report);
        println!("{}", value.map_err(|error| Failure { code: BUG, message: format!("{error}\n") })?);
    } else {
        if let Some(config) = whose {
            println!("key: audit.key_file of {}", config.display());
        }
        print!("{}", report.text());
    }
    match report.intact {
        true => Ok(()),
        false => Err(Failure { code: NOT_INTACT, message: String::new() }),
    }
}

impl Asked {
    /// The key, and the configuration that names it where the command line does not.
    fn key(&self) -> Result<(AuditKey, Option<PathBuf>), Failure> {
        if let Some(path) = &self.key_file {
            let secret = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
            let key = AuditKey::new(config::without_newline(&secret));
            return key
                .map(|key| (key, None))
                .map_err(|error| wrong(&format!("{}: {error}", path.display())));
        }
        let path = match &self.config {
            Some(path) => path.clone(),
            None => self.usual().ok_or_else(|| {
                wrong(&format!(
                    "no {USUAL} beside the first FILE or here says with which key it was written; name the key with \
                     --key-file or the configuration with --config"
                ))
            })?,
        };
        let plan = config::load(&path, &environment)?;
        let none = || wrong(&format!("{}: has no [audit]; name the key with --key-file", path.display()));
        Ok((plan.audit.ok_or_else(none)?.key, Some(path)))
    }

    /// The configuration that is there without having been named.
    fn usual(&self) -> Option<PathBuf> {
        let beside = self.files.first().and_then(|first| first.parent()).map(|parent| parent.join(USUAL));
        [beside, Some(PathBuf::from(USUAL))].into_iter().flatten().find(|path| path.is_file())
    }
}

fn wrong(message: &str) -> Failure {
    Failure { code: USAGE, message: format!("{message}\n") }
}

fn unreadable(path: &Path, error: &dyn Display) -> Failure {
    Failure { code: UNREADABLE, message: format!("{} cannot be read: {error}\n", path.display()) }
}
