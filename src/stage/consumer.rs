//! What is known of consumers beforehand: where each may go, and which API keys it has.
//!
//! A consumer that the configuration does not name may go wherever its credential lets it; tokens name
//! consumers nobody listed. One that is named with a list goes where the list says and nowhere else. Knows
//! nothing of credentials: who is calling was established before.

use super::{
    auth::ApiKeys,
    refusal::{Code, Refusal},
    route::{Methods, Route},
};

/// All consumers of the configuration.
#[derive(Debug)]
pub struct Consumers {
    /// Sorted by hash.
    by_hash: Box<[Consumer]>,
    api_keys: ApiKeys,
}

/// One `[[consumer]]`.
#[derive(Debug)]
pub struct Consumer {
    /// Its name, as credentials give it.
    pub id: Box<str>,
    /// The name's hash, with the seed that credentials are hashed with.
    pub hash: u64,
    /// Where it may go: wherever one of these says. Anywhere when absent, nowhere when empty.
    pub allow: Option<Box<[Grant]>>,
}

/// Some routes with some methods.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Places in the table of routes; any route when absent.
    pub routes: Option<Box<[u16]>>,
    /// The methods.
    pub methods: Methods,
}

impl Consumers {
    /// A table of `consumers`, whose ids all differ, with the keys of all of them.
    pub fn new(mut consumers: Vec<Consumer>, api_keys: ApiKeys) -> Self {
        consumers.sort_by_key(|consumer| consumer.hash);
        Self { by_hash: consumers.into(), api_keys }
    }

    /// Their API keys.
    pub fn api_keys(&self) -> &ApiKeys {
        &self.api_keys
    }

    /// The consumer called `id`, whose hash is `hash`.
    pub fn find(&self, id: &str, hash: u64) -> Option<&Consumer> {
        let first = self.by_hash.partition_point(|consumer| consumer.hash < hash);
        let same_place = self.by_hash[first..].iter().take_while(|consumer| consumer.hash == hash);
        same_place.into_iter().find(|consumer| *consumer.id == *id)
    }

    /// Whether the consumer called `id` may send `method` to `route`.
    ///
    /// # Errors
    /// `consumer_not_allowed`.
    pub fn permit(&self, id: &str, hash: u64, route: &Route, method: &str) -> Result<(), Refusal> {
        let Some(grants) = self.find(id, hash).and_then(|consumer| consumer.allow.as_deref()) else {
            return Ok(());
        };
        let for_route =
            |grant: &&Grant| grant.routes.as_ref().is_none_or(|routes| routes.contains(&route.index));
        let mut of_route = grants.iter().filter(for_route).peekable();
        if of_route.peek().is_none() {
            return Err(Refusal::new(Code::ConsumerNotAllowed, "consumer not allowed on route"));
        }
        if of_route.any(|grant| grant.methods.contain(method)) {
            return Ok(());
        }
        Err(Refusal::new(Code::ConsumerNotAllowed, "consumer not allowed with method"))
    }
}
