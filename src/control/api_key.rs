//! Mints API keys: 256 random bits for the client, their hash for the configuration.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

/// A new key.
pub struct Minted {
    /// What the client sends as `X-Api-Key`; the only copy there is.
    pub key: String,
    /// The entry for `api_keys` of its consumer.
    pub entry: String,
}

/// Makes a key called `id`; by default after its hash.
///
/// # Errors
/// The system gives no random bytes.
pub fn mint(id: Option<&str>) -> Result<Minted, String> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| "the system gives no random bytes".to_owned())?;
    // The prefix lets scanners of leaked secrets find it.
    let key = format!("tg_{}", URL_SAFE_NO_PAD.encode(secret));
    let hash: String =
        digest(&SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let id = id.map_or_else(|| format!("key-{}", &hash[..8]), str::to_owned);
    let entry = format!("{{ id = {}, sha256 = \"{hash}\" }}", serde_json::Value::from(id));
    Ok(Minted { key, entry })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_their_entries_do_not_hold_them() {
        let (first, second) = (mint(None).unwrap(), mint(Some("acme \"1\"")).unwrap());
        assert_ne!(first.key, second.key);
        assert_eq!(first.key.len(), 46);
        assert!(!first.entry.contains(&first.key));
        assert!(second.entry.starts_with(r#"{ id = "acme \"1\"", sha256 = ""#), "{}", second.entry);
    }
}
