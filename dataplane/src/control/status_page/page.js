// The status page: asks for /status.json every two seconds while it is seen, and shows rates and states.
// Whatever comes from there is set as text or as numbers of a drawing, never as markup.
"use strict";

const INTERVAL = 2000; // milliseconds between two readings
const PATIENCE = 10000; // milliseconds for an answer
const POINTS = 90; // of a chart
const ROWS = 50; // of a table on a page: what the document holds is bounded, however many backends there are
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function set(node, key, value) {
  if (node[key] !== value) node[key] = value;
}

// --- numbers ---

// Three digits and a unit of thousands; "–" for what is not known.
function short(number) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "–";
  if (number < 9.95 && !Number.isInteger(number)) return number.toFixed(1);
  const units = ["", "k", "M", "G", "T", "P"];
  let unit = 0;
  while (number >= 999.5 && unit + 1 < units.length) {
    number /= 1000;
    unit += 1;
  }
  const digits = unit === 0 ? 0 : number < 9.995 ? 2 : number < 99.95 ? 1 : 0;
  return number.toFixed(digits) + units[unit];
}

const percent = (ratio) => (ratio * 100).toFixed(1);

function duration(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const days = Math.floor(whole / 86400);
  const clock = `${two(Math.floor(whole / 3600) % 24)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return days > 0 ? `${days}d ${clock}` : clock;
}

// --- charts ---

function chart(className, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `chart ${className}`);
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 30`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  for (const kind of ["area", "line"]) {
    const shape = document.createElementNS(SVG, kind === "area" ? "polygon" : "polyline");
    shape.setAttribute("class", kind);
    svg.append(shape);
  }
  return svg;
}

// The newest value is at the right edge, the highest one at the top.
function plot(svg, values) {
  const most = Math.max(...values, 0);
  const x0 = POINTS - values.length;
  const points = values.map((value, index) => {
    const y = most > 0 ? 29 - (28 * value) / most : 29;
    return `${x0 + index},${y.toFixed(2)}`;
  });
  svg.lastChild.setAttribute("points", points.join(" "));
  svg.firstChild.setAttribute("points", points.length ? `${x0},30 ${points.join(" ")} ${POINTS - 1},30` : "");
}

const histories = new Map();

function remember(key, value) {
  let values = histories.get(key);
  if (!values) histories.set(key, (values = []));
  if (value !== null) {
    values.push(value);
    if (values.length > POINTS) values.shift();
  }
  return values;
}

// --- readings ---

let before = null;
let now = null;

// Per second of the daemon's time; null without two readings of one run, or when a counter went back.
function rate(old, current) {
  if (old === undefined || old === null || !span()) return null;
  return current < old ? null : (current - old) / span();
}

function span() {
  if (!before || before.status.pid !== now.status.pid) return 0;
  return Math.max(now.status.uptime_seconds - before.status.uptime_seconds, 0);
}

const indexed = (list, key) => new Map((list || []).map((one) => [key(one), one]));
const sum = (list, key) => (list || []).reduce((total, one) => total + one[key], 0);

function traffic(old, one) {
  const each = (key) => rate(old && old[key], one[key]);
  const bits = (key) => (each(key) === null ? null : each(key) * 8);
  return {
    active: one.connections_active,
    fresh: each("connections_total"),
    packetsIn: each("packets_in"),
    bitsIn: bits("bytes_in"),
    packetsOut: each("packets_out"),
    bitsOut: bits("bytes_out"),
  };
}

function backendState(backend) {
  if (backend.removed) return ["removed, draining", "care"];
  const rest = backend.drain_remaining_seconds;
  if (backend.admin !== "enabled") {
    const why = rest === undefined ? "" : `, ${Math.ceil(rest)} s left`;
    return [backend.admin + why + (backend.health === "down" ? ", down" : ""), "care"];
  }
  if (backend.health === "down") return ["down", "bad"];
  return [backend.health_checked ? "up" : "unchecked", "good"];
}

