//! Lists of CPUs as the kernel, `taskset` and the configuration write them, and the masks of its older files.

/// One above the highest CPU that a list can name.
pub const CPUS_MAX: usize = 4096;

/// Parses a list such as `0-3,8`, in the order in which it names them. The empty list names none.
///
/// # Errors
/// What is wrong with it: a sentence without its beginning.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus: Vec<usize> = Vec::new();
    if text.trim().is_empty() {
        return Ok(cpus);
    }
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.trim().parse::<usize>().ok().zip(last.trim().parse::<usize>().ok());
        let Some((first, last)) = range.filter(|(first, last)| first <= last && *last < CPUS_MAX) else {
            return Err(format!("\"{text}\" is not a list of CPUs such as \"0-3,8\""));
        };
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} stands twice in \"{text}\""));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// `cpus` as the shortest list that names them in this order: `0-3,8`.
pub fn print_list(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let ranges = ranges.iter().map(|(first, last)| match last - first {
        0 => format!("{first}"),
        _ => format!("{first}-{last}"),
    });
    ranges.collect::<Vec<_>>().join(",")
}

/// Parses a mask such as `ff,0000000f`: words of 32 CPUs, the highest first. Ascending.
///
/// # Errors
/// What is wrong with it.
pub fn parse_mask(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("\"{text}\" is not a mask of CPUs such as \"ff,0000000f\"");
    let words: Vec<&str> = text.trim().split(',').collect();
    if words.len() > CPUS_MAX / 32 {
        return Err(wrong());
    }
    let mut cpus = Vec::new();
    for (index, word) in words.iter().rev().enumerate() {
        let bits = u32::from_str_radix(word, 16).map_err(|_| wrong())?;
        cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| index * 32 + bit));
    }
    Ok(cpus)
}

/// `cpus` as a mask, with as many words as its highest CPU needs.
pub fn print_mask(cpus: &[usize]) -> String {
    let words = cpus.iter().max().map_or(1, |highest| highest / 32 + 1);
    let word = |index: usize| {
        cpus.iter().filter(|&&cpu| cpu / 32 == index).fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32))
    };
    let mut text = format!("{:x}", word(words - 1));
    for index in (0..words - 1).rev() {
        text.push_str(&format!(",{:08x}", word(index)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_list("0-2, 8"), Ok(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("8,0-1\n"), Ok(vec![8, 0, 1]));
        assert_eq!(parse_list(" \n"), Ok(vec![]));
        for text in ["a", "3-1", "1,1", "0-99999", "-1", "1,", "1-2-3"] {
            assert!(parse_list(text).is_err(), "{text}");
        }
        for text in ["", "0", "0-3,8", "8,0-1", "0,2,4", "62-65"] {
            assert_eq!(print_list(&parse_list(text).unwrap()), text);
        }
    }

    #[test]
    fn masks() {
        assert_eq!(parse_mask("5\n"), Ok(vec![0, 2]));
        assert_eq!(parse_mask("00000001,80000000"), Ok(vec![31, 32]));
        assert_eq!(parse_mask("0"), Ok(vec![]));
        for text in ["", "g", "1ffffffff", "1,,1"] {
            assert!(parse_mask(text).is_err(), "{text}");
        }
        for text in ["0", "5", "1,80000000", "ff,00000000,0000000f"] {
            assert_eq!(print_mask(&parse_mask(text).unwrap()), text);
        }
    }
}
