// One trace as a waterfall with its logs: what a laptop without the Aspire dashboard has.

import { ask, byId, clock, duration, element, reconcile, setText } from "./dom.js";

/** Show the trace, or say that it is not held; `ui` is Aspire's address or null. */
export async function refreshTrace(traceId, ui) {
  if (!/^[0-9a-f]{32}$/i.test(traceId)) return showNoTrace();
  const [spans, logs] = await Promise.all([
    ask(`/api/traces/${encodeURIComponent(traceId)}`),
    ask(`/api/logs?limit=1000&trace_id=${encodeURIComponent(traceId)}`),
  ]);
  byId("logs-panel").hidden = false;
  byId("trace-ui").hidden = !ui;
  if (ui) byId("trace-ui").href = `${ui.replace(/\/$/, "")}/traces/detail/${encodeURIComponent(traceId)}`;
  showSpans(traceId, spans ?? []);
  showLogs(logs.sort((one, other) => one.time_unix_nano - other.time_unix_nano));
}

function showNoTrace() {
  byId("trace-ui").hidden = byId("spans-panel").hidden = byId("logs-panel").hidden = true;
  setText(byId("trace-title"), "Not a trace");
  setText(byId("trace-facts"), "The id of a trace is 32 hexadecimal digits.");
}

function showSpans(traceId, spans) {
  byId("spans-panel").hidden = spans.length === 0;
  const start = Math.min(...spans.map((span) => span.start_unix_nano));
  const length = Math.max(1, Math.max(...spans.map((span) => span.end_unix_nano)) - start);
  setText(byId("trace-title"), spans.length ? `Trace ${traceId}` : `Trace ${traceId} is not stored`);
  setText(byId("trace-facts"), spans.length
    ? `${clock(start)} UTC, ${duration(length)}, ${spans.length} spans; open a span for its attributes`
    : "It was evicted, or has not arrived yet.");
  const rows = inTree(spans);
  // What went wrong is opened at once, else the root.
  const opened = (rows.find(({ span }) => span.status.code === "ERROR") ?? rows[0])?.span.span_id;
  reconcile(byId("spans"), rows, ({ span }) => `${traceId} ${span.span_id} ${span.profiled}`, ({ span }) => createSpan(span, span.span_id === opened), (item, row) => updateSpan(item, row, start, length));
}

/** The spans with their depth, each below its parent; one whose parent is not held counts as a root. */
function inTree(spans) {
  const children = new Map();
  const ids = new Set(spans.map((span) => span.span_id));
  for (const span of spans) {
    const parent = ids.has(span.parent_span_id) && span.parent_span_id !== span.span_id ? span.parent_span_id : "";
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const rows = [];
  const seen = new Set();
  const visit = (parent, depth) => {
    for (const span of children.get(parent) ?? []) {
      if (seen.has(span.span_id)) continue;
      seen.add(span.span_id);
      rows.push({ span, depth });
      visit(span.span_id, depth + 1);
    }
  };
  visit("", 0);
  // Parents that name each other in a ring are reached from no root.
  for (const span of spans) if (!seen.has(span.span_id)) rows.push({ span, depth: 0 });
  return rows;
}

function createSpan(span, open) {
  const details = element("dl");
  for (const [name, value] of facts(span)) details.append(element("dt", { textContent: name }), element("dd", {}, value));
  return element("li", {}, element("details", { open },
    element("summary", {},
      element("span", { className: "label", title: span.name }, span.name, " ",
        element("small")),
      element("span", { className: "track" }, element("span", { className: "bar" })),
      element("span", { className: "number" })),
    details));
}

function updateSpan(item, { span, depth }, start, length) {
  const [label, track, took] = item.querySelector("summary").children;
  item.className = span.status.code === "ERROR" ? "failed" : "";
  label.style.paddingLeft = `${Math.min(depth, 20) * 14}px`;
  setText(label.querySelector("small"), `${span.service} ${span.kind.toLowerCase()}${span.profiled ? ", profiled" : ""}`);
  const bar = track.firstChild;
  bar.style.left = `${(100 * (span.start_unix_nano - start)) / length}%`;
  bar.style.width = `${(100 * (span.end_unix_nano - span.start_unix_nano)) / length}%`;
  setText(took, duration(span.end_unix_nano - span.start_unix_nano));
}

function facts(span) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const rows = [["span id", span.span_id]];
  const profile = `#profile=${encodeURIComponent(span.service)}/${span.span_id}`;
  if (span.profiled) rows.push(["profile", element("a", { href: profile, textContent: "its samples as a flame graph" })]);
  if (span.status.code !== "UNSET") rows.push(["status", `${span.status.code} ${span.status.message}`]);
  rows.push(["scope", span.scope]);
  for (const [name, value] of Object.entries(span.attributes)) rows.push([name, text(value)]);
  for (const link of span.links) rows.push(["link to", element("a", { href: `#trace=${link.trace_id}` }, link.trace_id)]);
  for (const event of span.events) rows.push([`event ${event.name}`, text(event.attributes)]);
  for (const [name, value] of Object.entries(span.resource)) rows.push([`resource ${name}`, text(value)]);
  return rows;
}

function showLogs(logs) {
  byId("logs").hidden = logs.length === 0;
  byId("logs-empty").hidden = logs.length > 0;
  reconcile(byId("logs").tBodies[0], logs.map((line, index) => ({ ...line, index })), (line) => `${line.index} ${line.time_unix_nano}`,
    () => element("tr", {}, element("td", { className: "number" }), element("td"), element("td"), element("td")),
    (row, line) => {
      const values = [clock(line.time_unix_nano), line.labels.service_name ?? "", line.labels.level ?? "", line.line];
      values.forEach((value, index) => setText(row.children[index], value));
    });
}
