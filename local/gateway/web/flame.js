// The flame graph: the profiles of one service merged, or the samples of one span.
/* global flamegraph, d3 */

import { ask, byId, count, duration, element, setOptions, setText } from "./dom.js";

const SETUP = "The flame graph needs a library that is not installed: run make setup.";
const ALL = "";
// Pixels of one frame: the graph fills the panel as far as this allows.
const LOWEST_FRAME = 18;
const HIGHEST_FRAME = 36;
let shown = "";
let wanted = null;
let widened = "";

/** Ask for the profile of one span; it is shown with the next refresh. */
export function chooseSpan(service, spanId) {
  wanted = { service, spanId };
}

/** Bring the choice up to date and draw again if the choice or its newest profile changed. */
export async function refreshFlame() {
  const profiles = await ask("/api/profiles?limit=1000");
  if (profiles.length === 0) return showNone();
  if (typeof flamegraph === "undefined") return setText(byId("flame-details"), SETUP);
  byId("flame-choice").hidden = false;
  setOptions(byId("flame-service"), unique(profiles.map((profile) => profile.service)).sort().map((name) => [name, name]));
  if (wanted) byId("flame-service").value = wanted.service;
  const service = byId("flame-service").value;
  const mine = profiles.filter((profile) => profile.service === service);
  setOptions(byId("flame-type"), unique(mine.map((profile) => profile.type)).map((type) => [type, type.split(":").slice(0, 2).join(" ")]));
  await offerSpans(service);
  const query = new URLSearchParams({ type: byId("flame-type").value, span_id: byId("flame-span").value });
  // A graph that someone is looking into waits with newer profiles until it is whole again.
  if (widened === `${service} ${query}`) return;
  const newest = `${service} ${query} ${mine.length} ${mine[0]?.time_unix_nano}`;
  if (newest !== shown && draw(await ask(`/api/profiles/${encodeURIComponent(service)}/flame?${query}`), `${service} ${query}`)) shown = newest;
}

/** Show that no profile is stored, also in place of those that a gateway had before its restart. */
function showNone() {
  redrawFlame();
  byId("flame-choice").hidden = true;
  byId("flame").replaceChildren();
  setText(byId("flame-details"), "No profile is stored.");
}

async function offerSpans(service) {
  const spans = await ask(`/api/profiles/${encodeURIComponent(service)}/spans?limit=200`);
  const select = byId("flame-span");
  const chosen = wanted?.spanId ?? select.value;
  wanted = null;
  const pairs = spans.map((span) => [span.span_id, `${span.name} ${span.span_id}`.trim()]);
  // The chosen one stays even when newer ones push it off the list.
  if (chosen !== ALL && !spans.some((span) => span.span_id === chosen)) pairs.unshift([chosen, chosen]);
  setOptions(select, [[ALL, "all"], ...pairs]);
  select.value = chosen;
}

function draw(tree, choice) {
  widened = "";
  const box = byId("flame");
  if (!tree) {
    box.replaceChildren();
    setText(byId("flame-details"), "No stored sample matches this selection.");
    return true;
  }
  const nanoseconds = byId("flame-type").value.includes("nanoseconds");
  const text = (value) => (nanoseconds ? duration(value) : count(value));
  box.replaceChildren(element("div")); // a panel with content has its full height
  const height = Math.max(LOWEST_FRAME, Math.min(HIGHEST_FRAME, Math.floor(box.clientHeight / (depth(tree) + 1))));
  const chart = flamegraph.default().width(box.clientWidth).cellHeight(height).minFrameSize(3).transitionDuration(0).inverted(true)
    .label((frame) => `${frame.data.name}: ${text(frame.data.value)}, ${((100 * frame.data.value) / tree.value).toFixed(1)} %`);
  chart.onClick((frame) => { widened = frame.depth > 0 ? choice : ""; });
  chart.setDetailsElement(byId("flame-details"));
  box.replaceChildren();
  d3.select(box).datum(tree).call(chart);
  setText(byId("flame-details"), `${text(tree.value)} in all; point at a frame to read it, click to widen it.`);
  return true;
}

const depth = (node) => 1 + Math.max(0, ...node.children.map(depth));

/** Draw again with the next refresh: the width changed. */
export function redrawFlame() {
  widened = "";
  shown = "";
}

const unique = (values) => [...new Set(values)];
