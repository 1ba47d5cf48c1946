//! What an endpoint says of its own load.
//!
//! In each answer, as Envoy and gRPC have it (ORCA, `endpoint-load-metrics`), or in the body of a probe, as HAProxy's
//! agents do. What becomes of it is control's business: see `control/health/report.rs`.

use serde::Deserialize;

/// Where endpoints say how loaded they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadReport {
    /// Nowhere.
    #[default]
    None,
    /// In the `endpoint-load-metrics` of their answers.
    Orca,
    /// In the body of the answer to an HTTP probe.
    Agent,
}

impl LoadReport {
    /// As the configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Orca => "orca",
            Self::Agent => "agent",
        }
    }
}

/// The load in a value of `endpoint-load-metrics`, in thousandths of what the endpoint can do: that of the application if
/// it is said, else that of the processor. `TEXT name=number, …`, `JSON {…}` or the first without its word; `None` if
/// neither figure is in it.
pub fn utilization(value: &[u8]) -> Option<u16> {
    let value = std::str::from_utf8(value).ok()?.trim_ascii();
    let (format, rest) = value.split_once(' ').unwrap_or(("", value));
    let said = match format {
        "JSON" => serde_json::from_str(rest).ok()?,
        "TEXT" => Said::in_text(rest),
        _ => Said::in_text(value),
    };
    said.permille()
}

#[derive(Default, Deserialize)]
struct Said {
    #[serde(alias = "applicationUtilization")]
    application_utilization: Option<f64>,
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: Option<f64>,
}

impl Said {
    fn in_text(text: &str) -> Self {
        let mut said = Self::default();
        for (name, number) in text.split(',').filter_map(|part| part.split_once('=')) {
            let number = || number.trim_ascii().parse().ok();
            match name.trim_ascii() {
                "application_utilization" => said.application_utilization = number(),
                "cpu_utilization" => said.cpu_utilization = number(),
                _ => {}
            }
        }
        said
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
    fn permille(&self) -> Option<u16> {
        // Nothing is what a figure that is not measured looks like there.
        let measured = |figure: &f64| *figure > 0.0;
        let application = self.application_utilization.filter(measured);
        let load = application.or(self.cpu_utilization).filter(|load| *load >= 0.0)?;
        Some((load * 1_000.0).round().min(PERMILLE_MAX) as u16)
    }
}

/// Sixty times what an endpoint can do: no more is told apart.
const PERMILLE_MAX: f64 = 60_000.0;

/// What an agent said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentSaid {
    /// How much of its weight the endpoint wants, in percent.
    pub percent: Option<u32>,
    /// Whether it says that it is not there.
    pub is_down: bool,
}

/// What is in the first line of `body`: words between blanks and commas (HAProxy's `agent-check`). `75%` is the share of
/// its weight that the endpoint wants, `drain` and `maint` are none of it, `ready` and `up` all unless a share is said,
/// `down`, `failed` and `stopped` that it is not there. Other words say nothing.
pub fn agent(body: &str) -> AgentSaid {
    let line = body.lines().next().unwrap_or_default();
    let mut said = AgentSaid::default();
    let mut otherwise = None;
    for word in line.split(|between: char| between.is_ascii_whitespace() || between == ',') {
        match word.to_ascii_lowercase().as_str() {
            "drain" | "maint" => said.percent = Some(0),
            "down" | "failed" | "stopped" => said.is_down = true,
            "ready" | "up" => otherwise = Some(100),
            word => {
                let share = word.strip_suffix('%').and_then(|number| number.parse::<u32>().ok());
                said.percent = said.percent.or(share.map(|percent| percent.min(PERCENT_MAX)));
            }
        }
    }
    said.percent = said.percent.or(otherwise);
    said
}

/// The most of its weight that an endpoint can want: ten times that.
const PERCENT_MAX: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_both_notations() {
        let all = |value: &str| utilization(value.as_bytes());
        for (value, permille) in [
            ("TEXT cpu_utilization=0.3,mem_utilization=0.8", Some(300)),
            ("cpu_utilization=0.3", Some(300)),
            ("TEXT cpu_utilization=0.3, application_utilization=0.75", Some(750)),
            ("TEXT application_utilization=0,cpu_utilization=0.0006", Some(1)),
            ("TEXT cpu_utilization=0", Some(0)),
            (r#"JSON {"cpu_utilization": 0.5, "named_metrics": {"queue": 3}}"#, Some(500)),
            (r#"JSON {"cpuUtilization": 0.5, "applicationUtilization": 1.25}"#, Some(1_250)),
            ("TEXT cpu_utilization=1e9", Some(60_000)),
            ("TEXT cpu_utilization=inf", Some(60_000)),
        ] {
            assert_eq!(all(value), permille, "{value}");
        }
        for nothing in [
            "",
            "TEXT",
            "TEXT mem_utilization=0.3",
            "TEXT cpu_utilization=-0.1",
            "TEXT cpu_utilization=NaN",
            "TEXT cpu_utilization=a",
            "JSON {",
            "JSON 5",
            r#"JSON {"cpu_utilization": "0.5"}"#,
            "BIN CZqZmZmZmbk/",
            "\u{e9}",
        ] {
            assert_eq!(all(nothing), None, "{nothing}");
        }
        assert_eq!(utilization(b"TEXT \xff"), None);
    }

    #[test]
    fn what_agents_say() {
        let said = |percent, is_down| AgentSaid { percent, is_down };
        for (body, expected) in [
            ("75%", said(Some(75), false)),
            ("75%\r\nmore", said(Some(75), false)),
            ("up 50%\n", said(Some(50), false)),
            ("50%,ready", said(Some(50), false)),
            ("ready", said(Some(100), false)),
            ("drain", said(Some(0), false)),
            ("drain 50%", said(Some(0), false)),
            ("DOWN#going home", said(None, false)),
            ("down", said(None, true)),
            ("stopped 20%", said(Some(20), true)),
            ("99999%", said(Some(1_000), false)),
            ("-5% 5.5%", said(None, false)),
            ("maxconn:30", said(None, false)),
            ("{\"status\":\"ok\"}", said(None, false)),
            ("", said(None, false)),
        ] {
            assert_eq!(agent(body), expected, "{body}");
        }
    }
}
