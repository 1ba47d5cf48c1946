//! Quotas that the admin API gives consumers, in place of the configuration's and of `consumer.quota`.
//!
//! They stand beside the configuration: a reload puts them in force together with what the file says then, and a
//! successor is told of them. They are gone when the process ends without one; what shall last stands in the file.
//! Each has a table of its own in every limit by consumer, with a descriptor, so there are not many.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{base::clock::Clock, stage::limit::Quota};

use super::{
    config::{Plan, consumer::ConsumerPlan},
    reload::Reloader,
};

/// How many there may be.
pub const OVERRIDES_MAX: usize = 100;
/// Between two looks at what has ended.
const LOOK: Duration = Duration::from_secs(1);

/// One consumer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// What it may use.
    pub quota: Quota,
    /// When that ends, in seconds since the Unix epoch; never if absent.
    pub until_s: Option<i64>,
}

/// All of them, by consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, Override>);

/// There are [`OVERRIDES_MAX`] already.
#[derive(Debug)]
pub struct Full;

impl Overrides {
    /// Gives `consumer` this one, in place of any.
    ///
    /// # Errors
    /// [`Full`].
    pub fn set(&mut self, consumer: &str, given: Override) -> Result<(), Full> {
        if self.0.len() >= OVERRIDES_MAX && !self.0.contains_key(consumer) {
            return Err(Full);
        }
        self.0.insert(consumer.to_owned(), given);
        Ok(())
    }

    /// Takes back the one of `consumer`. Whether there was one.
    pub fn clear(&mut self, consumer: &str) -> bool {
        self.0.remove(consumer).is_some()
    }

    /// Takes back those that have ended; whose they were.
    pub fn prune(&mut self, now_s: i64) -> Vec<String> {
        let mut ended = Vec::new();
        self.0.retain(|consumer, one| {
            let has_ended = one.until_s.is_some_and(|until_s| until_s <= now_s);
            if has_ended {
                ended.push(consumer.clone());
            }
            !has_ended
        });
        ended
    }

    /// All of them, with whose they are.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Override)> {
        self.0.iter().map(|(consumer, one)| (consumer.as_str(), one))
    }

    /// Writes them into `plan`.
    pub fn apply(&self, plan: &mut Plan) {
        for (consumer, Override { quota, .. }) in self.iter() {
            match plan.consumers.iter_mut().find(|known| known.id == consumer) {
                Some(known) => known.quota = Some(quota.clone()),
                None => plan.consumers.push(ConsumerPlan::with_quota(consumer, quota.clone())),
            }
        }
    }
}

/// Takes back what has ended, for as long as the process runs.
pub async fn expire(reloader: Arc<Reloader>) {
    let clock = Clock::new();
    let mut complained = false;
    loop {
        tokio::time::sleep(LOOK).await;
        clock.follow_wall_clock();
        let now_s = clock.now().unix_seconds();
        if reloader.overrides().prune(now_s).is_empty() {
            continue;
        }
        let reloader = Arc::clone(&reloader);
        // Compiling looks names up, and may wait for a reload.
        let outcome = tokio::task::spawn_blocking(move || reloader.override_quotas(|all| all.prune(now_s)));
        match outcome.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok((ended, _)) => {
                complained = false;
                tracing::info!("overrides have ended: {}", ended.join(", "));
            }
            Err(error) if !complained => {
                complained = true;
                tracing::warn!("overrides that have ended stay in force until this is over: {error}");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_bounded_end_and_replace_each_other() {
        let one = |until_s| Override { quota: Quota::parse("1/second").unwrap(), until_s };
        let mut overrides = Overrides::default();
        for number in 0..OVERRIDES_MAX {
            overrides.set(&number.to_string(), one(Some(10))).unwrap();
        }
        assert!(overrides.set("one more", one(None)).is_err());
        overrides.set("7", one(None)).unwrap();
        assert!(overrides.prune(9).is_empty());
        assert_eq!(overrides.prune(10).len(), OVERRIDES_MAX - 1);
        assert!(overrides.clear("7") && !overrides.clear("7") && overrides.iter().next().is_none());
    }
}
