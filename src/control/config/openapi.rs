//! An OpenAPI file of an API's version: which operations it describes.
//!
//! Reads versions 3.0 and 3.1, as JSON or YAML, and of those only what tells operations apart: servers, paths and
//! methods. Schemas are the endpoint's business. A mistake names the file, the line and the field.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    http::target,
    stage::{
        route::Methods,
        version::{Description, Document, Operations},
    },
};

use super::{issue::Issues, reader::Field};

/// The longest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(expecting = "an OpenAPI document")]
struct OpenApi {
    openapi: String,
    #[serde(default)]
    servers: Vec<Server>,
    paths: BTreeMap<String, PathItem>,
}

#[derive(Deserialize)]
struct Server {
    url: String,
}

/// The operations of a path. Each must be an object; what is in it does not matter here.
#[derive(Deserialize)]
#[serde(expecting = "an object with operations")]
struct PathItem {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    get: Option<Operation>,
    put: Option<Operation>,
    post: Option<Operation>,
    delete: Option<Operation>,
    options: Option<Operation>,
    head: Option<Operation>,
    patch: Option<Operation>,
}

type Operation = BTreeMap<String, IgnoredAny>;

impl PathItem {
    fn methods(&self) -> Vec<Box<str>> {
        let all = [
            ("GET", &self.get),
            ("PUT", &self.put),
            ("POST", &self.post),
            ("DELETE", &self.delete),
            ("OPTIONS", &self.options),
            ("HEAD", &self.head),
            ("PATCH", &self.patch),
        ];
        all.into_iter()
            .filter(|(_, operation)| operation.is_some())
            .map(|(method, _)| method.into())
            .collect()
    }
}

/// Reads the file that `field` names. Callers get the document at `path`, if there is one.
pub(super) fn load(
    field: &Field<String>,
    path: Option<&str>,
    directory: &Path,
    issues: &Issues,
) -> Option<Description> {
    let file = directory.join(&field.value);
    let described = fs::read(&file).map_err(|error| format!("cannot be read: {error}")).and_then(|bytes| {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("has more than {DOCUMENT_BYTES_MAX} bytes"));
        }
        let is_json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let operations = operations(&bytes, is_json)?;
        Ok((operations, bytes, is_json))
    });
    match described {
        Ok((operations, bytes, is_json)) => Some(Description {
            operations,
            document: Arc::new(Document {
                path: path.map(Into::into),
                media_type: if is_json { "application/json" } else { "application/yaml" },
                bytes: bytes.into(),
            }),
        }),
        Err(mistake) => {
            let separator = if mistake.starts_with(|first: char| first.is_ascii_digit()) { ":" } else { " " };
            field.wrong(issues, format!("{}{separator}{mistake}", file.display()));
            None
        }
    }
}

/// Whether `path` is one in normal form, without query and parameters.
pub(super) fn is_normal_path(path: &str) -> bool {
    let mut scratch = Vec::new();
    path.starts_with('/')
        && !path.contains(';')
        && target::parse("GET", path, &mut scratch)
            .is_ok_and(|target| target.query.is_none() && target.path == path.as_bytes())
}

/// The operations of a document, or `line: field: what is wrong` with it.
fn operations(bytes: &[u8], is_json: bool) -> Result<Operations, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|&byte| byte == b'\n').count();
        format!("{line}: not UTF-8")
    })?;
    let document = if is_json { parse_json(text)? } else { parse_yaml(text)? };
    let at = |key: &str, field: String, mistake: &str| format!("{}: {field}: {mistake}", line_of(text, key));
    if !["3.0", "3.1"].iter().any(|version| document.openapi.starts_with(version)) {
        let mistake =
            format!("\"{}\" is not a version this gateway reads; 3.0 and 3.1 are", document.openapi);
        return Err(at("openapi", "openapi".to_owned(), &mistake));
    }
    if document.paths.is_empty() {
        return Err(at("paths", "paths".to_owned(), "describes no operation, so all would be refused"));
    }
    let mut bases: Vec<&str> = document.servers.iter().map(|server| base_path(&server.url)).collect();
    bases.sort_unstable();
    bases.dedup();
    if bases.is_empty() {
        bases.push("");
    }
    let mut operations = Operations::default();
    for (template, item) in &document.paths {
        // The specification's extensions stand among the paths too.
        if template.starts_with("x-") {
            continue;
        }
        let field = || format!("paths.{template}");
        if item.reference.is_some() {
            return Err(at(template, field(), "$ref is not followed; write the operations here"));
        }
        for base in &bases {
            let whole = format!("{base}{template}");
            let methods = Methods::These(item.methods().into());
            operations.add(&whole, methods).map_err(|mistake| at(template, field(), &mistake))?;
        }
    }
    Ok(operations)
}

