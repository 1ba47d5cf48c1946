//! Reads the corpus: every case of every file beside this one.

use std::{fs, path::Path};

/// One hostile request, or several, and what is promised of it.
#[derive(Debug)]
pub(crate) struct Case {
    /// The file it stands in.
    pub(crate) class: String,
    pub(crate) name: String,
    pub(crate) wire: Vec<u8>,
    /// Requests that reach the endpoint, as `METHOD target [body]`.
    pub(crate) forwarded: Vec<String>,
    /// The code of the refusal before the head was accepted.
    pub(crate) refused: Option<String>,
    /// The code of the refusal within a body.
    pub(crate) cut: Option<String>,
    /// Fields of the first request, as the endpoint sees them: `name: value`.
    pub(crate) arrives: Vec<String>,
    /// Names that stand in no field the endpoint sees.
    pub(crate) missing: Vec<String>,
}

/// All cases, file after file.
pub(crate) fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "toml"))
        .flat_map(|file| read(file))
        .collect()
}

fn read(file: &Path) -> Vec<Case> {
    let text = fs::read_to_string(file).unwrap();
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let class = file.file_stem().unwrap().to_string_lossy().into_owned();
    table["case"].as_array().unwrap().iter().map(|case| case_of(&class, case)).collect()
}

fn case_of(class: &str, case: &toml::Value) -> Case {
    let text = |key: &str| case.get(key).map(|value| value.as_str().unwrap().to_owned());
    let name = text("name").unwrap();
    let mut wire =
        text("wire").map(String::into_bytes).or_else(|| text("hex").map(|hex| from_hex(&hex))).unwrap();
    if let Some(long) = case.get("long") {
        let times = usize::try_from(long["times"].as_integer().unwrap()).unwrap();
        let whole = String::from_utf8(wire).unwrap();
        assert!(whole.contains("<long>"), "{class}: {name}: nothing is long");
        wire = whole.replace("<long>", &long["text"].as_str().unwrap().repeat(times)).into_bytes();
    }
    let texts = |key: &str| {
        case.get(key).map_or_else(Vec::new, |list| {
            list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        })
    };
    let case = Case {
        class: class.to_owned(),
        name,
        wire,
        forwarded: texts("forwarded"),
        refused: text("refused"),
        cut: text("cut"),
        arrives: texts("arrives"),
        missing: texts("missing"),
    };
    assert!(
        !case.forwarded.is_empty() || case.refused.is_some() != case.cut.is_some(),
        "{class}: {}: one verdict",
        case.name
    );
    case
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
