//! Values of fields and query parameters that the log's lists let through, packed for the way to the log writer.
//!
//! Each entry says which list, which of its names, and the value, cut to [`VALUE_BYTES_MAX`]. Names stay behind: the
//! writer has the lists too. Packing and unpacking are inverse to each other.

/// Names a list can have.
pub const NAMES_MAX: usize = 8;
/// The longest value that travels; longer ones are cut.
pub const VALUE_BYTES_MAX: usize = 240;
/// Bytes of all entries of one exchange together; those that come last are left out.
pub const LISTED_BYTES_MAX: usize = 2 * 1024;

/// Where a value stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum List {
    /// In a field of the request.
    Headers = 0,
    /// In a field of the answer that an endpoint gave.
    ResponseHeaders = 1,
    /// In the request's query.
    Query = 2,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it stood.
    pub list: List,
    /// Which name of the list it goes by.
    pub name: usize,
    /// The value itself.
    pub value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// What is put before the value, and as much of the value as travels.
    pub fn parts(&self) -> ([u8; 2], &'a [u8]) {
        let value = &self.value[..self.value.len().min(VALUE_BYTES_MAX)];
        let key = self.list as usize * NAMES_MAX + self.name;
        // At most 23 and at most 240.
        ([key as u8, value.len() as u8], value)
    }
}

/// The entries of `packed`, up to the first byte that is none.
pub fn entries(packed: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = packed;
    std::iter::from_fn(move || {
        let [key, length, behind @ ..] = rest else { return None };
        let (value, behind) = behind.split_at_checked(usize::from(*length))?;
        rest = behind;
        let key = usize::from(*key);
        let list = match key / NAMES_MAX {
            0 => List::Headers,
            1 => List::ResponseHeaders,
            2 => List::Query,
            _ => return None,
        };
        Some(Entry { list, name: key % NAMES_MAX, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_packing() {
        let long = [b'x'; 300];
        let given = [
            Entry { list: List::Headers, name: 0, value: b"" },
            Entry { list: List::ResponseHeaders, name: 7, value: b"a\0b" },
            Entry { list: List::Query, name: 3, value: &long },
        ];
        let mut packed = Vec::new();
        for (before, value) in given.iter().map(Entry::parts) {
            packed.extend_from_slice(&before);
            packed.extend_from_slice(value);
        }
        let read: Vec<Entry<'_>> = entries(&packed).collect();
        assert_eq!(read[..2], given[..2]);
        assert_eq!(read[2], Entry { value: &long[..VALUE_BYTES_MAX], ..given[2] });
        assert_eq!(entries(&packed[..packed.len() - 1]).count(), 2, "a piece of one is none");
        assert_eq!(entries(b"\xff\x00").count(), 0);
    }
}
