// Refreshes the page every two seconds from the JSON API; #trace=<id> shows one trace, #profile=<service>/<span> a span's profile.

import { age, ask, byId, clock, count, element, rate, reconcile, setText } from "./dom.js";
import { chooseSpan, redrawFlame, refreshFlame } from "./flame.js";
import { redraw, showHops } from "./map.js";
import { refreshTrace } from "./trace.js";

const PERIOD_MS = 2000;
const SIGNALS = ["traces", "metrics", "logs", "profiles"];
const FEWEST_TRACES = 18;
const MOST_TRACES = 60;
// Longer than the five seconds for which an SDK gathers spans: traces are then complete.
const SETTLED_S = 6;

function showCells(cells) {
  const services = new Map();
  for (const cell of cells) services.set(cell.service, { ...services.get(cell.service), [cell.signal]: cell });
  byId("cells").hidden = cells.length === 0;
  byId("cells-empty").hidden = cells.length > 0;
  reconcile(byId("cells").tBodies[0], [...services.entries()], ([service]) => service, createService,
    (row, [, signals]) => SIGNALS.forEach((signal, index) => showCell(row.children[index + 1], signals[signal])));
}

const createService = ([service]) => element("tr", {}, element("th", { scope: "row", textContent: service }),
  ...SIGNALS.map(() => element("td", {}, element("b"), element("small"))));

function showCell(cell, figures) {
  cell.className = !figures ? "none" : figures.age_s < 20 ? "fresh" : figures.age_s < 60 ? "late" : "stale";
  setText(cell.firstChild, figures ? rate(figures.rate_per_s) : "–");
  setText(cell.lastChild, figures ? `${count(figures.count)}, ${age(figures.age_s)}` : "never");
}

function showTraces(traces) {
  byId("traces").hidden = traces.length === 0;
  byId("traces-empty").hidden = traces.length > 0;
  reconcile(byId("traces").tBodies[0], traces, (trace) => trace.trace_id,
    (trace) => element("tr", {}, element("td"), element("td", {}, element("a", { href: `#trace=${trace.trace_id}` })),
      element("td", { className: "number" }), element("td", { className: "number" }), element("td"), element("td")),
    (row, trace) => {
      setText(row.children[0], clock(trace.start_unix_nano));
      setText(row.children[1].firstChild, trace.root || "(no name)");
      setText(row.children[2], trace.duration_ms.toFixed(1));
      setText(row.children[3], count(trace.spans));
      setText(row.children[4], trace.errors ? count(trace.errors) : "");
      row.children[4].className = trace.errors ? "number errors" : "number";
      setText(row.children[5], shortened(trace.services));
    });
}

/** As many traces as have room in the window above the footer. */
function tracesWithRoom() {
  const row = byId("traces").tBodies[0].rows[0]?.getBoundingClientRect();
  if (!row?.height) return FEWEST_TRACES;
  const room = innerHeight - scrollY - row.top - 2 * byId("memory").offsetHeight - 30;
  return Math.max(FEWEST_TRACES, Math.min(MOST_TRACES, Math.floor(room / row.height)));
}

/** Names without the prefix that all of them share, such as mythical-. */
function shortened(names) {
  const prefix = names[0]?.match(/^[^-]+-/)?.[0];
  return names.map((name) => (prefix && names.every((each) => each.startsWith(prefix)) ? name.slice(prefix.length) : name)).join(", ");
}

function showMemory({ memory, forward, uptime_s: uptime }) {
  const held = Object.entries(memory).map(([name, each]) => `${count(each.held)} of ${count(each.limit)} ${name}`);
  const sent = `forwarded ${count(forward.sent)}, waiting ${count(forward.waiting)}, rejected ${count(forward.failed)}, dropped ${count(forward.dropped)}`;
  const forwarding = Object.values(forward).some(Boolean) ? `; ${sent}` : "";
  setText(byId("memory"), `Held: ${held.join(", ")}${forwarding}; up ${age(uptime).replace(" ago", "")}`);
}

async function refresh() {
  const [, view, value] = location.hash.match(/^#(trace|profile)=(.*)$/) ?? [];
  if (view === "profile") {
    const [service, spanId] = value.split("/").map(decodeURIComponent);
    chooseSpan(service, spanId);
    history.replaceState(null, "", "#");
  }
  const summary = await ask("/api/summary");
  byId("trace").hidden = view !== "trace";
  byId("overview").hidden = view === "trace";
  byId("ui").hidden = !summary.ui;
  if (summary.ui) byId("ui").href = summary.ui;
  showMemory(summary);
  if (view === "trace") return refreshTrace(value, summary.ui);
  showCells(summary.cells);
  const limit = tracesWithRoom();
  const settled = await ask(`/api/traces?limit=${limit}&quiet_s=${SETTLED_S}`);
  const traces = settled.length ? settled : await ask(`/api/traces?limit=${limit}`);
  // With 20 traces per second, each refresh replaces all rows, and with them the link that the keyboard is on.
  if (!byId("traces").matches(":focus-within")) showTraces(traces);
  showHops(summary.hops);
  await refreshFlame();
}

let running = false;

/** One refresh at a time: a slow answer must not be overtaken by the next. */
async function tick() {
  if (running || document.hidden) return;
  running = true;
  try {
    await refresh();
    byId("state").className = "";
    setText(byId("state"), "live");
  } catch (fault) {
    byId("state").className = "lost";
    setText(byId("state"), fault instanceof TypeError ? "the gateway does not answer" : fault.message);
  } finally {
    running = false;
  }
}

function drawAgain() {
  redraw();
  redrawFlame();
  tick();
}

setInterval(tick, PERIOD_MS);
addEventListener("hashchange", tick);
addEventListener("resize", drawAgain);
document.addEventListener("visibilitychange", tick);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAgain);
byId("flame-choice").addEventListener("change", tick);
tick();
