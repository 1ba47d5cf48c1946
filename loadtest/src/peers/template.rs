//! The peers' configuration files as templates: `@NAME@` stands for a value of this start.

/// Fills a template in.
///
/// # Errors
/// When it names a value that there is not; the text is for people.
pub(crate) fn render(template: &str, values: &[(&str, String)]) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('@') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(name) = placeholder(rest) else {
            out.push('@');
            rest = &rest[1..];
            continue;
        };
        let (_, value) = values
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("the template names @{name}@, which is not known here"))?;
        out.push_str(value);
        rest = &rest[name.len() + 2..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The name between the `@` at the start and the next one, if what stands between is one.
fn placeholder(text: &str) -> Option<&str> {
    let name = text.strip_prefix('@')?.split_once('@')?.0;
    let named = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(named)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_names_in_and_leaves_other_text_alone() {
        let values = [("PORT", "80".to_owned()), ("DIR", "/a@B@".to_owned())];
        assert_eq!(render("x @PORT@@DIR@ @type a@b @@", &values).as_deref(), Ok("x 80/a@B@ @type a@b @@"));
        assert!(render("@PROT@", &values).is_err_and(|error| error.contains("@PROT@")));
    }
}