// What the tables show of the two readings.
function digest() {
  const old = before && span() ? before : null;
  const oldServices = indexed(old && old.services, (one) => one.name);
  const services = [];
  const backends = [];
  for (const service of now.services) {
    const past = oldServices.get(service.name);
    const usable = service.backends.filter((one) => one.admin === "enabled" && one.health === "up").length;
    const listed = service.backends.filter((one) => !one.removed).length;
    const vip = String(service.vip);
    const row = {
      key: service.name,
      name: service.name,
      endpoint: `${service.protocol} ${vip.includes(":") ? `[${vip}]` : vip}:${service.ports}`,
      mode: service.tunnel === "none" ? service.mode : `${service.mode}/${service.tunnel}`,
      state: [`${usable} of ${listed}${service.panic ? ", all used" : ""}`, usable === 0 ? "bad" : usable < listed ? "care" : "good"],
      up: usable / Math.max(listed, 1),
      ...traffic(past, service),
    };
    row.history = remember(`service ${service.name}`, row.packetsIn);
    services.push(row);
    const oldBackends = indexed(past && past.backends, (one) => `${one.removed} ${one.address}`);
    for (const backend of service.backends) {
      const since = backend.health_since_seconds;
      backends.push({
        key: `${service.name} ${backend.address} ${backend.removed || ""}`,
        name: backend.address,
        service: service.name,
        state: backendState(backend),
        since: since === undefined || since === null ? null : since,
        weight: backend.slow_start_weight === undefined ? String(backend.weight) : `${backend.slow_start_weight} of ${backend.weight}`,
        weightNumber: backend.weight,
        tier: backend.tier,
        why: backend.health === "down" ? backend.health_detail : "",
        ...traffic(oldBackends.get(`${backend.removed} ${backend.address}`), backend),
      });
    }
  }
  const kept = new Set(services.map((one) => `service ${one.key}`));
  for (const key of histories.keys()) if (key.startsWith("service ") && !kept.has(key)) histories.delete(key);

  const oldWorkers = indexed(old && old.workers, (one) => one.cpu);
  const workers = now.workers.map((worker) => {
    const past = oldWorkers.get(worker.cpu);
    const each = (key) => rate(past && past[key], worker[key]);
    return {
      key: worker.cpu,
      name: String(worker.cpu),
      busy: worker.busy_ratio,
      rx: each("rx_packets"),
      tx: each("tx_packets"),
      drops: each("dropped_packets"),
      active: worker.connections_active,
      load: worker.table_load_ratio,
      fresh: each("connections_total"),
      handoffs: each("handoffs"),
      evictions: each("evictions"),
    };
  });
  const drops = Object.entries(now.drops)
    .filter(([, packets]) => packets > 0)
    .map(([reason, packets]) => ({ key: reason, name: reason, packets, rate: rate(old && (old.drops[reason] || 0), packets) }));
  const oldPorts = indexed(old && old.ports, (one) => one.name);
  const ports = now.ports.map((port) => {
    const past = oldPorts.get(port.name);
    const each = (...keys) => {
      const total = (counters) => keys.reduce((all, key) => all + counters[key], 0);
      return rate(past && total(past.counters), total(port.counters));
    };
    const bits = (key) => (each(key) === null ? null : each(key) * 8);
    return {
      key: port.name,
      name: port.name,
      state: [port.link, port.link === "up" ? "good" : port.link === "down" ? "bad" : "care"],
      speed: port.link_mbps ? port.link_mbps * 1e6 : null,
      driver: port.driver,
      rx: each("rx_packets"),
      rxBits: bits("rx_bytes"),
      tx: each("tx_packets"),
      txBits: bits("tx_bytes"),
      missed: each("rx_missed", "rx_no_buffer"),
      errors: each("rx_errors", "tx_errors"),
    };
  });
  return { services, backends, workers, drops, ports };
}

// --- tables ---

const name = (title) => ({ title, value: (row) => row.name, head: true });
const number = (title, value, hot) => ({ title, value, number: true, show: (row) => short(value(row)), hot });
const state = (title) => ({ title, value: (row) => row.state[0], state: true });
const lost = (value) => (row) => value(row) > 0;
const flow = [
  number("Active", (row) => row.active),
  number("New/s", (row) => row.fresh),
  number("In pkt/s", (row) => row.packetsIn),
  number("In bit/s", (row) => row.bitsIn),
  number("Out pkt/s", (row) => row.packetsOut),
  number("Out bit/s", (row) => row.bitsOut),
];

