//! What a setting should be, compared with what it is. Pure: texts in, texts out.

/// What is wanted of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// This and nothing else.
    Exactly(&'static str),
    /// This much or more; what is larger stays.
    AtLeast(u64),
    /// This much or less.
    AtMost(u64),
    /// Of several numbers the last at least this; the others stay.
    LastAtLeast(u64),
    /// A range that holds this one.
    Covers(u64, u64),
    /// The first of these; any other of them is as good.
    OneOf(&'static [&'static str]),
    /// What follows from the machine's queues and CPUs, or from the other knobs.
    Derived,
}

impl Want {
    /// What has to be written where `now` is, words with one blank between them; nothing if it is as wanted.
    ///
    /// # Errors
    /// `now` is not what such a setting holds.
    pub fn beyond(self, now: &str) -> Result<Option<String>, String> {
        let number = |text: &str| {
            text.parse::<u64>().map_err(|_| format!("\"{text}\" is not the number that was expected"))
        };
        let words: Vec<&str> = now.split(' ').collect();
        Ok(match self {
            Self::Exactly(wanted) => (now != wanted).then(|| wanted.to_owned()),
            Self::AtLeast(least) => (number(now)? < least).then(|| least.to_string()),
            Self::AtMost(most) => (number(now)? > most).then(|| most.to_string()),
            Self::LastAtLeast(least) => {
                let (last, others) = words.split_last().unwrap_or((&"", &[]));
                (number(last)? < least).then(|| {
                    let others = others.iter().map(|word| format!("{word} "));
                    others.collect::<String>() + &least.to_string()
                })
            }
            Self::Covers(low, high) => {
                let [first, last] = words[..] else { return Err(format!("\"{now}\" is not a range")) };
                let (first, last) = (number(first)?, number(last)?);
                (first > low || last < high).then(|| format!("{} {}", first.min(low), last.max(high)))
            }
            Self::OneOf(good) => (!good.contains(&now)).then(|| good[0].to_owned()),
            Self::Derived => None,
        })
    }

    /// What is wanted, for a person.
    pub fn text(self) -> String {
        match self {
            Self::Exactly(wanted) => wanted.to_owned(),
            Self::AtLeast(least) => format!("at least {least}"),
            Self::AtMost(most) => format!("at most {most}"),
            Self::LastAtLeast(least) => format!("the last at least {least}"),
            Self::Covers(low, high) => format!("{low} {high}, or wider"),
            Self::OneOf(good) => good.join(" or "),
            Self::Derived => "by the machine".to_owned(),
        }
    }

    /// What a machine with nothing better would be given; nothing where that depends on the machine.
    pub fn plain(self) -> Option<String> {
        match self {
            Self::Exactly(text) => Some(text.to_owned()),
            Self::AtLeast(number) | Self::AtMost(number) => Some(number.to_string()),
            Self::Covers(low, high) => Some(format!("{low} {high}")),
            Self::OneOf(good) => Some(good[0].to_owned()),
            Self::LastAtLeast(_) | Self::Derived => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_better_stays() {
        let beyond = |want: Want, now: &str| want.beyond(now).unwrap();
        assert_eq!(beyond(Want::AtLeast(4096), "128"), Some("4096".to_owned()));
        assert_eq!(beyond(Want::AtLeast(4096), "65535"), None);
        assert_eq!(beyond(Want::AtMost(10), "60"), Some("10".to_owned()));
        assert_eq!(beyond(Want::AtMost(10), "1"), None);
        assert_eq!(beyond(Want::Exactly("0"), "1"), Some("0".to_owned()));
        assert_eq!(beyond(Want::LastAtLeast(16), "4 8 12"), Some("4 8 16".to_owned()));
        assert_eq!(beyond(Want::LastAtLeast(16), "4 8 32"), None);
        assert_eq!(beyond(Want::Covers(10240, 65535), "32768 60999"), Some("10240 65535".to_owned()));
        assert_eq!(beyond(Want::Covers(10240, 60999), "1024 50000"), Some("1024 60999".to_owned()));
        assert_eq!(beyond(Want::Covers(10240, 65535), "1024 65535"), None);
        assert_eq!(beyond(Want::OneOf(&["madvise", "never"]), "always"), Some("madvise".to_owned()));
        assert_eq!(beyond(Want::OneOf(&["madvise", "never"]), "never"), None);
    }

    /// Broken by taking what is not understood for too little, and writing over it.
    #[test]
    fn what_is_not_understood_is_said() {
        for (want, now) in [
            (Want::AtLeast(1), "max"),
            (Want::AtMost(1), "-1"),
            (Want::LastAtLeast(1), ""),
            (Want::Covers(1, 2), "1"),
            (Want::Covers(1, 2), "1 2 3"),
        ] {
            assert!(want.beyond(now).is_err(), "{want:?} {now}");
        }
    }
}
