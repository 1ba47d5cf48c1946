//! Composes requests: one per thread, so that nothing is shared while load is driven.
//!
//! A workload of one unchanging request is composed once; every other request is written into one scratch buffer.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Zipf};

use super::{
    Pick, Route, Workload,
    template::{self, Values},
    token::{self, Minted},
};

/// What must be known of a request when its answer comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) route: u16,
    pub(crate) client: u32,
    /// HEAD: the answer has no body.
    pub(crate) head: bool,
    pub(crate) bad_token: bool,
}

/// Writes requests, deterministically for a seed.
pub(crate) struct Composer {
    workload: Arc<Workload>,
    random: StdRng,
    /// The weights of the routes up to and including each, of 1.
    thresholds: Vec<f64>,
    zipf: Option<Zipf<f64>>,
    minted: Option<Arc<Minted>>,
    /// The next request's number; steps by the number of threads.
    sequence: u64,
    step: u64,
    rotation: u32,
    body: Vec<u8>,
    scratch: Vec<u8>,
    /// The scratch buffer holds the only request there is.
    constant: bool,
}

impl Composer {
    /// A composer for the thread `index` of `threads`.
    pub(crate) fn new(workload: Arc<Workload>, seed: u64, index: usize, threads: usize) -> Self {
        let sum: f64 = workload.routes.iter().map(|route| route.weight).sum();
        let mut below = 0.0;
        let thresholds = workload.routes.iter().map(|route| {
            below += route.weight / sum;
            below
        });
        let clients = &workload.clients;
        let zipf = match clients.pick {
            Pick::Zipf { exponent } if clients.count > 1 => {
                Zipf::new(f64::from(clients.count), exponent).ok()
            }
            _ => None,
        };
        let mut composer = Self {
            thresholds: thresholds.collect(),
            random: StdRng::seed_from_u64(seed),
            zipf,
            minted: clients.tokens.as_ref().map(|tokens| tokens.newest()),
            sequence: index as u64,
            step: threads as u64,
            rotation: (u64::from(clients.count) * index as u64 / threads as u64) as u32,
            body: Vec::new(),
            scratch: Vec::new(),
            constant: false,
            workload,
        };
        if composer.only_one_request() {
            composer.compose();
            composer.constant = true;
        }
        composer
    }

    /// The bytes of the next request.
    pub(crate) fn compose(&mut self) -> (&[u8], Note) {
        if self.constant {
            let head = self.workload.routes[0].method == "HEAD";
            return (&self.scratch, Note { head, ..Note::default() });
        }
        let route = self.route();
        let client = self.client();
        let bad_token = self.minted.is_some() && self.workload.clients.bad_token.hit(&mut self.random);
        let head = self.workload.routes[route].method == "HEAD";
        let note = Note { route: route as u16, client, head, bad_token };
        self.write(note);
        self.sequence += self.step;
        (&self.scratch, note)
    }

    /// Takes newly minted tokens, if there are any.
    pub(crate) fn refresh(&mut self) {
        if let Some(tokens) = &self.workload.clients.tokens {
            self.minted = Some(tokens.newest());
        }
    }

    fn write(&mut self, note: Note) {
        let workload = &*self.workload;
        let route: &Route = &workload.routes[usize::from(note.route)];
        let mut values = Values { client: note.client, sequence: self.sequence, random: &mut self.random };
        let out = &mut self.scratch;
        out.clear();
        out.extend_from_slice(route.method.as_bytes());
        out.push(b' ');
        route.path.render(&mut values, out);
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(workload.authority.as_bytes());
        for (name, value) in &route.fields {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            value.render(&mut values, out);
        }
        if route.idempotency_key {
            out.extend_from_slice(b"\r\nIdempotency-Key: ");
            template::push_uuid(values.random, out);
        }
        if let Some(minted) = &self.minted {
            out.extend_from_slice(b"\r\nAuthorization: Bearer ");
            let token = minted.token(note.client);
            if note.bad_token { token::push_broken(token, out) } else { out.extend_from_slice(token) }
        }
        if workload.close {
            out.extend_from_slice(b"\r\nConnection: close");
        }
        if let Some(body) = &route.body {
            self.body.clear();
            body.render(&mut values, &mut self.body);
            out.extend_from_slice(b"\r\nContent-Length: ");
            template::push_number(self.body.len() as u64, out);
        }
        out.extend_from_slice(b"\r\n\r\n");
        if route.body.is_some() {
            out.extend_from_slice(&self.body);
        }
    }

