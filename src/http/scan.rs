//! Finds the end of a head as its bytes arrive.
//!
//! Looks at each byte once however small the pieces, so a head sent byte by byte costs no more than one
//! sent whole. Refuses a line feed without a carriage return at once: waiting for the end of such a head
//! would wait for ever. Knows nothing of what the lines say.

/// Where the search for the empty line stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes already searched.
    searched: usize,
    /// Where the current line begins.
    line: usize,
    /// From which length on the unfinished head is worth a trial parse again.
    trial: usize,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The head is this many bytes long, its empty line included.
    Complete(usize),
    /// No empty line yet.
    Partial {
        /// The head has doubled since this was last true: a trial parse may find out early that it is
        /// nonsense. Doubling keeps the work of all trials together linear.
        trial: bool,
    },
    /// A line ends with a bare line feed.
    BareLineFeed,
}

impl HeadScan {
    /// Continues in `head`, which begins with the bytes of all earlier calls.
    pub fn advance(&mut self, head: &[u8]) -> Scan {
        for offset in memchr::memchr_iter(b'\n', &head[self.searched..]) {
            let at = self.searched + offset;
            if at == 0 || head[at - 1] != b'\r' {
                return Scan::BareLineFeed;
            }
            if at - 1 == self.line {
                return Scan::Complete(at + 1);
            }
            self.line = at + 1;
        }
        self.searched = head.len();
        let trial = head.len() >= self.trial;
        if trial {
            self.trial = head.len() * 2;
        }
        Scan::Partial { trial }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(head: &[u8]) -> Scan {
        HeadScan::default().advance(head)
    }

    #[test]
    fn finds_the_empty_line() {
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r\nrest"), Scan::Complete(18));
        assert_eq!(whole(b"\r\n"), Scan::Complete(2));
        assert!(matches!(whole(b"GET / HTTP/1.1\r\nA: b\r\n"), Scan::Partial { .. }));
    }

    #[test]
    fn refuses_bare_line_feeds_as_soon_as_they_come() {
        assert_eq!(whole(b"GET / HTTP/1.1\n"), Scan::BareLineFeed);
        assert_eq!(whole(b"GET / HTTP/1.1\r\nA: b\n\r\n"), Scan::BareLineFeed);
        assert_eq!(whole(b"\n"), Scan::BareLineFeed);
    }

    #[test]
    fn trials_are_logarithmic_in_the_length() {
        let head = vec![b'a'; 16 * 1024];
        let mut scan = HeadScan::default();
        let trials = (1..=head.len())
            .filter(|&length| scan.advance(&head[..length]) == Scan::Partial { trial: true })
            .count();
        assert!(trials <= 15, "{trials} trials");
    }

    proptest! {
        /// Split anywhere, same verdict: would break if a piece boundary hid a line end.
        #[test]
        fn pieces_and_whole_agree(
            head in "(GET / HTTP/1.1|A: b|\r\n|\n|\r){0,12}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let head = head.as_bytes();
            let mut lengths: Vec<usize> = cuts.iter().map(|cut| cut.index(head.len() + 1)).collect();
            lengths.push(head.len());
            lengths.sort_unstable();
            let mut scan = HeadScan::default();
            let mut verdict = Scan::Partial { trial: true };
            for length in lengths {
                verdict = scan.advance(&head[..length]);
                if !matches!(verdict, Scan::Partial { .. }) {
                    break;
                }
            }
            let is_partial = |scan| matches!(scan, Scan::Partial { .. });
            prop_assert!(verdict == whole(head) || is_partial(verdict) && is_partial(whole(head)));
        }
    }
}
