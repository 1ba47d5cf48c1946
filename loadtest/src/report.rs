//! What a run found, for people and for programs: the summary, the JSON report, the live line.

pub(crate) mod certify;
pub(crate) mod environment;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod live;
pub(crate) mod summary;

use std::{
    io::{self, Write},
    path::Path,
};

/// Prints a summary for people. Standard output belongs to the JSON where it was asked for there.
pub(crate) fn print(text: &str, json: Option<&Path>) {
    // A closed pipe is the reader's wish.
    let _ = if json == Some(Path::new("-")) {
        io::stderr().write_all(text.as_bytes())
    } else {
        io::stdout().write_all(text.as_bytes())
    };
}

/// A number of things, as `1 thread` or `2 threads`.
pub(crate) fn counted(number: usize, thing: &str) -> String {
    let plural = match (number, thing.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {thing}{plural}")
}
