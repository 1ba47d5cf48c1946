//! Every key that has a default, in one table: the one the code reads and the README prints.

/// A key, the value it has when it is left out, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Default {
    /// The whole key.
    pub key: &'static str,
    /// The value, as it would be written.
    pub value: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn row(key: &'static str, value: &'static str, meaning: &'static str) -> Default {
    Default { key, value, meaning }
}

/// All of them, in the order of the configuration file.
#[rustfmt::skip]
pub const DEFAULTS: &[Default] = &[
    row("listen.address", "127.0.0.1:8080", "where requests come in; a list, every shard listens on each"),
    row("listen.proxied", "none", "further addresses, on which every connection begins with a PROXY protocol header (1 or 2)"),
    row("listen.admin", "127.0.0.1:9901", "where `/health`, `/ready`, `/metrics` and the rest are: loopback, `unix:PATH`, or any address with a token"),
    row("listen.admin_mode", "0600", "of a unix socket: 0600 or 0660"),
    row("listen.admin_token_file", "none", "with it, whoever asks there must know the token in this file; at least 32 bytes, one trailing newline is not part of it"),
    row("listen.trusted_proxies", "none", "networks whose `X-Forwarded-For` is believed"),
    row("listen.accept_steering", "auto", "how a connection finds its shard: cpu (the one on the CPU that received it), hash, or auto: cpu where packets arrive on the CPUs of all shards"),
    row("shards.count", "auto", "threads that serve; auto is one for each CPU that they may have, and no more than a control group gives time for"),
    row("shards.cpus", "auto", "where they are pinned: auto (every usable CPU), none, performance or efficiency (the fast or the slow cores), first-usable-node, or a list such as `0-3,8`"),
    row("shards.threads_per_core", "all", "all, or 1: shards of one core, where it runs several threads"),
    row("shards.reserve", "none", "CPUs without shards, for interrupts, the control thread and the log: none, auto (the first core from 8 CPUs on, two beyond 32) or a list"),
    row("shards.driver", "auto", "auto, io-uring (or refuse to start) or epoll"),
    row("bounds.connections", "10000", "client connections per shard; beyond it: 503 `overloaded`"),
    row("bounds.head_bytes_max", "16KiB", "the longest request head; beyond it: 431, or 414 if the target is to blame"),
    row("bounds.headers_max", "100", "the most fields of a request head, up to 256; beyond it: 431"),
    row("bounds.body_bytes_max", "10MiB", "the longest request body; beyond it: 413; a route may say otherwise"),
    row("bounds.body_rate_min", "1KiB", "per second, that a client must manage with a body or an answer once waits for it exceed `timeouts.body`; 0: any"),
    row("bounds.keepalive_requests", "100000", "requests per client connection; then it closes"),
    row("bounds.buffer_bytes", "256MiB", "memory for buffers per shard; beyond it: 503 `overloaded`"),
    row("bounds.in_flight", "2048", "requests being served at once, per shard; beyond it: 503 `overloaded`"),
    row("bounds.critical_share", "10%", "of `in_flight` and of the buffers: kept for routes whose `priority` is critical"),
    row("bounds.limit_keys", "65536", "keys each limit can count at the same time; beyond it those that used least make room, and newcomers count as having used as much"),
    row("bounds.tokens", "4096", "verified tokens each shard remembers"),
    row("timeouts.head", "10s", "a whole request head, from its first byte; then 408"),
    row("timeouts.body", "30s", "between two reads of a request body (then 408), or two writes of an answer"),
    row("timeouts.idle", "60s", "a client connection without a request; then it closes"),
    row("timeouts.queue", "200ms", "a request's turn, while the shard serves all it may (`bounds.in_flight`) and gets on; then 503 `overloaded`"),
    row("timeouts.drain", "30s", "requests in flight after SIGTERM; then they are cut"),
    row("jwt.issuer", "any", "what `iss` must be"),
    row("jwt.audience", "none", "`aud` must contain one of these; without it a token that has an `aud` is refused"),
    row("jwt.leeway", "0s", "slack for clocks that disagree"),
    row("jwt.require", "exp, sub", "claims a token must have"),
    row("jwt.consumer_claim", "sub", "the claim that names the consumer"),
    row("jwt.jwks_refresh", "10m", "how often `jwks_url` is asked; when a token names an unknown key, sooner, but not within 30 s"),
    row("jwt.roles_claim", "none", "the claim that lists roles, such as `realm_access.roles`; a string is one role"),
    row("consumer.allow", "everything", "where the consumer may go: `{ routes, methods }`, each any when left out; an empty list: nowhere"),
    row("consumer.quota", "the limit's", "in place of the quota of every limit by consumer; `strategy`, `rate` and `burst` as there"),
    row("consumer.in_flight", "any", "requests of the consumer under way at once, over all routes; beyond it: 429"),
    row("consumer.api_keys", "none", "keys that stand for the consumer: `{ id, sha256 }` or `{ id, sha256_file }`; see `tollgate key`"),
    row("consumer.api_keys.scopes", "none", "scopes the key has"),
    row("consumer.api_keys.roles", "none", "roles the key has"),
    row("consumer.api_keys.expires", "never", "a day (its first second, UTC) or an RFC 3339 time"),
    row("cluster.balance", "least-connections", "how an endpoint is chosen: least-connections, latency, round-robin, random (the better of two) or hash"),
    row("cluster.hash_by", "none", "with `balance = \"hash\"`: consumer, ip or header:NAME; the same goes to the same endpoint, unless that has a quarter more than its share"),
    row("cluster.max_in_flight", "any", "requests under way at each endpoint, all shards together; when all have as many: 503 `overloaded`"),
    row("cluster.slow_start", "0s", "how long a new or recovered endpoint takes to its full weight"),
    row("cluster.panic", "10%", "when fewer than this share of endpoints is well, all are used: the verdict is more likely to be wrong"),
    row("cluster.ejection.failures", "5", "in a row, of all shards together, after which an endpoint is left out; 3 when it cannot be reached; 0: never"),
    row("cluster.ejection.on", "gateway", "what is a failure in a row: gateway (no answer, a broken one, 502, 503, 504) or 5xx (any)"),
    row("cluster.ejection.margin", "20%", "an endpoint is left out when it succeeds so much less often than the others, any 5xx being a failure; 0%: never"),
    row("cluster.ejection.time", "10s", "how long it is left out; twice as long the second time in a row, and so on up to 5 minutes"),
    row("cluster.ejection.max", "50%", "of endpoints may be left out at the same time; one may in any case, but never the last"),
    row("cluster.health.probe", "none", "whether endpoints are asked if they are well: none, tcp or http"),
    row("cluster.health.path", "/", "what an http probe gets"),
    row("cluster.health.host", "the endpoint's", "the `Host` of an http probe"),
    row("cluster.health.expect", "200-399", "the status of a good answer: one, or from one to another"),
    row("cluster.health.interval", "5s", "from one probe to the next"),
    row("cluster.health.timeout", "2s", "a probe's answer"),
    row("cluster.health.rise", "2", "good answers in a row after which an endpoint is up; the very first decides at once"),
    row("cluster.health.fall", "3", "bad ones after which it is down"),
    row("cluster.connect_timeout", "1s", "a connection to an endpoint; then another endpoint, or 502"),
    row("cluster.response_timeout", "15s", "from the last byte sent to the answer's head; then 504. Also between two reads of the answer"),
    row("cluster.idle_timeout", "4s", "how long a connection waits for the next request; keep it below the endpoint's own"),
    row("cluster.idle_connections", "512", "connections that wait, per endpoint and shard"),
    row("cluster.endpoints.weight", "1", "the endpoint's share relative to the others"),
    row("cluster.endpoints.max_in_flight", "the cluster's", "requests under way at this endpoint"),
    row("cluster.endpoints_file", "none", "a file with further endpoints, `HOST:PORT` or `HOST:PORT weight=N` on each line, followed while it changes"),
    row("api.choose", "path", "how a request says which version it means: path, header or media-type"),
    row("api.header", "none", "with `choose = \"header\"`: the field whose value is the version's name"),
    row("api.media_type", "none", "with `choose = \"media-type\"`: such as `application/vnd.acme.{version}+json`, looked for in `Accept`"),
    row("api.default", "none", "the version of requests that name none; without it they get 400 or 406"),
    row("api.version.state", "active", "preview, active, deprecated or retired; dates move it on by themselves"),
    row("api.version.deprecated", "never", "a day (its first second, UTC) or an RFC 3339 time; answers say it as `Deprecation`"),
    row("api.version.sunset", "never", "the same for its retirement: `Sunset` until then, 410 from then on"),
    row("api.version.brownouts", "none", "`{ from, until }` between the two: 410 for a while, with `Retry-After`"),
    row("api.version.openapi", "none", "an OpenAPI 3.0 or 3.1 file, JSON or YAML; operations it does not know are refused"),
    row("route.api", "none", "the API the route belongs to; `version` then names one of its versions"),
    row("route.host", "any", "the host the route is for"),
    row("route.methods", "any but CONNECT and TRACE", "the methods the route takes; GET includes HEAD"),
    row("route.auth", "jwt if `jwt` is named", "which credential the route takes: jwt, api-key or either; none makes it public"),
    row("route.scopes", "none", "scopes a credential must have, all of them"),
    row("route.roles", "none", "roles of which a credential must have one"),
    row("route.forward_api_key", "false", "whether `X-Api-Key` travels on to the endpoint, once any consumer has an API key"),
    row("route.cost", "1", "units a request takes from every window of every limit"),
    row("route.refund", "never", "never or not-sent: a request of which no endpoint saw anything gets its cost back"),
    row("route.in_flight", "any", "requests of the route under way at once, on all shards together; beyond it: 429"),
    row("route.limit.strategy", "exact", "exact: in any stretch of time; calendar: per minute, hour, day, month or year of UTC; token-bucket: by `rate` and `burst`"),
    row("route.limit.burst", "none", "of a token bucket: what it holds; `rate` is what flows in, such as `\"10/second\"`"),
    row("route.limit.mode", "enforce", "enforce or shadow: decides, counts and says so in the log, but refuses nobody"),
    row("route.limit.exempt", "none", "`consumer:ID`, addresses and networks that the limit does not concern"),
    row("route.audit", "false", "whether the audit log has every request that goes to an endpoint, and how it ended"),
    row("route.slo", "none", "what the route promises, such as `99.9% < 250ms`; counted, with burn rates in `/metrics`"),
    row("route.priority", "normal", "normal or critical: who is turned away last under overload"),
    row("resolve.servers", "the system's", "name servers, as `10.0.0.53` or with a port; without them `/etc/resolv.conf` says who. `/etc/hosts` always comes first"),
    row("resolve.family", "both", "both, ipv4 or ipv6: which addresses of a name become endpoints"),
    row("resolve.ttl_min", "1s", "the soonest that a name is looked up again, whatever its TTL"),
    row("resolve.ttl_max", "5m", "the latest"),
    row("resolve.timeout", "3s", "one look-up with all its attempts; then the addresses stay as they are"),
    row("revocation.file", "none", "a list of revoked `jti`, `sub` and `kid`, followed while it changes"),
    row("revocation.entries", "100000", "the most entries of that file"),
    row("monitor.sample", "1%", "of exchanges: how many are timed step by step; a trusted proxy's `traceparent` can ask for more"),
    row("monitor.slow", "500ms", "a timed exchange that took this long is shown among the slow ones"),
    row("monitor.otlp", "none", "where the spans of timed exchanges go: an OTLP receiver, such as `http://127.0.0.1:4318/v1/traces`"),
    row("log.access", "access.log", "a path, `stdout`, `syslog` (`/dev/log`), `syslog:PATH` or `off`"),
    row("log.format", "json", "json, combined, or a line of your own with `{status}`, `{path}` … in it"),
    row("log.headers", "none", "fields of requests that lines show as well, such as `[\"User-Agent\"]`; none that carries a credential"),
    row("log.response_headers", "none", "the same of endpoints' answers"),
    row("log.query", "none", "parameters of queries that lines show; the rest of a query never reaches the log"),
    row("log.consumer_key_file", "none", "with it, lines show consumers as hashes under this key (HMAC-SHA256, 128 bits), never as they are; at least 32 bytes"),
    row("log.sample", "100%", "of successes (an endpoint's 2xx or 3xx that arrived whole): how many have a line; refusals and failures always have one"),
    row("log.rotate_bytes", "never", "a file that would grow beyond it is renamed, with the time in its name, and a new one begun"),
    row("log.rotate_age", "never", "the same for a file that has been written for so long"),
    row("log.ring", "4MiB", "lines each shard can be ahead of the disk, in bytes; beyond it they are dropped and counted"),
    row("audit.path", "none", "the audit log, for routes with `audit = true`"),
    row("audit.key_file", "none", "what it is authenticated with: at least 32 random bytes, kept where the log is not"),
    row("audit.durability", "buffered", "buffered: a record counts as made when the system has it, and outlives the process; fsync: when it is on the disk"),
    row("audit.on_full", "refuse", "when no record can be made: refuse (503 `overloaded`, nothing is forwarded) or drop (forwarded, counted and marked)"),
    row("audit.wait_max", "5s", "how long an exchange waits for its record; then it is refused, and an answer withheld, unless records may be dropped"),
    row("audit.ring", "4MiB", "records each shard can be ahead of the file, in bytes"),
    row("audit.checkpoint", "10s", "between two signed checkpoints, while records come"),
    row("audit.checkpoint_records", "10000", "records after which a checkpoint comes sooner"),
    row("audit.anchor", "none", "where checkpoints go besides the log: `stdout`, paths, addresses to post them to"),
    row("audit.rotate_bytes", "never", "as `log.rotate_bytes`"),
    row("audit.rotate_age", "never", "as `log.rotate_age`"),
];

/// The default of `key`, which must be in the table.
pub(super) fn of(key: &str) -> &'static str {
    DEFAULTS.iter().find(|row| row.key == key).map_or("", |row| row.value)
}

/// The table as Markdown, as the README shows it.
pub fn markdown() -> String {
    let mut table = String::from("| key | default | meaning |\n|---|---|---|\n");
    for row in DEFAULTS {
        table.push_str(&format!("| `{}` | {} | {} |\n", row.key, row.value, row.meaning));
    }
    table
}