class Table {
  constructor(title, nothing, columns, sort) {
    this.columns = columns;
    this.sort = sort; // [column, descending], or null: in the order of the configuration
    this.page = 0;
    this.rows = [];
    this.block = make("section", "block");
    this.block.setAttribute("aria-label", title);
    const heading = make("h2", "", `${title} `);
    this.count = make("span", "count");
    heading.append(this.count);
    this.scroll = make("div", "scroll");
    this.scroll.tabIndex = 0;
    this.scroll.setAttribute("role", "region");
    this.scroll.setAttribute("aria-label", `${title}, table`);
    const table = make("table");
    const head = make("tr");
    this.heads = columns.map((column, index) => {
      const cell = make("th", column.number ? "number" : "");
      cell.scope = "col";
      if (column.chart) {
        cell.textContent = column.title;
      } else {
        const button = make("button", "", column.title);
        button.type = "button";
        button.addEventListener("click", () => this.turn(index));
        cell.append(button);
      }
      head.append(cell);
      return cell;
    });
    const thead = make("thead");
    thead.append(head);
    this.body = make("tbody");
    table.append(thead, this.body);
    this.scroll.append(table);
    this.empty = make("p", "nothing", nothing);
    this.pages = make("div", "pages");
    this.back = make("button", "", "Previous");
    this.forth = make("button", "", "Next");
    this.place = make("span");
    for (const [button, step] of [[this.back, -1], [this.forth, 1]]) {
      button.type = "button";
      button.addEventListener("click", () => {
        this.page += step;
        this.draw();
      });
    }
    this.pages.append(this.back, this.place, this.forth);
    this.block.append(heading, this.scroll, this.empty, this.pages);
    at("tables").append(this.block);
  }

  turn(index) {
    const [column, descending] = this.sort || [null, false];
    this.sort = [index, column === index ? !descending : Boolean(this.columns[index].number)];
    this.page = 0;
    this.draw();
  }

  show(rows, all) {
    this.rows = rows;
    this.all = all;
    this.draw();
  }

