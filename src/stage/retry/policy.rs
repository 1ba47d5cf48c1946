//! What a route says about further attempts: how many, and on which occasions.
//!
//! A policy narrows or widens what [`super::allowed`] may do; what could pay twice is not for it to allow.

/// The most attempts an exchange may make.
pub const ATTEMPTS_MAX: u8 = 5;

/// What can have gone wrong with an attempt that another one may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Not a byte of the request was sent.
    Unreachable,
    /// A kept connection broke before a byte of an answer.
    Stale,
    /// A new connection broke before a byte of an answer.
    Broken,
    /// No byte of an answer came in time.
    Timeout,
    /// The answer is 502.
    BadGateway,
    /// The answer is 503.
    Unavailable,
    /// The answer is 504.
    GatewayTimeout,
}

impl Occasion {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 7] = [
        ("unreachable", Self::Unreachable),
        ("stale", Self::Stale),
        ("broken", Self::Broken),
        ("timeout", Self::Timeout),
        ("502", Self::BadGateway),
        ("503", Self::Unavailable),
        ("504", Self::GatewayTimeout),
    ];

    /// What an answer with `status` is, if it is any.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            502 => Some(Self::BadGateway),
            503 => Some(Self::Unavailable),
            504 => Some(Self::GatewayTimeout),
            _ => None,
        }
    }

    /// Whether another attempt costs the service work that it would not have had otherwise. One that never
    /// reached anybody has cost nobody anything.
    pub fn costs(self) -> bool {
        self != Self::Unreachable
    }
}

/// A set of occasions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occasions(u8);

impl FromIterator<Occasion> for Occasions {
    fn from_iter<T: IntoIterator<Item = Occasion>>(occasions: T) -> Self {
        occasions.into_iter().fold(Self(0), Self::with)
    }
}

impl Occasions {
    const fn with(self, occasion: Occasion) -> Self {
        Self(self.0 | 1 << occasion as u8)
    }

    /// Whether `occasion` is one of them.
    pub fn contain(self, occasion: Occasion) -> bool {
        self.0 & 1 << occasion as u8 != 0
    }

    /// The words for them.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Occasion::WORDS.into_iter().filter(move |(_, occasion)| self.contain(*occasion)).map(|(word, _)| word)
    }
}

/// What a route says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts one exchange may make in all, at least one.
    pub attempts_max: u8,
    /// When another may follow.
    pub on: Occasions,
    /// Whether endpoints know a request with the same `Idempotency-Key` again.
    pub by_key: bool,
}

impl Policy {
    /// A second attempt where nobody saw the first, or only a connection that was closing.
    pub const USUAL: Self = Self {
        attempts_max: 2,
        on: Occasions(0).with(Occasion::Unreachable).with(Occasion::Stale),
        by_key: false,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        for (word, occasion) in Occasion::WORDS {
            let set: Occasions = [occasion].into_iter().collect();
            assert_eq!(set.words().collect::<Vec<_>>(), [word]);
            assert!(Occasion::WORDS.iter().all(|(_, other)| set.contain(*other) == (*other == occasion)));
        }
    }
}
