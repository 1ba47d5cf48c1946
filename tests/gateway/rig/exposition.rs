//! The text of `/metrics`, read by the letter of OpenMetrics 1.0.
//!
//! Whatever a scraper could stumble over fails here: families that are torn apart or not introduced, names
//! and labels that are none, series that stand twice, escapes that do not exist, buckets that shrink.

use std::collections::{BTreeMap, BTreeSet};

/// All families, by name (that of a counter is without `_total`).
pub(crate) struct Exposition(BTreeMap<String, Family>);

/// One family.
#[derive(Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Debug)]
pub(crate) struct Sample {
    /// With its suffix.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name == name
            && self.labels.len() == labels.len()
            && labels.iter().all(|(label, value)| self.labels.get(*label).is_some_and(|own| own == value))
    }
}

impl Exposition {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
        for line in body.split_terminator('\n') {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(is_name(name) && !families.contains_key(name), "{line}");
                current = name.to_owned();
                families.insert(current.clone(), Family { help: help.to_owned(), ..Family::default() });
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                let family = families.get_mut(name).expect(line);
                assert!(name == current && family.kind.is_empty() && family.samples.is_empty(), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                family.kind = kind.to_owned();
            } else {
                let sample = sample(line);
                let family = families.get_mut(&current).expect(line);
                let suffix = sample.name.strip_prefix(&current).expect(line);
                let allowed: &[&str] = match family.kind.as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    _ => &["_bucket", "_count", "_sum"],
                };
                assert!(allowed.contains(&suffix), "{line} in the {} {current}", family.kind);
                family.samples.push(sample);
            }
        }
        for (name, family) in &families {
            family.check(name);
        }
        Self(families)
    }

    #[track_caller]
    pub(crate) fn family(&self, name: &str) -> &Family {
        self.0.get(name).unwrap_or_else(|| panic!("no family {name}"))
    }

    /// The one sample with this name and exactly these labels; 0 if there is none.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = ["_total", "_sum", "_count", "_bucket", ""]
            .iter()
            .find_map(|suffix| self.0.get(name.strip_suffix(suffix)?))
            .unwrap_or_else(|| panic!("no family for {name}"));
        family.samples.iter().find(|sample| sample.is(name, labels)).map_or(0.0, |sample| sample.value)
    }

    /// The sum of all samples of a counter or a gauge.
    #[track_caller]
    pub(crate) fn sum(&self, family: &str) -> f64 {
        self.family(family).samples.iter().map(|sample| sample.value).sum()
    }
}

impl Family {
    #[track_caller]
    fn check(&self, name: &str) {
        assert!(!self.kind.is_empty() && !self.help.is_empty(), "{name} has no TYPE or HELP");
        let mut series = BTreeSet::new();
        for sample in &self.samples {
            assert!(series.insert((&sample.name, &sample.labels)), "{sample:?} stands twice");
            if self.kind != "gauge" {
                assert!(sample.value.is_finite() && sample.value >= 0.0, "{sample:?}");
            }
            if self.kind == "counter" || self.kind == "histogram" && !sample.name.ends_with("_sum") {
                assert_eq!(sample.value.fract(), 0.0, "{sample:?}");
            }
        }
        if self.kind == "histogram" {
            self.check_histograms(name);
        }
    }

    #[track_caller]
    fn check_histograms(&self, name: &str) {
        let mut groups: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let mut labels = sample.labels.clone();
            let le = labels.remove("le").unwrap_or_else(|| panic!("{sample:?} has no le"));
            assert!(le == "+Inf" || le.contains(['.', 'e']), "{le} is no canonical float");
            groups.entry(labels).or_default().push((number(&le), sample.value));
        }
        let counts = self.samples.iter().filter(|sample| sample.name.ends_with("_count")).count();
        let sums = self.samples.iter().filter(|sample| sample.name.ends_with("_sum")).count();
        assert_eq!((counts, sums), (groups.len(), groups.len()), "{name}");
        for (labels, buckets) in groups {
            let ordered = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            assert!(ordered, "{name} {labels:?}: {buckets:?}");
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            let count = self
                .samples
                .iter()
                .find(|sample| sample.is(&format!("{name}_count"), &labels))
                .unwrap()
                .value;
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name} {labels:?}");
        }
    }
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect(line);
    let name = line[..end].to_owned();
    assert!(is_name(&name), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").expect(line);
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, behind) = unescaped(value).expect(line);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            match behind.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = behind.strip_prefix('}').expect(line);
                    break;
                }
            }
        }
    }
    Sample { name, labels, value: number(rest.strip_prefix(' ').expect(line)) }
}

/// The value up to its quotation mark, and what stands behind that.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                plain @ ('"' | '\\') => plain,
                _ => return None,
            }),
            (_, plain) => value.push(plain),
        }
    }
}

#[track_caller]
fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        _ => {
            let allowed = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
            assert!(text.bytes().all(allowed), "{text:?} is no number");
            text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
        }
    }
}

fn is_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    name.bytes().next().is_some_and(first) && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}
