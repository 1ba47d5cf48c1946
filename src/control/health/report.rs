//! The share of its weight that an endpoint has by what it says of its load.
//!
//! Of a load that is reported as such (ORCA) what is left counts: an endpoint that is three quarters loaded has a quarter of
//! its weight, smoothed over about a second, so that endpoints do not take turns at being the least loaded. An agent says
//! itself what it wants, and has it at once. What was not said again for half a minute counts no longer.

use crate::stage::balance::LoadReport;

/// So much of a new report goes into what is known, ten times a second.
const SMOOTHING: f64 = 0.1;
/// Nobody has less by what it reports: it could never say otherwise, without an answer to say it in.
const SHARE_MIN: f64 = 0.05;
/// For how long a report counts, in milliseconds.
const REMEMBERED_MS: u64 = 30_000;

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    said: Option<Said>,
    at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// A load, of what the endpoint can do.
    Load(f64),
    /// The share of its weight that it wants, in percent.
    Percent(u32),
}

impl Report {
    /// It reported a load of so many thousandths of what it can do.
    pub fn note_load(&mut self, permille: u16, now_ms: u64) {
        let load = f64::from(permille) / 1_000.0;
        let smoothed = match self.said {
            Some(Said::Load(before)) => before + (load - before) * SMOOTHING,
            _ => load,
        };
        (self.said, self.at_ms) = (Some(Said::Load(smoothed)), now_ms);
    }

    /// It wants so much of its weight.
    pub fn note_percent(&mut self, percent: u32, now_ms: u64) {
        (self.said, self.at_ms) = (Some(Said::Percent(percent)), now_ms);
    }

    /// Forgets what is too old, or was said where nobody asks any more.
    pub fn advance(&mut self, asked: LoadReport, now_ms: u64) {
        let is_asked = match self.said {
            Some(Said::Load(_)) => asked == LoadReport::Orca,
            Some(Said::Percent(_)) => asked == LoadReport::Agent,
            None => return,
        };
        if !is_asked || now_ms >= self.at_ms + REMEMBERED_MS {
            self.said = None;
        }
    }

    /// The share of its weight that it has, if it reported anything.
    pub fn share(&self) -> Option<f64> {
        self.said.map(|said| match said {
            Said::Load(load) => (1.0 - load).max(SHARE_MIN),
            Said::Percent(percent) => f64::from(percent) / 100.0,
        })
    }

    /// What is left of `weight`: at least one, unless it wants nothing.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is never negative"
    )]
    pub fn of(&self, weight: u32) -> u32 {
        match self.share() {
            Some(share) if share > 0.0 && weight > 0 => ((f64::from(weight) * share).round() as u32).max(1),
            Some(_) => 0,
            None => weight,
        }
    }

    /// What it says, in words.
    pub fn words(&self) -> Option<String> {
        self.said.map(|said| match said {
            Said::Load(load) => format!("reports a load of {:.0} %", load * 100.0),
            Said::Percent(0) => "wants no requests".to_owned(),
            Said::Percent(percent) => format!("wants {percent} % of its weight"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken by one report that moves everything, or by one that never fades.
    #[test]
    fn a_load_counts_by_and_by_and_not_for_ever() {
        let mut report = Report::default();
        assert_eq!((report.of(256), report.words()), (256, None));
        report.note_load(500, 0);
        assert_eq!((report.of(256), report.words().unwrap().as_str()), (128, "reports a load of 50 %"));
        report.note_load(1_000, 100);
        assert_eq!(report.of(1_000), 450, "a tenth of the way");
        (2..100).for_each(|look| report.note_load(2_000, look * 100));
        assert_eq!((report.of(1_000), report.of(1)), (50, 1), "never nothing");
        assert_eq!(report.of(0), 0, "what may get nothing gets nothing");
        report.advance(LoadReport::Orca, 30_000);
        assert!(report.share().is_some());
        report.advance(LoadReport::Orca, 39_900);
        assert_eq!(report.of(256), 256);
        report.note_load(500, 39_900);
        report.advance(LoadReport::None, 39_900);
        assert_eq!(report.of(256), 256, "nobody asks any more");
    }

    #[test]
    fn an_agent_has_what_it_wants_at_once() {
        let mut report = Report::default();
        report.note_load(900, 0);
        report.note_percent(75, 0);
        assert_eq!((report.of(256), report.words().unwrap().as_str()), (192, "wants 75 % of its weight"));
        report.note_percent(0, 0);
        assert_eq!((report.of(256), report.words().unwrap().as_str()), (0, "wants no requests"));
        report.note_percent(200, 0);
        assert_eq!(report.of(256), 512);
        report.note_load(0, 0);
        assert_eq!(report.of(256), 256);
    }
}