    fn route(&mut self) -> usize {
        if self.thresholds.len() == 1 {
            return 0;
        }
        let place: f64 = self.random.random();
        let route = self.thresholds.partition_point(|&threshold| threshold <= place);
        route.min(self.thresholds.len() - 1)
    }

    fn client(&mut self) -> u32 {
        let count = self.workload.clients.count;
        match &self.zipf {
            // Zipf draws from 1 to the count.
            Some(zipf) => (zipf.sample(&mut self.random) as u32).clamp(1, count) - 1,
            None => {
                self.rotation = if self.rotation + 1 >= count { 0 } else { self.rotation + 1 };
                self.rotation
            }
        }
    }

    fn only_one_request(&self) -> bool {
        let [route] = self.workload.routes.as_slice() else { return false };
        self.workload.clients.count == 1
            && self.minted.is_none()
            && !route.idempotency_key
            && route.path.constant()
            && route.fields.iter().all(|(_, value)| value.constant())
            && route.body.as_ref().is_none_or(template::Template::constant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::request::{Progress, RequestReader},
        share::Share,
        workload::{Clients, Expected, template::Template},
    };

    fn route(name: &str, weight: f64, body: Option<&str>) -> Route {
        Route {
            name: name.into(),
            weight,
            method: if body.is_some() { "POST" } else { "GET" }.into(),
            path: Template::parse("/{{seq}}").expect("a template"),
            fields: vec![("X-Client".into(), Template::parse("{{client}}").expect("a template"))],
            body: body.map(|body| Template::parse(body).expect("a template")),
            idempotency_key: body.is_some(),
            expected: Expected::Success,
        }
    }

    fn workload(routes: Vec<Route>, count: u32, pick: Pick) -> Arc<Workload> {
        let clients = Clients { count, pick, tokens: None, bad_token: Share::NONE };
        Arc::new(Workload { authority: "a".into(), routes, clients, close: false, errors_allowed: None })
    }

    #[test]
    fn composes_whole_requests_by_weight() {
        let routes = vec![route("read", 3.0, None), route("pay", 1.0, Some("{\"id\":\"{{uuid}}\"}"))];
        let workload = workload(routes, 10, Pick::Rotation);
        let mut composer = Composer::new(workload, 5, 0, 1);
        let (mut counts, mut clients) = ([0; 2], [0; 10]);
        for _ in 0..10_000 {
            let (bytes, note) = composer.compose();
            let mut reader = RequestReader::default();
            let whole =
                matches!(reader.feed(bytes), Ok(Progress::Complete { taken, .. }) if taken == bytes.len());
            assert!(whole, "{:?}", String::from_utf8_lossy(bytes));
            counts[note.route as usize] += 1;
            clients[note.client as usize] += 1;
        }
        assert!((7_200..7_800).contains(&counts[0]), "{counts:?} by weights of 3 and 1");
        assert_eq!(clients, [1_000; 10]);
    }

    #[test]
    fn threads_share_no_sequence_number() {
        let workload = workload(vec![route("read", 1.0, None)], 1, Pick::Rotation);
        let mut paths = std::collections::HashSet::new();
        for index in 0..3 {
            let mut composer = Composer::new(Arc::clone(&workload), 5, index, 3);
            for _ in 0..100 {
                let line = composer.compose().0.split(|&byte| byte == b'\r').next().map(<[u8]>::to_vec);
                assert!(paths.insert(line), "a number came twice");
            }
        }
    }

    #[test]
    fn zipf_prefers_the_first_clients() {
        let workload = workload(vec![route("read", 1.0, None)], 1_000, Pick::Zipf { exponent: 1.0 });
        let mut composer = Composer::new(workload, 5, 0, 1);
        let first = (0..20_000).filter(|_| composer.compose().1.client == 0).count();
        // 1 / H(1000) = 13.4 %.
        assert!((2_300..3_050).contains(&first), "the first client was chosen {first} times of 20000");
    }
}
