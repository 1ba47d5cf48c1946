//! `tollgate tune verify`: blocks of load with a group of settings and without it, in turn.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Scope, USAGE, failure, incomplete, nothing_waits, print};
use crate::tuning::{
    journal::{self, Held, Journal, of_parts},
    knobs::{Part, State, survey_of},
    verify::{Block, Comparison, PAIRS_MAX, PAIRS_MIN, compare},
};

/// What is measured, and how long.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    scope: Scope,
    /// Where requests go: a gateway that serves, on this machine.
    #[arg(long, value_name = "URL")]
    target: String,
    /// The gateway's process, whose CPU time per request is compared.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Requests per second; as fast as answers come when left out.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Pairs of blocks for each group.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pairs: usize,
    /// The measured time of a block.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    block: Duration,
    /// The load generator [default: the one beside this binary].
    #[arg(long, value_name = "FILE")]
    loadtest: Option<PathBuf>,
    /// Further options of `loadtest run`, such as -c 64 --secret-file partners.key.
    #[arg(last = true)]
    options: Vec<String>,
}

/// Measures each group and prints the ratios.
pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    if !(PAIRS_MIN..=PAIRS_MAX).contains(&args.pairs) {
        return Err(failure(USAGE, &format!("--pairs: {PAIRS_MIN} to {PAIRS_MAX} are possible")));
    }
    let beside = || std::env::current_exe().map(|binary| binary.with_file_name("loadtest"));
    let loadtest = match &args.loadtest {
        Some(path) => path.clone(),
        None => beside().map_err(|error| incomplete(error.to_string()))?,
    };
    if !loadtest.exists() {
        return Err(failure(USAGE, &format!("there is no {}; name it with --loadtest", loadtest.display())));
    }
    let mut groups = Vec::new();
    for part in args.scope.parts() {
        let bench = Bench { args, loadtest: &loadtest, part, cpus: args.scope.cpus()? };
        let found = bench.measure()?;
        if !args.scope.place.json {
            print(false, &Value::Null, &found.text);
        }
        groups.push(found.json);
    }
    if args.scope.place.json {
        print(true, &json!({ "target": args.target, "groups": groups }), "");
    }
    Ok(())
}

/// One group or knob, and what it is measured with.
struct Bench<'a> {
    args: &'a VerifyArgs,
    loadtest: &'a Path,
    part: Part,
    cpus: Vec<usize>,
}

/// The blocks of a group or knob.
#[derive(Default)]
struct Measured {
    /// Those that count, without the settings and with them.
    pairs: Vec<(Block, Block)>,
    /// How many pairs do not.
    void: usize,
    /// How many settings were changed for them.
    changed: usize,
}

/// What was found out about it.
struct Found {
    text: String,
    json: Value,
}

impl Bench<'_> {
    fn measure(&self) -> Result<Found, Failure> {
        let (part, name) = (self.part, self.part.name());
        let place = &self.args.scope.place;
        let journal = Journal::read(&place.journal()).map_err(incomplete)?;
        nothing_waits(&journal)?;
        let was_applied = journal.has(part);
        let settings = survey_of(&place.root(), &[part], &self.cpus);
        if !was_applied && !settings.iter().any(|setting| matches!(setting.state, State::Differs { .. })) {
            let text = format!("{name}: there is nothing to change, so nothing to measure\n");
            return Ok(Found {
                text,
                json: json!({ "group": part.group().word(), "name": name, "changed": 0 }),
            });
        }
        let measured = self.pairs();
        // Whatever came of it, the machine is as it was found.
        self.set(was_applied)?;
        let Measured { pairs, void, changed } = measured?;
        if changed == 0 {
            let text = format!("{name}: none of its settings can be changed here, so nothing was measured\n");
            return Ok(Found {
                text,
                json: json!({ "group": part.group().word(), "name": name, "changed": 0 }),
            });
        }
        let compared = compare(&pairs);
        let mut text = format!("{name}: {changed} settings, {} pairs", pairs.len());
        if void > 0 {
            text.push_str(&format!(", {void} void (the generator was the bottleneck)"));
        }
        text.push('\n');
        if pairs.len() < PAIRS_MIN {
            text.push_str("  too few pairs count for a ratio\n");
        } else {
            text.extend(compared.iter().map(|one| format!("  {}\n", one.text())));
        }
        let comparisons: Vec<Value> = if pairs.len() < PAIRS_MIN {
            Vec::new()
        } else {
            compared.iter().map(Comparison::to_json).collect()
        };
        let json = json!({
            "group": part.group().word(),
            "name": name,
            "changed": changed,
            "pairs": pairs.len(),
            "void": void,
            "comparisons": comparisons,
        });
        Ok(Found { text, json })
    }

    /// Measures them all.
    fn pairs(&self) -> Result<Measured, Failure> {
        let (mut pairs, mut void, mut changed) = (Vec::new(), 0, 0);
        for turn in 0..self.args.pairs {
            let mut blocks = [None, None];
            // Without, with, with, without: half the changes, and no order is favoured.
            let order = if turn % 2 == 0 { [false, true] } else { [true, false] };
            for with in order {
                let done = self.set(with)?;
                if with {
                    changed = changed.max(done);
                    if turn == 0 && done == 0 {
                        return Ok(Measured::default());
                    }
                }
                blocks[usize::from(with)] = Some(self.block()?);
            }
            match blocks {
                [Some(without), Some(with)] if without.void_reason().or(with.void_reason()).is_none() => {
                    pairs.push((without, with));
                }
                _ => void += 1,
            }
        }
        Ok(Measured { pairs, void, changed })
    }

    /// Has the group in force or not; how many of its settings now are.
    fn set(&self, with: bool) -> Result<usize, Failure> {
        let place = &self.args.scope.place;
        let (root, path, part) = (place.root(), place.journal(), self.part);
        let mut held = Held::take(&path).map_err(incomplete)?;
        if with {
            let settings = survey_of(&root, &[part], &self.cpus);
            journal::apply(&root, &mut held, &settings, true).map_err(incomplete)?;
        } else {
            journal::revert(&root, &mut held, of_parts(&[part])).map_err(incomplete)?;
        }
        Ok(held.journal.entries.iter().filter(|entry| entry.is_of(&[part])).count())
    }

    fn block(&self) -> Result<Block, Failure> {
        let args = self.args;
        let mut command = Command::new(self.loadtest);
        command.args(["run", "--target", &args.target, "--json", "-", "--duration"]);
        command.arg(format!("{}ms", args.block.as_millis()));
        match args.rate {
            Some(rate) => command.args(["--rate", &rate.to_string()]),
            None => command.arg("--closed"),
        };
        if let Some(pid) = args.pid {
            command.args(["--pid", &pid.to_string()]);
        }
        let run = command.args(&args.options).stdin(Stdio::null()).output();
        let run = run.map_err(|error| incomplete(format!("{}: {error}", self.loadtest.display())))?;
        Block::parse(&String::from_utf8_lossy(&run.stdout))
            .map_err(|why| incomplete(format!("{why}\n{}", String::from_utf8_lossy(&run.stderr).trim_end())))
    }
}
