//! The chunked transfer coding (RFC 9112 section 7.1): finds its end, keeps nothing.

use super::head::Malformed;

/// Digits of a chunk size; more would overflow.
const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of one chunk extension or one trailer line.
const LINE_BYTES_MAX: u32 = 16 * 1024;

/// A decoder that may be given the coding in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    place: Place,
    size: u64,
    digits: u8,
    line: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

impl Chunked {
    /// Takes bytes; says how many belonged to the coding and whether it has ended.
    ///
    /// # Errors
    /// What breaks the coding's grammar.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::End {
            if self.place == Place::Data {
                let taken = self.size.min((bytes.len() - at) as u64);
                self.size -= taken;
                at += taken as usize;
                if self.size == 0 {
                    self.place = Place::DataCr;
                }
                continue;
            }
            self.place = self.step(bytes[at])?;
            at += 1;
        }
        Ok((at, self.place == Place::End))
    }

    fn step(&mut self, byte: u8) -> Result<Place, Malformed> {
        match (self.place, byte) {
            (Place::Size, _) if byte.is_ascii_hexdigit() => {
                if self.digits == SIZE_DIGITS_MAX {
                    return Err(Malformed("a chunk size is too large"));
                }
                self.digits += 1;
                self.size = self.size * 16 + u64::from((byte as char).to_digit(16).unwrap_or(0));
                Ok(Place::Size)
            }
            (Place::Size, b'\r') if self.digits > 0 => Ok(Place::SizeLf),
            (Place::Size, b';' | b' ' | b'\t') if self.digits > 0 => self.long(Place::Extension),
            (Place::Size, _) => Err(Malformed("a chunk size is not a hexadecimal number")),
            (Place::Extension, b'\r') => Ok(Place::SizeLf),
            (Place::Extension, _) => self.long(Place::Extension),
            (Place::SizeLf, b'\n') => {
                self.line = 0;
                self.digits = 0;
                Ok(if self.size == 0 { Place::TrailerStart } else { Place::Data })
            }
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => Ok(Place::Size),
            (Place::DataCr | Place::DataLf, _) => Err(Malformed("a chunk is longer than its size")),
            (Place::TrailerStart, b'\r') => Ok(Place::EndLf),
            (Place::Trailer, b'\r') => Ok(Place::TrailerLf),
            (Place::TrailerStart | Place::Trailer, _) => self.long(Place::Trailer),
            (Place::TrailerLf, b'\n') => {
                self.line = 0;
                Ok(Place::TrailerStart)
            }
            (Place::EndLf, b'\n') => Ok(Place::End),
            _ => Err(Malformed("a line of the chunked coding does not end in CR LF")),
        }
    }

    fn long(&mut self, place: Place) -> Result<Place, Malformed> {
        self.line += 1;
        if self.line > LINE_BYTES_MAX {
            Err(Malformed("a line of the chunked coding is too long"))
        } else {
            Ok(place)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], piece: usize) -> Result<(usize, bool), Malformed> {
        let mut coding = Chunked::default();
        let mut total = 0;
        for part in bytes.chunks(piece) {
            let (taken, ended) = coding.feed(part)?;
            total += taken;
            if ended {
                return Ok((total, true));
            }
        }
        Ok((total, false))
    }

    #[test]
    fn ends_at_the_same_byte_however_it_is_cut() {
        let coding =
            b"5;name=value\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.1";
        let end = coding.len() - 8;
        for piece in 1..=coding.len() {
            assert_eq!(decode(coding, piece).map_err(|error| error.0), Ok((end, true)), "pieces of {piece}");
        }
    }

    #[test]
    fn refuses_what_is_not_the_coding() {
        for coding in [
            "\r\n",
            "g\r\n",
            "5\r\nhelloX",
            "5\nhello",
            "ffffffffffffffff\r\n",
            "-1\r\n",
            "0\r\n\rX",
            " 5\r\n",
        ] {
            assert!(decode(coding.as_bytes(), 1).is_err(), "{coding:?} was taken");
        }
    }

    #[test]
    fn waits_for_the_end() {
        for coding in ["", "5", "5\r\nhel", "0\r\n", "0\r\n\r"] {
            assert_eq!(
                decode(coding.as_bytes(), 1).map_err(|error| error.0),
                Ok((coding.len(), false)),
                "{coding:?}"
            );
        }
    }
}
