//! What is known of consumers beforehand: where each may go, and which API keys it has.
//!
//! A consumer that the configuration does not name may go wherever its credential lets it; tokens name
//! consumers nobody listed. One that is named with a list goes where the list says and nowhere else. Knows
//! nothing of credentials: who is calling was established before.

use std::collections::HashMap;

use super::{
    auth::ApiKeys,
    limit::Places,
    refusal::{Code, Refusal},
    route::{Methods, Route},
};

/// All consumers of the configuration.
#[derive(Debug)]
pub struct Consumers {
    /// By id. Hashed here and not by what a credential brings along, so that no list is missed because two
    /// parties hash with different seeds.
    by_id: HashMap<Box<str>, Consumer>,
    api_keys: ApiKeys,
}

/// One `[[consumer]]`.
#[derive(Debug)]
pub struct Consumer {
    /// Its name, as credentials give it.
    pub id: Box<str>,
    /// Where it may go: wherever one of these says. Anywhere when absent, nowhere when empty.
    pub allow: Option<Box<[Grant]>>,
    /// Its requests that may be under way at once, over all routes; any number when absent.
    pub places: Option<Places>,
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
    pub fn new(consumers: Vec<Consumer>, api_keys: ApiKeys) -> Self {
        let by_id = consumers.into_iter().map(|consumer| (consumer.id.clone(), consumer)).collect();
        Self { by_id, api_keys }
    }

    /// Their API keys.
    pub fn api_keys(&self) -> &ApiKeys {
        &self.api_keys
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.by_id.values()
    }

    /// The consumer called `id`.
    pub fn find(&self, id: &str) -> Option<&Consumer> {
        self.by_id.get(id)
    }

    /// Whether the consumer called `id` may send `method` to `route`.
    ///
    /// # Errors
    /// `consumer_not_allowed`.
    pub fn permit(&self, id: &str, route: &Route, method: &str) -> Result<(), Refusal> {
        let Some(grants) = self.find(id).and_then(|consumer| consumer.allow.as_deref()) else {
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
