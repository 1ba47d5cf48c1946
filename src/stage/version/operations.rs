//! The operations an OpenAPI document knows, as a tree of path segments.
//!
//! A segment that stands there literally goes before one with a parameter, as the OpenAPI specification asks
//! (3.1.0, Paths Object). Looking a path up visits every node of the tree at most once: a node belongs to one
//! depth, and each depth sees one segment.

use super::super::route::{Methods, segments};

/// The operations of one document.
#[derive(Clone, Debug, Default)]
pub struct Operations {
    root: Node,
    count: usize,
}

/// What a document says about a path and a method.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'o> {
    /// It describes them.
    Known,
    /// It describes the path with these methods only.
    OtherMethods(&'o Methods),
    /// It does not describe the path.
    Unknown,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// The methods of the path that ends here.
    methods: Option<Methods>,
    /// Sorted by segment.
    literal: Vec<(Box<[u8]>, Self)>,
    /// Segments with a parameter.
    templates: Vec<(Template, Self)>,
}

/// A segment with a parameter: what stands before it and behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

impl Template {
    fn matches(&self, segment: &[u8]) -> bool {
        // A parameter is never empty.
        segment.len() > self.before.len() + self.after.len()
            && segment.starts_with(&self.before)
            && segment.ends_with(&self.after)
    }
}

impl Operations {
    /// Adds the path `template` (such as `/payments/{id}`) with its methods.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn add(&mut self, template: &str, methods: Methods) -> Result<(), String> {
        if !template.starts_with('/') {
            return Err("a path begins with /".to_owned());
        }
        let mut node = &mut self.root;
        for segment in segments(template.as_bytes()) {
            node = node.child(segment)?;
        }
        self.count += methods.names().map_or(1, <[_]>::len);
        match &mut node.methods {
            Some(_) => Err("another path of the document matches the same requests".to_owned()),
            empty => {
                *empty = Some(methods);
                Ok(())
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the document knows `method` at `path`, which is in normal form.
    pub fn knows(&self, path: &[u8], method: &str) -> Operation<'_> {
        match self.root.find(segments(path)) {
            Some(methods) if methods.contain(method) => Operation::Known,
            Some(methods) => Operation::OtherMethods(methods),
            None => Operation::Unknown,
        }
    }
}

impl Node {
    /// The child for a segment of a template.
    fn child(&mut self, segment: &[u8]) -> Result<&mut Self, String> {
        let text = String::from_utf8_lossy(segment).into_owned();
        let (open, close) = (memchr::memchr(b'{', segment), memchr::memrchr(b'}', segment));
        match (open, close) {
            (None, None) => {
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@%".contains(byte);
                if !segment.iter().all(plain) || matches!(segment, b"." | b"..") {
                    return Err(format!("the segment \"{text}\" is not one of a path in normal form"));
                }
                let place = match self.literal.binary_search_by(|(known, _)| (**known).cmp(segment)) {
                    Ok(place) => place,
                    Err(place) => {
                        self.literal.insert(place, (segment.into(), Self::default()));
                        place
                    }
                };
                Ok(&mut self.literal[place].1)
            }
            (Some(open), Some(close)) if open + 1 < close => {
                if segment[open + 1..close].iter().any(|byte| b"{}".contains(byte)) {
                    return Err(format!("the segment \"{text}\" has more than one parameter"));
                }
                let template =
                    Template { before: segment[..open].into(), after: segment[close + 1..].into() };
                let place = self.templates.iter().position(|(known, _)| *known == template);
                let place = place.unwrap_or_else(|| {
                    self.templates.push((template, Self::default()));
                    self.templates.len() - 1
                });
                Ok(&mut self.templates[place].1)
            }
            _ => Err(format!("the braces of the segment \"{text}\" do not enclose a parameter")),
        }
    }

    fn find<'p>(&self, mut rest: impl Iterator<Item = &'p [u8]> + Clone) -> Option<&Methods> {
        let Some(segment) = rest.next() else { return self.methods.as_ref() };
        let literal = self.literal.binary_search_by(|(known, _)| (**known).cmp(segment)).ok();
        let literal = literal.map(|place| &self.literal[place].1);
        let templates =
            self.templates.iter().filter(|(template, _)| template.matches(segment)).map(|(_, node)| node);
        literal.into_iter().chain(templates).find_map(|node| node.find(rest.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(methods: &[&str]) -> Methods {
        Methods::These(methods.iter().map(|&method| method.into()).collect())
    }

    #[test]
    fn paths_are_found_by_literal_and_by_parameter() {
        let mut known = Operations::default();
        known.add("/payments", these(&["GET", "POST"])).unwrap();
        known.add("/payments/{id}", these(&["GET"])).unwrap();
        known.add("/payments/mine", these(&["DELETE"])).unwrap();
        known.add("/payments/mine/{line}/x", these(&["GET"])).unwrap();
        known.add("/payments/{id}/lines", these(&["GET"])).unwrap();
        known.add("/files/{name}.json", these(&["GET"])).unwrap();
        for (path, method, expected) in [
            ("/payments", "POST", true),
            ("/payments/", "HEAD", true),
            ("/payments/7", "GET", true),
            ("/payments/7;x=1", "GET", true),
            ("/payments/mine", "DELETE", true),
            ("/payments/mine", "GET", false),
            // The literal goes before, and what it does not lead to the parameter may.
            ("/payments/mine/lines", "GET", true),
            ("/payments/7/lines/8", "GET", false),
            ("/files/a.json", "GET", true),
            ("/files/.json", "GET", false),
            ("/files/a.xml", "GET", false),
            ("/", "GET", false),
            ("/other", "GET", false),
        ] {
            let found = known.knows(path.as_bytes(), method);
            assert_eq!(found == Operation::Known, expected, "{method} {path}: {found:?}");
        }
        assert_eq!(known.knows(b"/payments/7", "PUT"), Operation::OtherMethods(&these(&["GET"])));
        assert_eq!(known.knows(b"/other", "PUT"), Operation::Unknown);
    }

    #[test]
    fn templates_with_two_readings_are_refused() {
        let mut known = Operations::default();
        known.add("/a/{x}", these(&["GET"])).unwrap();
        for bad in ["a", "/a/{y}", "/a/{}", "/a/}{", "/a/{x", "/a/{x}{y}", "/a b", "/a/../b", "/a?b"] {
            assert!(known.add(bad, these(&["GET"])).is_err(), "{bad}");
        }
    }
}
