//! Token buckets: bursts, rates, and what is taken back.

use proptest::prelude::*;

use super::super::bucket::Bucket;

#[test]
fn a_burst_and_then_the_rate() {
    let bucket = Bucket::new(3, 7, 1_000_000).unwrap();
    let mut word = 0;
    for _ in 0..3 {
        word = bucket.claim(word, 1, 500).unwrap();
    }
    assert_eq!(bucket.standing(word, 500).remaining, 0);
    let opens_us = bucket.claim(word, 1, 500).unwrap_err();
    assert_eq!(opens_us, 500 + 1_000_000_u64.div_ceil(7));
    assert!(bucket.claim(word, 1, opens_us - 1).is_err() && bucket.claim(word, 1, opens_us).is_ok());
    assert_eq!(bucket.standing(word, bucket.standing(word, 500).full_us).remaining, 3);
    assert_eq!(bucket.fill_us(), 428_572);
}

#[test]
fn what_cannot_be() {
    assert!(
        Bucket::new(0, 1, 1).is_none() && Bucket::new(1, 0, 1).is_none() && Bucket::new(1, 1, 0).is_none()
    );
    assert!(Bucket::new(1_000, 1, 86_400 * 366 * 1_000_000).is_none(), "a thousand years to fill");
}

proptest! {
    /// Never more than the burst and what flowed in, whatever is asked when, and what is taken back is not lost.
    #[test]
    fn no_more_than_burst_and_inflow(
        burst in 1_u32..50, rate in 1_u32..2_000,
        asked in prop::collection::vec((0_u64..20_000, 1_u32..5, any::<bool>()), 1..300),
    ) {
        let bucket = Bucket::new(burst, rate, 1_000_000).unwrap();
        let (mut word, mut now_us) = (0, 1_000);
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (gap, units, is_undone) in asked {
            now_us += gap;
            let Ok(after) = bucket.claim(word, units.min(burst), now_us) else { continue };
            let before = bucket.standing(word, now_us);
            if is_undone {
                word = bucket.undo(after, units.min(burst), after, now_us);
                prop_assert_eq!(bucket.standing(word, now_us), before);
                continue;
            }
            word = after;
            admitted.push((now_us, u64::from(units.min(burst))));
            for (from, (start_us, _)) in admitted.iter().enumerate() {
                let passed: u64 = admitted[from..].iter().map(|(_, units)| units).sum();
                let inflow = (now_us - start_us) * u64::from(rate) / 1_000_000;
                prop_assert!(passed <= u64::from(burst) + inflow);
            }
        }
    }
}
