//! Seeds for hashes whose outcome nobody outside may foresee: of limits' keys, of revoked names.

use ring::rand::{SecureRandom, SystemRandom};

/// Two words that the system's generator made.
///
/// # Errors
/// The system gives no random bytes.
pub fn seed() -> Result<[u64; 2], String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    let words = u128::from_ne_bytes(bytes);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let low = words as u64;
    Ok([low, (words >> 64) as u64])
}
