//! The request-mix file: weighted routes in TOML, with errors that name the line.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use toml::Spanned;

use super::{Expected, Route, template::Template};
use crate::exit::SetUp;

/// Routes of one mix; more are refused.
const ROUTES_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MixFile {
    #[serde(default)]
    route: Vec<Spanned<RouteTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteTable {
    name: Option<String>,
    weight: Option<Spanned<f64>>,
    method: Option<Spanned<String>>,
    path: Spanned<String>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
    body: Option<Spanned<String>>,
    /// Sent as it is, without placeholders; relative to the mix file.
    body_file: Option<Spanned<String>>,
    #[serde(default)]
    idempotency_key: bool,
    expect: Option<Spanned<Vec<u16>>>,
}

/// Reads a mix file.
///
/// # Errors
/// With the file, the line and what to write instead.
pub(crate) fn read(file: &Path) -> Result<Vec<Route>, SetUp> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| SetUp::new(format!("cannot read the mix file {}: {error}", file.display())))?;
    let mix: MixFile = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(1, |span| line(&text, span.start));
        SetUp::new(format!("{}:{at}: {}", file.display(), error.message()))
    })?;
    if mix.route.is_empty() || mix.route.len() > ROUTES_MAX {
        return Err(SetUp::new(format!("{}: want 1 to {ROUTES_MAX} [[route]] tables", file.display())));
    }
    let place = Place { file, text: &text };
    mix.route.into_iter().enumerate().map(|(index, table)| place.route(index, table)).collect()
}

/// Where a fault is.
struct Place<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn route(&self, index: usize, table: Spanned<RouteTable>) -> Result<Route, SetUp> {
        let table = table.into_inner();
        let weight = table.weight.as_ref().map_or(1.0, |weight| *weight.get_ref());
        if !(weight.is_finite() && weight > 0.0) {
            return Err(self.fault(table.weight.as_ref(), "weight", "must be more than 0"));
        }
        if let Some(method) = &table.method
            && !is_token(method.get_ref())
        {
            return Err(self.fault(Some(method), "method", "is not an HTTP method"));
        }
        if !table.path.get_ref().starts_with('/') {
            return Err(self.fault(Some(&table.path), "path", "must begin with /"));
        }
        let mut fields = Vec::with_capacity(table.headers.len());
        for (name, value) in &table.headers {
            if !is_token(name) || value.get_ref().bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return Err(self.fault(Some(value), &format!("headers.{name}"), "is not a header field"));
            }
            fields.push((name.clone(), self.template(value, &format!("headers.{name}"))?));
        }
        if let Some(statuses) = &table.expect
            && (statuses.get_ref().is_empty()
                || statuses.get_ref().iter().any(|status| !(200..600).contains(status)))
        {
            return Err(self.fault(Some(statuses), "expect", "wants statuses from 200 to 599"));
        }
        let body = match (&table.body, &table.body_file) {
            (Some(_), Some(other)) => {
                return Err(self.fault(Some(other), "body_file", "stands beside a body"));
            }
            (Some(body), None) => Some(self.template(body, "body")?),
            (None, Some(name)) => Some(self.body_file(name)?),
            (None, None) => None,
        };
        Ok(Route {
            name: table.name.unwrap_or_else(|| format!("route-{}", index + 1)),
            weight,
            method: table.method.map_or_else(|| "GET".into(), Spanned::into_inner),
            path: self.template(&table.path, "path")?,
            fields,
            body,
            idempotency_key: table.idempotency_key,
            expected: table
                .expect
                .map_or(Expected::Success, |statuses| Expected::OneOf(statuses.into_inner())),
        })
    }

    fn body_file(&self, name: &Spanned<String>) -> Result<Template, SetUp> {
        let path = self.file.parent().unwrap_or(Path::new("")).join(name.get_ref());
        let bytes = std::fs::read(&path).map_err(|error| {
            self.fault(Some(name), "body_file", &format!("{} cannot be read: {error}", path.display()))
        })?;
        Ok(Template::verbatim(bytes))
    }

    fn template(&self, text: &Spanned<String>, key: &str) -> Result<Template, SetUp> {
        Template::parse(text.get_ref()).map_err(|error| self.fault(Some(text), key, &error))
    }

    fn fault<T>(&self, value: Option<&Spanned<T>>, key: &str, what: &str) -> SetUp {
        let at = value.map_or(1, |value| line(self.text, value.span().start));
        SetUp::new(format!("{}:{at}: {key} {what}", self.file.display()))
    }
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// A token of RFC 9110 section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Route>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mix.toml");
        std::fs::write(&file, text).expect("written");
        std::fs::write(folder.path().join("body.bin"), b"{{raw}}").expect("written");
        read(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_routes() {
        let routes = read_text(
            "[[route]]\npath = '/a'\n\n[[route]]\nname = 'pay'\nweight = 2.5\nmethod = 'POST'\npath = '/b/{{seq}}'\n\
             body = '{}'\nidempotency_key = true\nexpect = [200, 201]\nheaders = { X-A = '{{client}}' }\n\
             [[route]]\npath = '/c'\nbody_file = 'body.bin'\n",
        )
        .expect("a mix");
        assert_eq!(routes.len(), 3);
        assert_eq!(
            (routes[0].name.as_str(), routes[0].method.as_str(), routes[0].weight),
            ("route-1", "GET", 1.0)
        );
        assert_eq!(routes[1].expected, Expected::OneOf(vec![200, 201]));
        assert!(routes[1].idempotency_key && !routes[1].path.constant());
        assert_eq!(routes[2].body, Some(Template::verbatim(b"{{raw}}".to_vec())));
    }

    #[test]
    fn names_the_line_of_a_mistake() {
        let cases = [
            ("[[route]]\npath = '/a'\nwieght = 2\n", ":3:"),
            ("[[route]]\npath = '/a'\nweight = 0\n", ":3: weight"),
            ("[[route]]\npath = 'a'\n", ":2: path"),
            ("[[route]]\nname = 'x'\npath = '/a'\nbody = '{{nope}}'\n", ":4: body"),
            ("[[route]]\npath = '/a'\nexpect = [20]\n", ":3: expect"),
            ("[[route]]\npath = '/a'\nmethod = 'GET /'\n", ":3: method"),
            ("[[route]]\npath = '/a'\nbody_file = 'missing.bin'\n", ":3: body_file"),
            ("[[route]]\npath = '/a'\nheaders = { A = \"x\\r\\ny\" }\n", ":3: headers.A"),
            ("[[route]]\npath = \n", ":2:"),
            ("", "[[route]]"),
        ];
        for (text, part) in cases {
            let error = read_text(text).map(drop).expect_err("a fault");
            assert!(error.contains(part), "{text:?} gave {error:?}, which lacks {part:?}");
        }
    }
}
