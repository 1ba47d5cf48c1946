"use strict";
// Asks for what is new once a second, and shows it. Everything that comes from outside becomes a text node.
(() => {
  const KEPT = 600;
  const seconds = [];
  let after = 0, steps = [], charts = [], answered = 0;

  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = String(text);
    if (kind) element.className = kind;
    return element;
  };
  const ms = (us) => (us === null || us === undefined ? null : us / 1000);
  const short = (value, digits = 3) => {
    if (value === null || value === undefined) return "–";
    if (value >= 1e6) return (value / 1e6).toPrecision(digits) + "M";
    if (value >= 1e4) return (value / 1e3).toPrecision(digits) + "k";
    return Number.isInteger(value) ? String(value) : value >= 100 ? value.toFixed(0) : value.toPrecision(digits);
  };
  const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
  const time = (text) => {
    const date = new Date(text);
    return Number.isNaN(date.getTime()) ? text : date.toLocaleTimeString([], { hour12: false });
  };

  const PALETTE = ["--accent", "--good", "--warn", "--bad", "--ink", "--quiet"];
  const PLOTS = [
    { id: "rates", unit: "", lines: () => [["answered", (s) => s.requests], ["refused", (s) => s.refused], ["5xx", (s) => s.failed]] },
    { id: "latency", unit: " ms", lines: () => ["p50", "p90", "p99", "p99.9"].map((name, place) => [name, (s) => ms(s.whole_us[place])]) },
    { id: "share", unit: " ms", lines: () => ["p50", "p90", "p99", "p99.9"].map((name, place) => [name, (s) => ms(s.gateway_us[place])]) },
    { id: "busy", unit: "%", max: 100, lines: () => {
      const shards = seconds.length ? seconds[seconds.length - 1].busy.length : 1;
      const shown = Math.min(shards, 6);
      return Array.from({ length: shown }, (_, shard) => ["shard " + shard, (s) => (s.busy[shard] ?? 0) / 10]);
    } },
  ];

  const draw = () => {
    for (const chart of charts) { chart.watch.disconnect(); chart.plot.destroy(); }
    charts = PLOTS.map(({ id, unit, max, lines }) => {
      const holder = byId(id), series = lines();
      const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
      const plot = new uPlot({
        width: Math.max(holder.clientWidth, 200), height: 200,
        cursor: { y: false },
        padding: [8, 28, 0, 0],
        scales: { y: { range: (_, low, high) => [0, max ?? Math.max(high * 1.1, 1e-3)] } },
        axes: [{ ...axis, space: 80, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => short(tick)) }],
        series: [{ value: (_, at) => (at ? clock(at) : "–") }].concat(
          series.map(([label], place) => ({
            label, stroke: colour(PALETTE[place % PALETTE.length]), width: 1.5, points: { show: false },
            value: (_, value) => (value === null || value === undefined ? "–" : short(value) + unit),
          }))),
      }, [[]], holder);
      const watch = new ResizeObserver(() => plot.setSize({ width: Math.max(holder.clientWidth, 200), height: 200 }));
      watch.observe(holder);
      return { plot, watch, series };
    });
    fill();
  };
  const fill = () => {
    const times = seconds.map((second) => second.at);
    for (const { plot, series } of charts) plot.setData([times, ...series.map(([, read]) => seconds.map(read))]);
  };

  const tiles = () => {
    const last = seconds.slice(-5), mean = (read) => last.length ? last.reduce((sum, s) => sum + read(s), 0) / last.length : null;
    const now = seconds[seconds.length - 1];
    const shown = [
      ["requests/s", short(mean((s) => s.requests))],
      ["in flight", now ? short(now.in_flight) : "–"],
      ["p50, ms", now ? short(ms(now.whole_us[0])) : "–"],
      ["p99, ms", now ? short(ms(now.whole_us[2])) : "–"],
      ["gateway p99, ms", now ? short(ms(now.gateway_us[2])) : "–"],
      ["endpoints p99, ms", now ? short(ms(now.endpoint_us[2])) : "–"],
      ["refused/s", short(mean((s) => s.refused))],
      ["5xx/s", short(mean((s) => s.failed))],
      ["busiest shard", now ? Math.round(Math.max(0, ...now.busy) / 10) + "%" : "–"],
    ];
    byId("tiles").replaceChildren(...shown.map(([name, value]) => {
      const tile = make("div", null, "tile");
      tile.append(make("b", value), make("span", name));
      return tile;
    }));
  };

  // Columns: title, what to show, and the kind of cell.
  const table = (id, columns, rows, nothing) => {
    const holder = byId(id);
    if (!rows.length) { holder.replaceChildren(make("p", nothing, "quiet")); return; }
    const head = make("tr"), body = make("tbody"), whole = make("table"), top = make("thead");
    for (const [title, , kind] of columns) head.append(make("th", title, kind));
    for (const row of rows) {
      const line = make("tr");
      for (const [, show, kind] of columns) {
        const cell = make("td", null, kind), shown = show(row);
        cell.append(shown instanceof Node ? shown : document.createTextNode(shown ?? "–"));
        line.append(cell);
      }
      body.append(line);
    }
    top.append(head);
    whole.append(top, body);
    const left = holder.scrollLeft, down = holder.scrollTop;
    holder.replaceChildren(whole);
    holder.scrollLeft = left;
    holder.scrollTop = down;
  };
  const bar = (share, kind) => {
    const outer = make("div", null, "bar"), inner = make("i", null, kind);
    inner.style.width = Math.min(100, Math.max(0, share * 100)) + "%";
    outer.append(inner);
    return outer;
  };
  const state = (word) => make("span", word, "state " + String(word).replace(/[^a-z-]/g, ""));
  const quotas = (consumer) => {
    const all = make("div");
    for (const { route, used, quota, window_s } of consumer.quotas) {
      const line = make("div", null, "quota"), share = used / quota;
      line.append(bar(share, share >= 1 ? "full" : share >= 0.8 ? "near" : ""), make("span", `${used} of ${quota} in ${window_s} s, ${route}`));
      all.append(line);
    }
    return consumer.quotas.length ? all : make("span", "–");
  };
  const timeline = (exchange) => {
    const all = make("div"), whole = make("div", null, "bar steps");
    const taken = (exchange.steps_us ?? []).map((us, place) => [steps[place], us, place]).filter(([, us]) => us > 0);
    const sum = taken.reduce((total, [, us]) => total + us, 0) || 1;
    for (const [, us, place] of taken) {
      const part = make("i");
      part.style.width = (us / sum) * 100 + "%";
      part.style.background = colour(PALETTE[place % PALETTE.length]);
      whole.append(part);
    }
    all.append(whole, make("div", taken.map(([step, us]) => `${step} ${short(ms(us))} ms`).join(", "), "quiet"));
    return all;
  };

  const show = (live, clusters) => {
    steps = live.steps;
    const phase = byId("phase");
    phase.textContent = live.phase;
    phase.className = "state " + live.phase;
    byId("facts").textContent = `${live.version}, configuration ${live.generation}, ${live.connections} connections, ${live.drivers.length} shards`;
    const shards = seconds.length ? seconds[seconds.length - 1].busy.length : 0;
    for (const second of live.seconds) { seconds.push(second); after = second.at; }
    while (seconds.length > KEPT) seconds.shift();
    const shardsNow = seconds.length ? seconds[seconds.length - 1].busy.length : 0;
    if (shards !== shardsNow) draw(); else fill();
    tiles();

    const shares = new Map();
    for (const { cluster, endpoints } of live.clusters) for (const known of endpoints) shares.set(cluster + "\n" + known.endpoint, known);
    const endpoints = clusters.flatMap(({ cluster, endpoints }) => endpoints.map((known) => ({ cluster, ...known, ...shares.get(cluster + "\n" + known.endpoint) })));
    const split = (name, place) => ["whole_us", "gateway_us", "endpoint_us"].map((of, column) => [
      [name, "gateway", "endpoint"][column], (r) => short(ms(r[of][place])), "number",
    ]);
    table("routes", [
      ["Route", (r) => r.route, "long"], ["A second", (r) => short(r.per_s), "number"], ["4xx/s", (r) => short(r.refused_per_s), "number"],
      ["5xx/s", (r) => short(r.failed_per_s), "number"], ...split("p50, ms", 0), ...split("p99, ms", 1),
    ], live.routes, "None.");
    table("endpoints", [
      ["Cluster", (e) => e.cluster], ["Endpoint", (e) => e.endpoint], ["State", (e) => state(e.state)],
      ["Why", (e) => e.reason, "long"], ["In flight", (e) => e.in_flight, "number"],
      ["Last minute", (e) => short(e.last_minute), "number"],
      ["Share", (e) => (e.share === undefined ? "–" : (e.share * 100).toFixed(0) + "%"), "number"], ["", (e) => bar(e.share ?? 0, "")],
    ], endpoints, "None.");
    table("consumers", [
      ["Consumer", (c) => c.consumer, "long"], ["A second", (c) => short(c.per_s), "number"], ["Calls", (c) => short(c.calls), "number"],
      ["4xx", (c) => short(c.refused), "number"], ["5xx", (c) => short(c.failed), "number"],
      ["Last call", (c) => time(c.last_call), "number"], ["Quotas", quotas],
    ], live.consumers, "Nobody has called with a credential yet.");
    table("objectives", [
      ["Route", (o) => o.route], ["Promise", (o) => `${+(o.good * 100).toFixed(3)}% < ${o.within_ms} ms`],
      ...["5m", "1h", "6h"].map((window) => ["Burn rate, " + window, (o) => {
        const rate = o.burn_rate[window];
        return make("span", rate.toFixed(2), rate > 1 ? "bad" : "");
      }, "number"]),
    ], live.objectives, "No route states an objective (slo).");
    table("audit", [
      ["State", (a) => state(a.failing ? "failing" : "writing")], ["Lines", (a) => short(a.lines), "number"],
      ["Requests refused", (a) => short(a.refused), "number"], ["Answers withheld", (a) => short(a.withheld), "number"],
      ["Answers without record", (a) => short(a.unproven), "number"], ["Records missing", (a) => short(a.dropped), "number"],
      ["Checkpoints", (a) => short(a.checkpoints), "number"],
      ["Kept elsewhere", (a) => short(a.anchored.arrived) + (a.anchored.failed ? `, ${short(a.anchored.failed)} failed` : ""), "number"],
    ], live.audit ? [live.audit] : [], "There is none (audit.path).");
    table("refusals", [
      ["Code", (r) => r.code, "code"], ["Status", (r) => r.status, "number"],
      ["Last minute", (r) => short(r.last_minute), "number"], ["Ever", (r) => short(r.total), "number"],
    ], [...live.refusals].sort((one, other) => other.last_minute - one.last_minute || other.total - one.total), "None yet.");
    table("last", [
      ["Time", (r) => time(r.at), "number"], ["Code", (r) => r.code, "code"], ["End", (r) => r.termination, "code"], ["Why", (r) => r.reason || "–", "long"], ["Route", (r) => r.route],
      ["Consumer", (r) => r.consumer, "long"], ["Request", (r) => `${r.method} ${r.path}`, "long"], ["From", (r) => r.client_ip],
      ["Id", (r) => make("code", r.request_id), "long"],
    ], live.last_refusals, "None yet.");
    table("slow", [
      ["Time", (r) => time(r.at), "number"], ["Took, ms", (r) => short(ms(r.duration_us)), "number"], ["Status", (r) => r.status, "number"],
      ["End", (r) => r.termination, "code"], ["Route", (r) => r.route], ["Request", (r) => `${r.method} ${r.path}`, "long"], ["Steps", timeline],
    ], live.slow, "None among those that were timed (monitor.sample, monitor.slow).");
  };

  const lost = () => {
    const phase = byId("phase");
    phase.textContent = "no answer";
    phase.className = "state lost";
  };
  const ask = async () => {
    try {
      const [live, clusters] = await Promise.all(["/live?after=" + after, "/clusters"].map(async (path) => {
        // Whoever came in by the gate has a token.
        const token = sessionStorage.getItem("tollgate-admin-token");
        const answer = await fetch(path, { cache: "no-store", headers: token ? { Authorization: "Bearer " + token } : {} });
        if (!answer.ok) throw new Error(answer.status);
        return answer.json();
      }));
      show(live, clusters);
      answered += 1;
      document.documentElement.dataset.answered = answered;
    } catch (error) {
      lost();
      document.documentElement.dataset.error = String(error);
    }
    setTimeout(ask, document.hidden ? 5000 : 1000);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  tiles();
  ask();
})();
