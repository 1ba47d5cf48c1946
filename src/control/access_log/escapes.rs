//! Escapes in texts that are about to be logged: read as often as anybody might, and for each letter the bytes it stands in.
//!
//! Knows percent-escapes and those of JSON and C; what they hide is for others to find (`pan.rs`, `token.rs`).

/// How often a text may be escaped, one time in the other.
pub(super) const ROUNDS: usize = 6;

/// A byte as it is read, and which bytes of the text it was made of.
#[derive(Clone, Copy)]
pub(super) struct Letter {
    pub(super) byte: u8,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The letters of `text` as it stands.
pub(super) fn letters_of(text: &[u8]) -> Vec<Letter> {
    text.iter().enumerate().map(|(at, &byte)| Letter { byte, from: at, to: at + 1 }).collect()
}

/// `letters` with every `%34`, `\x34`, `\u0034`, `\n` and the like read once.
pub(super) fn unescape(letters: &[Letter]) -> Vec<Letter> {
    let mut read = Vec::with_capacity(letters.len());
    let mut rest = letters;
    while let [first, behind @ ..] = rest {
        let hex = match (first.byte, behind) {
            (b'%', behind) => Some((behind, 1)),
            (b'\\', [Letter { byte: b'x', .. }, behind @ ..]) => Some((behind, 2)),
            (
                b'\\',
                [
                    Letter { byte: b'u', .. },
                    Letter { byte: b'0', .. },
                    Letter { byte: b'0', .. },
                    behind @ ..,
                ],
            ) => Some((behind, 4)),
            _ => None,
        };
        let escape = hex.and_then(|(digits, before)| match digits {
            [high, low, ..] => {
                let byte = char::from(high.byte).to_digit(16)? * 16 + char::from(low.byte).to_digit(16)?;
                Some((u8::try_from(byte).ok()?, low.to, before + 2))
            }
            _ => None,
        });
        match escape {
            Some((byte, to, taken)) => {
                read.push(Letter { byte, from: first.from, to });
                rest = &rest[taken..];
            }
            None => {
                let blank = match behind {
                    [Letter { byte: b't' | b'r' | b'n', to, .. }, ..] if first.byte == b'\\' => Some(*to),
                    _ => None,
                };
                read.push(blank.map_or(*first, |to| Letter { byte: b' ', from: first.from, to }));
                rest = &behind[usize::from(blank.is_some())..];
            }
        }
    }
    read
}
