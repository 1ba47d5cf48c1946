//! A share of the whole, as people write it (`0.01` or `1%`), and chances by it.

use std::str::FromStr;

use rand::RngExt;
use rand::rngs::StdRng;

/// Between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(f64);

impl Share {
    /// Nothing of the whole.
    pub(crate) const NONE: Self = Self(0.0);

    pub(crate) fn value(self) -> f64 {
        self.0
    }

    /// True with this probability. A share of nothing draws no number, so it does not disturb a seed.
    pub(crate) fn hit(self, random: &mut StdRng) -> bool {
        self.0 > 0.0 && random.random::<f64>() < self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        match number.trim().parse::<f64>() {
            Ok(value) if (0.0..=whole).contains(&value) => Ok(Self(value / whole)),
            _ => Err(format!("{text:?} is not a share such as 0.01 or 1%")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_percent() {
        assert_eq!("1%".parse(), Ok(Share(0.01)));
        assert_eq!("0.25".parse(), Ok(Share(0.25)));
        for text in ["", "%", "2", "101%", "-1%", "nan"] {
            assert!(text.parse::<Share>().is_err(), "{text:?} was taken");
        }
    }
}
