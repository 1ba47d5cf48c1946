//! The house rules that a compiler does not know.
//!
//! Every file has a caption and one concern's worth of lines; rooms depend on each other downwards only; the
//! runtime stays in its room; the README's table of defaults is the one the code reads.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test failing")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most lines a file may have.
const LINES_MAX: usize = 700;

/// What each room may use of the crate besides itself. `gateway`, `demo` and `cli` stand above all rooms.
const ROOMS: [(&str, &[&str]); 7] = [
    ("base", &[]),
    ("tuning", &["base"]),
    ("http", &["base"]),
    ("shared", &["base"]),
    ("stage", &["base", "http", "shared"]),
    ("shard", &["base", "http", "shared", "stage"]),
    ("control", &["base", "http", "shared", "stage", "tuning"]),
];

/// Crates that only one room may know.
const ROOM_OF_CRATE: [(&str, &str); 8] = [
    ("monoio", "shard"),
    ("io_uring", "shard"),
    ("axum", "control"),
    ("hyper", "control"),
    ("hyper_util", "control"),
    ("listenfd", "control"),
    ("prometheus_client", "control"),
    ("rtrb", "shared"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `directory`, build output left out.
fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with(".git") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    assert!(files.len() > 50, "the walk found the sources");
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Whether `text` names `word` as a path's first segment, comments left out.
fn names(text: &str, word: &str) -> bool {
    let segment = format!("{word}::");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(&segment).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':')
        })
    })
}

/// The first segments of all paths into the crate: `crate::room::…` and each entry of `use crate::{…}`.
fn rooms_named(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let path = &text[at + "crate::".len()..];
        let Some(group) = path.strip_prefix('{') else {
            named.push(first_segment(path));
            continue;
        };
        let (mut depth, mut entry) = (0, 0);
        for (place, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    named.push(first_segment(group[entry..place].trim_start()));
                    entry = place + 1;
                }
                _ => {}
            }
            if character == '}' && depth == 0 && entry == place + 1 {
                break;
            }
        }
    }
    named
}

fn first_segment(path: &str) -> String {
    path.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[test]
fn the_walk_through_imports_finds_every_room() {
    let text =
        "use crate::{\n    http::{a, b::{c}},\n    shard::Ring, base::x,\n};\nfn f() { crate::stage::g() }";
    assert_eq!(rooms_named(text), ["http", "shard", "base", "", "stage"]);
}

#[test]
fn every_file_has_a_caption() {
    for (name, text) in sources() {
        let caption = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!((1..=16).contains(&caption), "{name}: a caption of one to sixteen lines, not {caption}");
    }
}

#[test]
fn no_file_outgrows_its_concern() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines; split it by concern");
    }
}

#[test]
fn rooms_depend_downwards() {
    for (name, text) in sources() {
        let Some(room) = name.strip_prefix("src/").and_then(|rest| rest.split(['/', '.']).next()) else {
            continue;
        };
        let Some((_, below)) = ROOMS.iter().find(|(known, _)| *known == room) else {
            assert!(
                ["lib", "main", "gateway", "demo", "cli"].contains(&room),
                "{name}: a room that this list does not know"
            );
            continue;
        };
        let known = rooms_named(&text);
        for (other, _) in ROOMS {
            let reaches = known.iter().any(|named| named == other);
            assert!(!reaches || other == room || below.contains(&other), "{name} must not know `{other}`");
        }
        for above in ["gateway", "demo", "cli"] {
            assert!(!known.iter().any(|named| named == above), "{name} must not know `{above}`");
        }
    }
}

#[test]
fn crates_stay_in_their_room() {
    for (name, text) in sources() {
        for (krate, room) in ROOM_OF_CRATE {
            let inside = name.starts_with(&format!("src/{room}/"));
            if name.starts_with("src/") && !inside && name != "src/demo.rs" {
                assert!(!names(&text, krate), "{name} must not know `{krate}`: it belongs to `{room}`");
            }
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled in halves, so that this file does not find itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    for (name, text) in sources() {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{name} has a {mark}: finish it or open an issue");
        }
    }
}

#[test]
fn the_readme_prints_the_defaults_the_code_reads() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = tollgate::control::config::defaults::markdown();
    assert!(readme.contains(&table), "README.md: replace the table of defaults by\n{table}");
}

/// One table says what is wanted of a machine; these files say it in other words.
#[test]
fn the_files_of_the_tuning_kit_are_what_the_commands_do() {
    use tollgate::tuning::knobs;
    let tuning = root().join("tuning");
    for (name, text) in [
        ("sysctl.d/60-tollgate.conf", knobs::plain_sysctls()),
        ("limits.d/60-tollgate.conf", knobs::limits_file()),
        ("systemd/tollgate.service.d/50-tune.conf", knobs::drop_in()),
        ("tuned/tollgate/tuned.conf", knobs::tuned_profile()),
    ] {
        let found = fs::read_to_string(tuning.join(name)).unwrap_or_default();
        assert!(found == text, "tuning/{name}: replace it by\n{text}");
    }
    let readme = fs::read_to_string(tuning.join("README.md")).unwrap();
    let table = knobs::markdown();
    assert!(readme.contains(&table), "tuning/README.md: replace the tables of knobs by\n{table}");
    // The unit says by itself what the drop-in adds to one that does not.
    let unit = fs::read_to_string(tuning.join("systemd/tollgate.service")).unwrap();
    let drop_in = knobs::drop_in();
    for line in drop_in.lines().filter(|line| line.contains('=')) {
        assert!(unit.lines().any(|own| own == line), "tuning/systemd/tollgate.service lacks {line}");
    }
    // Two lists of system calls are one.
    let mut of_unit: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
        .flat_map(str::split_whitespace)
        .collect();
    of_unit.sort_unstable();
    let profile = fs::read_to_string(tuning.join("seccomp/tollgate.json")).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&profile).unwrap();
    let names = profile["syscalls"][0]["names"].as_array().unwrap();
    let of_profile: Vec<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(of_unit, of_profile, "tuning/systemd/tollgate.service and tuning/seccomp/tollgate.json");
}

#[test]
fn the_story_has_the_nine_steps() {
    let story = fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
    let steps = ["accept", "parse", "route", "authenticate", "limit", "balance", "forward", "respond", "log"];
    let mut rest = story.as_str();
    for (index, step) in steps.iter().enumerate() {
        let heading = format!("### {}. {step}", index + 1);
        let at =
            rest.to_lowercase().find(&heading).unwrap_or_else(|| panic!("no heading \"{heading}\" in order"));
        rest = &rest[at..];
    }
    let request = fs::read_to_string(root().join("src/shard/request.rs")).unwrap();
    for (index, step) in steps.iter().enumerate() {
        assert!(request.contains(&format!("{} {step}", index + 1)), "request.rs names step {step}");
    }
}

#[test]
fn every_dependency_says_why() {
    for manifest in ["Cargo.toml", "loadtest/Cargo.toml"] {
        let Ok(text) = fs::read_to_string(root().join(manifest)) else { continue };
        let mut depends = false;
        for line in text.lines() {
            if line.starts_with('[') {
                depends = line.ends_with("dependencies]");
            } else if depends && line.contains(" = ") && !line.starts_with([' ', '#', '}']) {
                assert!(line.contains(" # "), "{manifest}: why is `{line}` there?");
            }
        }
    }
}
