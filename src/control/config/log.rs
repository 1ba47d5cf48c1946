//! `[log]`: where the lines go and what they look like, checked.
//!
//! Opens nothing and creates nothing: whether a path can be written is asked, and tried when the log starts.

use std::{path::Path, time::Duration};

use crate::stage::listed::Lists;

use super::{
    super::access_log::{ConsumerKey, Template},
    file::Log as FileLog,
    issue::Issues,
    keys::{read, without_newline},
    listed,
    plan::{LogFormat, LogPlan, LogSink, Rotation},
    reader::Field,
    values::one_of,
    writable::may_be_written,
};

/// What `log` means; `None` if a mistake left a hole.
pub(super) fn plan(log: &FileLog, directory: &Path, issues: &Issues) -> Option<LogPlan> {
    let sink = sink(&log.access, directory, issues);
    let lists = listed::plan(log, issues);
    let format = format(&log.format, &lists, issues)?;
    let consumer_key = log.consumer_key_file.as_ref().map(|field| {
        let key =
            read(&directory.join(&field.value)).and_then(|bytes| ConsumerKey::new(without_newline(&bytes)));
        key.map_err(|mistake| field.wrong(issues, mistake)).ok()
    });
    let consumer_key = match consumer_key {
        Some(None) => return None,
        key => key.flatten(),
    };
    let rotation = Rotation { bytes: log.rotate_bytes, age: log.rotate_age_ms.map(Duration::from_millis) };
    let sample_percent = u8::try_from(log.sample_percent).unwrap_or(100);
    Some(LogPlan {
        sink,
        format,
        lists,
        sample_percent,
        ring_bytes: usize::try_from(log.ring).unwrap_or(usize::MAX),
        rotation,
        consumer_key,
    })
}

/// A word, or a template: whatever has a brace.
fn format(field: &Field<String>, lists: &Lists, issues: &Issues) -> Option<LogFormat> {
    if field.value.contains(['{', '}']) {
        let template =
            Template::parse(&field.value, lists).map_err(|error| field.wrong(issues, error)).ok()?;
        return Some(LogFormat::Template(template));
    }
    let words = [("json", false), ("combined", true)];
    Some(if one_of(field, &words, issues)? { LogFormat::Combined } else { LogFormat::Json })
}

fn sink(field: &Field<String>, directory: &Path, issues: &Issues) -> LogSink {
    match field.value.as_str() {
        "off" => LogSink::Off,
        "stdout" => LogSink::Stdout,
        "syslog" => LogSink::Syslog("/dev/log".into()),
        path if path.starts_with("syslog:") => LogSink::Syslog(directory.join(&path["syslog:".len()..])),
        path => {
            let path = directory.join(path);
            if let Err(mistake) = may_be_written(&path) {
                field.wrong(issues, mistake);
            }
            LogSink::File(path)
        }
    }
}