fn parse_json(text: &str) -> Result<OpenApi, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let document = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| told(error.inner().line(), &error.path().to_string(), &error.inner().to_string()))?;
    json.end().map_err(|error| told(error.line(), ".", &error.to_string()))?;
    Ok(document)
}

fn parse_yaml(text: &str) -> Result<OpenApi, String> {
    let yaml = serde_yaml_ng::Deserializer::from_str(text);
    serde_path_to_error::deserialize(yaml).map_err(|error| {
        let line = error.inner().location().map_or(1, |place| place.line());
        told(line, &error.path().to_string(), &error.inner().to_string())
    })
}

/// A mistake with its place; `.` is the document itself.
fn told(line: usize, field: &str, mistake: &str) -> String {
    if field == "." || mistake.starts_with(field) {
        format!("{line}: {mistake}")
    } else {
        format!("{line}: {field}: {mistake}")
    }
}

/// The path of a server's URL, without a final slash.
fn base_path(url: &str) -> &str {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
        None => url,
    };
    path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/')
}

/// The line on which `key` stands as a key, from 1.
fn line_of(text: &str, key: &str) -> usize {
    let is_key = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        line.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    text.lines().position(is_key).map_or(1, |place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::version::Operation as Known;

    #[test]
    fn both_spellings_say_the_same() {
        let yaml =
            "openapi: 3.1.0\nservers:\n  - url: https://api.example/v1/\npaths:\n  /pay/{id}:\n    get: {}\n";
        let json = r#"{"openapi":"3.0.3","servers":[{"url":"/v1"}],"paths":{"/pay/{id}":{"get":{"responses":{}}},"x-y":{}}}"#;
        for (text, is_json) in [(yaml, false), (json, true)] {
            let known = operations(text.as_bytes(), is_json).unwrap();
            assert_eq!(known.count(), 1);
            assert_eq!(known.knows(b"/v1/pay/7", "GET"), Known::Known);
            assert_eq!(known.knows(b"/pay/7", "GET"), Known::Unknown);
        }
    }

    #[test]
    fn mistakes_name_line_and_field() {
        for (text, is_json, expected) in [
            ("openapi: 3.1.0\npaths:\n  /a:\n    get: text\n", false, "4: paths./a.get: "),
            ("openapi: 3.1.0\npaths:\n  /a: []\n", false, "3: paths./a: "),
            ("openapi: 3.1.0\npaths: {\n", false, "3: "),
            ("openapi: 3.1.0\npaths:\n  /a:\n    $ref: x\n", false, "3: paths./a: $ref"),
            ("openapi: 3.1.0\npaths:\n  /a/{x: {}\n", false, "3: "),
            ("openapi: 2.0.0\npaths: {}\n", false, "1: openapi: "),
            ("openapi: 3.0.0\n\npaths: {}\n", false, "3: paths: "),
            (
                "{\n\"openapi\": \"3.1.0\",\n\"paths\": { \"/a\": { \"get\": 1 } }\n}",
                true,
                "3: paths./a.get: ",
            ),
            ("{\n\"openapi\": \"3.1.0\"\n}", true, "3: "),
            ("{\n\"openapi\": \"3.1.0\",\n}", true, "3: "),
        ] {
            let mistake = operations(text.as_bytes(), is_json).unwrap_err();
            assert!(mistake.starts_with(expected), "{mistake}");
        }
    }
}