  draw() {
    let rows = this.rows;
    if (this.sort) {
      const [index, descending] = this.sort;
      const value = this.columns[index].value;
      const order = (one, two) => {
        const [a, b] = [value(one), value(two)];
        if (typeof a === "string" && typeof b === "string") return a < b ? -1 : a > b ? 1 : 0;
        return (a ?? -1) - (b ?? -1);
      };
      rows = [...rows].sort((one, two) => (descending ? -order(one, two) : order(one, two)));
    }
    this.heads.forEach((cell, index) => {
      if (this.sort && this.sort[0] === index) cell.setAttribute("aria-sort", this.sort[1] ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      if (cell.firstElementChild) {
        const mark = this.sort && this.sort[0] === index ? (this.sort[1] ? " ▼" : " ▲") : "";
        set(cell.firstElementChild, "textContent", this.columns[index].title + mark);
      }
    });
    const last = Math.max(Math.ceil(rows.length / ROWS) - 1, 0);
    this.page = Math.min(Math.max(this.page, 0), last);
    const first = this.page * ROWS;
    const seen = rows.slice(first, first + ROWS);
    while (this.body.rows.length > seen.length) this.body.lastChild.remove();
    while (this.body.rows.length < seen.length) this.body.append(this.row());
    seen.forEach((row, index) => this.fill(this.body.rows[index], row));
    set(this.count, "textContent", rows.length === this.all ? String(this.all) : `${rows.length} of ${this.all}`);
    set(this.scroll, "hidden", rows.length === 0);
    set(this.empty, "hidden", rows.length > 0);
    set(this.pages, "hidden", last === 0);
    set(this.place, "textContent", `${first + 1} to ${first + seen.length} of ${rows.length}`);
    set(this.back, "disabled", this.page === 0);
    set(this.forth, "disabled", this.page === last);
  }

  row() {
    const row = make("tr");
    for (const column of this.columns) {
      const cell = make(column.head ? "th" : "td", column.number ? "number" : column.wide ? "wide" : "");
      if (column.head) cell.scope = "row";
      if (column.act) {
        const button = make("button");
        button.type = "button";
        button.addEventListener("click", () => column.act(row.shown));
        cell.append(button);
      }
      if (column.state) cell.append(make("span"));
      if (column.chart) cell.append(chart("small", ""));
      row.append(cell);
    }
    return row;
  }

  fill(node, row) {
    node.shown = row;
    this.columns.forEach((column, index) => {
      const cell = node.cells[index];
      if (column.chart) {
        cell.firstChild.setAttribute("aria-label", `${column.title} of ${row.name}, latest ${short(column.value(row).at(-1))}`);
        plot(cell.firstChild, column.value(row));
        return;
      }
      const text = column.show ? column.show(row) : String(column.value(row) ?? "–");
      set(column.state || column.act ? cell.firstChild : cell, "textContent", text);
      if (column.state) set(cell.firstChild, "className", `state ${row.state[1]}`);
      if (column.hot) cell.classList.toggle("hot", column.hot(row));
    });
  }
}

const tables = {
  services: new Table("Services", "No service.", [
    { ...name("Service"), act: (row) => look(row.name) },
    { title: "Endpoint", value: (row) => row.endpoint },
    { title: "Mode", value: (row) => row.mode },
    { ...state("Up"), value: (row) => row.up, show: (row) => row.state[0] },
    ...flow,
    { title: "Packets in", value: (row) => row.history, chart: true },
  ], null),
  backends: new Table("Backends", "No backend.", [
    name("Backend"),
    { title: "Service", value: (row) => row.service },
    state("State"),
    number("For", (row) => row.since),
    { title: "Weight", value: (row) => row.weightNumber, show: (row) => row.weight + (row.tier ? `, tier ${row.tier}` : ""), number: true },
    ...flow,
    { title: "Why", value: (row) => row.why, wide: true },
  ], null),
  workers: new Table("Workers", "No worker.", [
    { ...name("CPU"), value: (row) => Number(row.name), show: (row) => row.name },
    { title: "Busy %", value: (row) => row.busy, show: (row) => percent(row.busy), number: true, hot: (row) => row.busy > 0.9 },
    number("RX pkt/s", (row) => row.rx),
    number("TX pkt/s", (row) => row.tx),
    number("Drops/s", (row) => row.drops, lost((row) => row.drops)),
    number("Active", (row) => row.active),
    number("New/s", (row) => row.fresh),
    { title: "Table %", value: (row) => row.load, show: (row) => percent(row.load), number: true, hot: (row) => row.load > 0.9 },
    number("Hand-offs/s", (row) => row.handoffs),
    number("Evictions/s", (row) => row.evictions, lost((row) => row.evictions)),
  ], null),
  drops: new Table("Drops", "Nothing was dropped.", [
    name("Reason"),
    number("Packets/s", (row) => row.rate, lost((row) => row.rate)),
    number("Packets", (row) => row.packets),
  ], [1, true]),
  ports: new Table("Ports", "No port.", [
    name("Port"),
    state("Link"),
    number("Speed bit/s", (row) => row.speed),
    { title: "Driver", value: (row) => row.driver },
    number("RX pkt/s", (row) => row.rx),
    number("RX bit/s", (row) => row.rxBits),
    number("TX pkt/s", (row) => row.tx),
    number("TX bit/s", (row) => row.txBits),
    number("Missed/s", (row) => row.missed, lost((row) => row.missed)),
    number("Errors/s", (row) => row.errors, lost((row) => row.errors)),
  ], null),
};
// How long a state has lasted is a time, not a count.
const lasting = tables.backends.columns[3];
lasting.show = (row) => (row.since === null ? "–" : duration(row.since));

// --- the page ---

const cards = new Map();

function card(title, value, more, history) {
  let parts = cards.get(title);
  if (!parts) {
    const block = make("div", "card");
    parts = { value: make("div", "value"), more: make("div", "more"), svg: chart("", "") };
    block.append(make("h2", "", title), parts.value, parts.more, parts.svg);
    at("cards").append(block);
    cards.set(title, parts);
  }
  set(parts.value, "textContent", value);
  set(parts.more, "textContent", more);
  parts.svg.setAttribute("aria-label", `${title} of the last minutes, now ${value}`);
  plot(parts.svg, remember(`card ${title}`, history));
}

function drawCards() {
  const old = before && span() ? before : null;
  const status = now.status;
  const each = (key) => rate(old && old.status[key], status[key]);
  const bits = (key) => (rate(old && old[key], now[key]) ?? NaN) * 8;
  const known = (value) => (value === null || Number.isNaN(value) ? null : value);
  card("Packets received/s", short(each("rx_packets")), `${short(each("tx_packets"))} sent/s`, each("rx_packets"));
  card("Bits received/s", short(bits("rx_bytes")), `${short(bits("tx_bytes"))} sent/s`, known(bits("rx_bytes")));
  card("Connections", short(status.connections_active), `of ${short(status.connections_max)}`, status.connections_active);
  const fresh = rate(old && sum(old.workers, "connections_total"), sum(now.workers, "connections_total"));
  card("New connections/s", short(fresh), "", fresh);
  const received = each("rx_packets");
  const dropped = each("dropped_packets");
  const share = received > 0 && dropped !== null ? `${percent(dropped / received)} % of received` : "";
  card("Drops/s", short(dropped), share, dropped);
  const busy = Math.max(...now.workers.map((worker) => worker.busy_ratio), 0);
  card("Busiest worker", `${percent(busy)} %`, `${status.workers} in all`, busy);
}

function drawNotices() {
  const list = at("notices");
  const notices = now.status.notices.slice(0, ROWS);
  while (list.children.length > notices.length) list.lastChild.remove();
  while (list.children.length < notices.length) list.append(make("li"));
  notices.forEach((notice, index) => set(list.children[index], "textContent", notice));
}

let seen = null;

function drawTables() {
  if (!seen) return;
  const filter = at("filter").value.trim().toLowerCase();
  const trouble = at("trouble").checked;
  const wanted = (row) => {
    if (trouble && row.state[1] === "good") return false;
    if (!filter) return true;
    const words = [row.name, row.service || "", row.endpoint || "", row.state[0], row.why || ""];
    return words.some((word) => word.toLowerCase().includes(filter));
  };
  for (const [key, table] of Object.entries(tables)) {
    const filtered = key === "services" || key === "backends";
    table.show(filtered ? seen[key].filter(wanted) : seen[key], seen[key].length);
  }
}

function look(service) {
  at("filter").value = service;
  for (const table of Object.values(tables)) table.page = 0;
  drawTables();
  tables.backends.block.scrollIntoView({ block: "nearest" });
}

function say(text, tone) {
  const node = at("state");
  set(node, "textContent", text);
  set(node, "className", tone);
}

function draw() {
  const status = now.status;
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  set(at("facts"), "textContent",
    `${status.version}, up ${duration(status.uptime_seconds)}, generation ${status.generation}, ` +
    `${plural(status.services, "service")}, ${status.backends_up} of ${status.backends} backends up`);
  seen = digest();
  drawCards();
  drawNotices();
  drawTables();
}

// --- asking ---

let timer = null;
let asking = false;
let failed = null;
let paused = false;

const awake = () => !document.hidden && !paused;

async function ask() {
  timer = null;
  if (asking || !awake()) return;
  asking = true;
  const begin = performance.now();
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const reading = await answer.json();
    // The same answer again says nothing new.
    if (!now || reading.status.pid !== now.status.pid || reading.status.uptime_seconds > now.status.uptime_seconds) {
      before = now;
      now = reading;
      draw();
    }
    failed = null;
    if (awake()) say("live", "good");
  } catch (error) {
    failed = failed || Date.now();
    say(`no answer for ${Math.round((Date.now() - failed) / 1000)} s, trying on`, "bad");
  }
  asking = false;
  // What takes long is asked for less often.
  if (awake()) timer = setTimeout(ask, Math.max(INTERVAL, 4 * (performance.now() - begin)));
}

function wake() {
  clearTimeout(timer);
  if (awake()) ask();
  else say(paused ? "paused" : "waiting", "care");
}

document.addEventListener("visibilitychange", wake);
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  set(at("pause"), "textContent", paused ? "Go on" : "Pause");
  wake();
});
at("controls").addEventListener("submit", (event) => event.preventDefault());
at("filter").addEventListener("input", () => {
  for (const table of Object.values(tables)) table.page = 0;
  drawTables();
});
at("trouble").addEventListener("change", drawTables);
ask();
