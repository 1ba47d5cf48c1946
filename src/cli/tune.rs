//! `tollgate tune`: what the machine should be set to, and setting it, with a way back.

mod verify;

use std::{
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    base::clock::Clock,
    tuning::{
        cpus::parse_list,
        journal::{self, Applied, Entry, Held, Journal, Outcome, Reverted, Undone, of_parts},
        knobs::{Form, Group, Part, Setting, State, survey_of},
        root::Root,
    },
};

use super::{BUG, Failure, USAGE};

/// Something was not done, or was found otherwise than it should be.
const INCOMPLETE: u8 = 1;

/// What is done about the machine's settings.
#[derive(Debug, Args)]
pub(super) struct TuneArgs {
    #[command(subcommand)]
    command: TuneCommand,
}

#[derive(Debug, Subcommand)]
enum TuneCommand {
    /// Print what differs from what is wanted, and touch nothing.
    Plan {
        #[command(flatten)]
        scope: Scope,
    },
    /// Change what differs, after writing down what there was.
    ///
    /// The old values stand in the journal before anything is touched, each setting is read back, and what one does not
    /// take stops none of the others. Ends with 1 if something is not as wanted.
    Apply {
        #[command(flatten)]
        scope: Scope,
        /// Undo everything again after so long, unless Enter is pressed here or `tollgate tune confirm` is run. A
        /// process of its own watches, so that a lost terminal does not matter.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        confirm_within: Option<Duration>,
    },
    /// Keep what `apply --confirm-within` changed.
    Confirm {
        #[command(flatten)]
        place: Where,
    },
    /// Say what was changed, what of it is in force, and what somebody else has changed since.
    ///
    /// Ends with 1 if something is not in force any more.
    Status {
        #[command(flatten)]
        place: Where,
    },
    /// Give every changed setting back what it held before.
    ///
    /// What somebody else has changed since is left as it is, and said. Finishes what an apply that was killed left
    /// behind. Ends with 1 if something could not be undone.
    Revert {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        choice: Choice,
    },
    /// Measure what each group, or each knob named by --only, does: blocks of load with it and without it in turn, and their ratio.
    Verify(verify::VerifyArgs),
    /// Undo what nobody confirms.
    #[command(hide = true)]
    Watch {
        #[command(flatten)]
        place: Where,
        #[arg(long, value_parser = humantime::parse_duration)]
        within: Duration,
    },
}

/// Which machine, and which journal.
#[derive(Debug, Args)]
struct Where {
    /// Where the machine's files begin.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where the old values are written down [default: var/lib/tollgate/tune/journal.json below the root].
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Where {
    fn root(&self) -> Root {
        Root::at(&self.root)
    }

    fn journal(&self) -> PathBuf {
        self.journal.clone().unwrap_or_else(|| self.root().path(journal::PLACE))
    }
}

/// Which parts of the table.
#[derive(Debug, Args)]
struct Choice {
    /// Only these groups: network, memory, cpu, devices, queues, polling, boot.
    #[arg(long = "group", value_name = "GROUP", value_parser = Group::parse)]
    groups: Vec<Group>,
    /// Only these knobs, by their names in the table, such as net.core.somaxconn.
    #[arg(long = "only", value_name = "KNOB", value_parser = Part::parse_knob, conflicts_with = "groups")]
    knobs: Vec<Part>,
}

impl Choice {
    /// Those that are named, in the order of the table; none if none is.
    fn parts(&self) -> Vec<Part> {
        let groups = Group::ALL.into_iter().filter(|group| self.groups.contains(group));
        groups.map(Part::Group).chain(self.knobs.iter().copied()).collect()
    }
}

/// What of it. Where nothing is named, network, memory, cpu and devices are meant.
#[derive(Debug, Args)]
struct Scope {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    choice: Choice,
    /// The shards' CPUs, such as 0-3,8 [default: all that are online].
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
}

impl Scope {
    /// Those that are named, or the usual groups.
    fn parts(&self) -> Vec<Part> {
        let named = self.choice.parts();
        if named.is_empty() { Group::USUAL.map(Part::Group).to_vec() } else { named }
    }

    fn cpus(&self) -> Result<Vec<usize>, Failure> {
        match &self.cpus {
            Some(list) => parse_list(list).map_err(|why| failure(USAGE, &format!("--cpus: {why}"))),
            None => {
                let online = self.place.root().read("/sys/devices/system/cpu/online").unwrap_or_default();
                Ok(parse_list(&online).unwrap_or_default())
            }
        }
    }

    fn survey(&self) -> Result<Vec<Setting>, Failure> {
        Ok(survey_of(&self.place.root(), &self.parts(), &self.cpus()?))
    }
}

fn failure(code: u8, message: &str) -> Failure {
    Failure { code, message: format!("{message}\n") }
}

/// What went wrong with the journal or the machine.
fn incomplete(why: impl Into<String>) -> Failure {
    Failure { code: INCOMPLETE, message: why.into() + "\n" }
}

/// Does it.
pub(super) fn run(args: &TuneArgs) -> Result<(), Failure> {
    match &args.command {
        TuneCommand::Plan { scope } => plan(scope),
        TuneCommand::Apply { scope, confirm_within } => apply(scope, *confirm_within),
        TuneCommand::Confirm { place } => confirm(place),
        TuneCommand::Status { place } => status(place),
        TuneCommand::Revert { place, choice } => revert(place, &choice.parts()),
        TuneCommand::Verify(args) => verify::run(args),
        TuneCommand::Watch { place, within } => watch(place, *within),
    }
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn print(json: bool, value: &Value, text: &str) {
    if json {
        println!("{value:#}");
    } else {
        print!("{text}");
    }
}

/// A value for a person: a file by its length.
fn shown(form: Form, value: Option<&str>) -> String {
    match (form, value) {
        (_, None) => "absent".to_owned(),
        (Form::File, Some(text)) => format!("a file of {} lines", text.lines().count()),
        (_, Some(text)) => text.to_owned(),
    }
}

fn plan(scope: &Scope) -> Result<(), Failure> {
    let settings = scope.survey()?;
    let mut text = String::new();
    let parts = scope.parts();
    for group in Group::ALL.into_iter().filter(|&group| parts.iter().any(|part| part.group() == group)) {
        let its = settings.iter().filter(|setting| setting.knob.group == group);
        text.push_str(&format!("{group}\n"));
        for setting in its {
            let Setting { knob, node, form, state } = setting;
            // What a name of its own says is not said twice.
            let place = if node.starts_with("/proc/sys/") { knob.name } else { node };
            let line = match state {
                State::AsWanted(now) => format!("  ok    {place} = {}\n", shown(*form, Some(now))),
                State::Left(why) => format!("  left  {place}: {why}\n"),
                State::Differs { now, wanted } => format!(
                    "  set   {place}: {} -> {}\n        {}\n",
                    shown(*form, now.as_deref()),
                    shown(*form, Some(wanted)),
                    knob.why
                ),
            };
            text.push_str(&line);
        }
    }
    let differ = settings.iter().filter(|setting| matches!(setting.state, State::Differs { .. })).count();
    text.push_str(&format!("{differ} settings differ; nothing was changed\n"));
    let json: Vec<Value> = settings.iter().map(Setting::to_json).collect();
    print(scope.place.json, &json!({ "differ": differ, "settings": json }), &text);
    Ok(())
}

fn now_s() -> u64 {
    u64::try_from(Clock::new().now().unix_seconds()).unwrap_or(0)
}

/// Refuses to change anything while an earlier change can still undo itself: what is meant to stay would go with it, and
/// what it would bring back would not be what the machine had.
fn nothing_waits(journal: &Journal) -> Result<(), Failure> {
    match journal.waits(now_s()) {
        Some(why) => Err(incomplete(format!("nothing was changed: {why}"))),
        None => Ok(()),
    }
}

fn apply(scope: &Scope, confirm_within: Option<Duration>) -> Result<(), Failure> {
    let (root, path) = (scope.place.root(), scope.place.journal());
    let settings = scope.survey()?;
    let unread = |why: String| incomplete(format!("{why}; nothing was changed"));
    nothing_waits(&Journal::read(&path).map_err(unread)?)?;
    if !settings.iter().any(|setting| matches!(setting.state, State::Differs { .. })) {
        let text = "everything is as wanted, or left for a reason that `tollgate tune plan` says\n";
        print(scope.place.json, &json!({ "outcomes": [] }), text);
        return Ok(());
    }
    let mut held = Held::take(&path).map_err(|why| incomplete(format!("{why}; nothing was changed")))?;
    nothing_waits(&held.journal)?;
    if let Some(within) = confirm_within {
        held.journal.confirm_by_s = Some(now_s() + within.as_secs());
        held.save().map_err(|why| incomplete(format!("{why}; nothing was changed")))?;
        if let Err(why) = start_watching(&scope.place, within) {
            held.journal.confirm_by_s = None;
            let _ = held.save();
            return Err(failure(BUG, &format!("nobody would undo it ({why}), so nothing was changed")));
        }
    }
    let outcomes =
        journal::apply(&root, &mut held, &settings, confirm_within.is_none()).map_err(incomplete)?;
    drop(held);
    let text: String = outcomes.iter().map(outcome_text).collect();
    let done = outcomes.iter().filter(|outcome| outcome.applied == Applied::Done).count();
    let sum = match done {
        0 => format!("none of {} settings is in force\n", outcomes.len()),
        _ => format!(
            "{done} of {} settings are in force; the old values stand in {}\n",
            outcomes.len(),
            path.display()
        ),
    };
    let json: Vec<Value> = outcomes.iter().map(outcome_json).collect();
    print(scope.place.json, &json!({ "outcomes": json, "journal": path }), &(text + &sum));
    if let Some(within) = confirm_within {
        wait_for_confirmation(&scope.place, within, &outcomes)?;
    }
    if done < outcomes.len() {
        return Err(Failure { code: INCOMPLETE, message: String::new() });
    }
    Ok(())
}

fn outcome_text(outcome: &Outcome) -> String {
    let Outcome { node, before, wanted, applied, .. } = outcome;
    let form = if wanted.contains('\n') { Form::File } else { Form::Words };
    let (before, wanted) = (shown(form, before.as_deref()), shown(form, Some(wanted)));
    match applied {
        Applied::Done => format!("{node}: {before} -> {wanted}\n"),
        Applied::ReadsBack(now) => format!("{node}: {wanted} was written and \"{now}\" is in force\n"),
        Applied::Refused(why) => format!("{node}: {before} stays in force: {why}\n"),
    }
}

fn outcome_json(outcome: &Outcome) -> Value {
    let (word, detail) = match &outcome.applied {
        Applied::Done => ("done", None),
        Applied::ReadsBack(now) => ("reads-back", Some(now)),
        Applied::Refused(why) => ("refused", Some(why)),
    };
    json!({
        "knob": outcome.knob,
        "node": outcome.node,
        "before": outcome.before,
        "wanted": outcome.wanted,
        "outcome": word,
        "detail": detail,
    })
}

/// Starts the process that undoes everything, and returns once it watches.
fn start_watching(place: &Where, within: Duration) -> io::Result<()> {
    let mut watcher = Command::new(std::env::current_exe()?)
        .args(["tune", "watch", "--within", &format!("{}ms", within.as_millis())])
        .arg("--root")
        .arg(&place.root)
        .arg("--journal")
        .arg(place.journal())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = watcher.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    if said == WATCHING {
        Ok(())
    } else {
        Err(io::Error::other("the process that should watch did not start"))
    }
}

const WATCHING: &str = "watching\n";

#[expect(clippy::print_stdout, reason = "whoever started it waits for the word")]
fn watch(place: &Where, within: Duration) -> Result<(), Failure> {
    // The terminal's end must not be ours.
    rustix::process::setsid().map_err(|error| failure(BUG, &error.to_string()))?;
    print!("{WATCHING}");
    io::Write::flush(&mut io::stdout()).map_err(|error| failure(BUG, &error.to_string()))?;
    journal::watch(&place.root(), &place.journal(), within).map(drop).map_err(incomplete)
}

/// At a terminal, waits for Enter; elsewhere only says what to do.
fn wait_for_confirmation(place: &Where, within: Duration, outcomes: &[Outcome]) -> Result<(), Failure> {
    let (path, within_text) = (place.journal(), humantime::format_duration(within));
    if place.json || !io::stdin().is_terminal() {
        eprintln!("everything is undone in {within_text} unless `tollgate tune confirm` is run");
        return Ok(());
    }
    eprintln!(
        "everything is undone in {within_text} unless Enter is pressed or `tollgate tune confirm` is run"
    );
    let (pressed, enter) = mpsc::channel();
    thread::spawn(move || {
        let mut line = [0];
        if matches!(io::stdin().read(&mut line), Ok(1)) {
            let _ = pressed.send(());
        }
    });
    // The one that watches decides; this only waits to say how it ended, and not without end.
    let give_up = Instant::now() + within + Duration::from_secs(60);
    while Instant::now() < give_up {
        match enter.recv_timeout(Duration::from_millis(100)) {
            Ok(()) => return confirm(place),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::park_timeout(Duration::from_millis(100)),
        }
        let journal = Journal::read(&path).map_err(incomplete)?;
        if journal.confirm_by_s.is_none() {
            // What was undone is written down no longer.
            let stays = |entry: &Entry| outcomes.iter().any(|outcome| outcome.node == entry.node);
            if journal.entries.iter().any(stays) {
                return Ok(());
            }
            return Err(incomplete("nobody confirmed: it was undone"));
        }
    }
    Err(incomplete("nobody confirmed, and nothing was undone; run `tollgate tune revert`".to_owned()))
}

fn confirm(place: &Where) -> Result<(), Failure> {
    let count = journal::confirm(&place.journal()).map_err(incomplete)?;
    print(place.json, &json!({ "confirmed": count }), &format!("confirmed: {count} settings stay\n"));
    Ok(())
}

fn status(place: &Where) -> Result<(), Failure> {
    let (root, path) = (place.root(), place.journal());
    let journal = Journal::read(&path).map_err(incomplete)?;
    let standing: Vec<(&Entry, Reverted)> =
        journal.entries.iter().map(|entry| (entry, journal::standing(&root, entry))).collect();
    let mut text = String::new();
    for (entry, reverted) in &standing {
        let (before, ours) =
            (shown(entry.form, entry.before.as_deref()), shown(entry.form, Some(&entry.ours)));
        let unconfirmed = if entry.confirmed { "" } else { ", not confirmed" };
        let how = match reverted {
            Reverted::Restored => format!("{ours} is in force, {before} before"),
            other => format!("{ours} is not in force: {}", reverted_text(entry, other)),
        };
        text.push_str(&format!("{}: {how}{unconfirmed}\n", entry.node));
    }
    let lost = standing.iter().filter(|(_, reverted)| *reverted != Reverted::Restored).count();
    text.push_str(&format!("{} settings were changed, {lost} of them are not in force\n", standing.len()));
    if let Some(by_s) = journal.confirm_by_s {
        text.push_str(&match by_s.checked_sub(now_s()) {
            Some(left_s) => format!("unless confirmed, all is undone in {left_s} s\n"),
            None => "it was to be undone by now, and nobody did: run `tollgate tune revert`\n".to_owned(),
        });
    }
    let entries: Vec<Value> = standing
        .iter()
        .map(|(entry, reverted)| json!({ "entry": entry, "standing": reverted_word(reverted) }))
        .collect();
    let json = json!({ "journal": path, "confirm_by_s": journal.confirm_by_s, "entries": entries });
    print(place.json, &json, &text);
    if lost > 0 {
        return Err(Failure { code: INCOMPLETE, message: String::new() });
    }
    Ok(())
}

fn revert(place: &Where, parts: &[Part]) -> Result<(), Failure> {
    let path = place.journal();
    if Journal::read(&path).map_err(incomplete)? == Journal::default() {
        print(place.json, &json!({ "undone": [] }), "there is nothing to undo\n");
        return Ok(());
    }
    let mut held = Held::take(&path).map_err(incomplete)?;
    let undone = journal::revert(&place.root(), &mut held, of_parts(parts)).map_err(incomplete)?;
    if held.journal.entries.iter().all(|entry| entry.confirmed) && held.journal.confirm_by_s.take().is_some()
    {
        // Nothing is left that somebody would have to confirm.
        held.save().map_err(incomplete)?;
    }
    let text: String = undone
        .iter()
        .map(|one| format!("{}: {}\n", one.entry.node, reverted_text(&one.entry, &one.reverted)))
        .collect();
    let refused = undone.iter().filter(|one| matches!(one.reverted, Reverted::Refused(_))).count();
    let sum = match refused {
        0 => "undone\n".to_owned(),
        _ => format!("{refused} settings could not be undone and stay in {}\n", path.display()),
    };
    let json: Vec<Value> = undone
        .iter()
        .map(|Undone { entry, reverted }| {
            json!({ "entry": entry, "outcome": reverted_word(reverted), "said": reverted_text(entry, reverted) })
        })
        .collect();
    print(place.json, &json!({ "undone": json }), &(text + &sum));
    if refused > 0 {
        return Err(Failure { code: INCOMPLETE, message: String::new() });
    }
    Ok(())
}

fn reverted_text(entry: &Entry, reverted: &Reverted) -> String {
    let before = shown(entry.form, entry.before.as_deref());
    match reverted {
        Reverted::Restored => format!("{before} again"),
        Reverted::AsBefore => format!("it holds {before}, as before"),
        Reverted::NotBegun => "it was never written".to_owned(),
        Reverted::ChangedSince(now) => format!(
            "somebody has set it to {} since (ours was {}, before that {before}); left",
            shown(entry.form, Some(now)),
            shown(entry.form, Some(&entry.ours))
        ),
        Reverted::Gone => "there is no such setting any more".to_owned(),
        Reverted::Renumbered => {
            "the machine has restarted since, and the number is another interrupt's".to_owned()
        }
        Reverted::Refused(why) => format!("it does not go back to {before}: {why}"),
    }
}

fn reverted_word(reverted: &Reverted) -> &'static str {
    match reverted {
        Reverted::Restored => "ours",
        Reverted::AsBefore => "as-before",
        Reverted::NotBegun => "not-begun",
        Reverted::ChangedSince(_) => "changed-since",
        Reverted::Gone => "gone",
        Reverted::Renumbered => "renumbered",
        Reverted::Refused(_) => "refused",
    }
}
