// The service map: services, the database and the broker, with the rate of each kind of call on the edges.
/* global cytoscape */

import { byId, rate, reconcile, element, setText } from "./dom.js";

const SETUP = "The service map needs a library that is not installed: run make setup.";
const VERBS = { http: "calls", sql: "queries", publish: "publishes to", deliver: "delivers to" };
// Pixels that three services next to each other need, with the rates between them; with less, they are drawn downwards.
const WIDE = 560;
let graph = null;
let drawn = "";

/** Show the hops of the summary, as a map where the library is there and as a list in any case. */
export function showHops(hops) {
  reconcile(byId("hops"), hops, (hop) => `${hop.from} ${hop.to} ${hop.kind}`, () => element("li"),
    (item, hop) => setText(item, `${hop.from} ${VERBS[hop.kind]} ${hop.to}: ${rate(hop.rate_per_s)}`));
  const available = typeof cytoscape !== "undefined";
  document.body.classList.toggle("plain", !available);
  byId("map").hidden = !available || hops.length === 0;
  // Where there is a map, the list is for those who cannot see it.
  byId("hops").className = byId("map").hidden ? "" : "unseen";
  byId("map-empty").hidden = available && hops.length > 0;
  if (!available) setText(byId("map-empty"), SETUP);
  if (!byId("map").hidden) draw(hops);
}

function draw(hops) {
  const names = [...new Set(hops.flatMap((hop) => [hop.from, hop.to]))];
  const edges = hops.map((hop) => ({ id: `${hop.from} ${hop.to} ${hop.kind}`, source: hop.from, target: hop.to, hop }));
  const shape = JSON.stringify(edges.map((edge) => edge.id));
  if (shape !== drawn) {
    graph?.destroy();
    const tall = byId("map").clientWidth < WIDE;
    byId("map").classList.toggle("tall", tall);
    graph = cytoscape({
      container: byId("map"),
      elements: [
        ...names.map((id) => ({ data: { id, peer: peerShape(hops, id) } })),
        ...edges.map(({ id, source, target }) => ({ data: { id, source, target, label: "" } })),
      ],
      style: style(),
      layout: { name: "breadthfirst", directed: true, direction: tall ? "downward" : "rightward", fit: false },
      userZoomingEnabled: false, userPanningEnabled: false, boxSelectionEnabled: false, autoungrabify: true,
    });
    spread();
    drawn = shape;
  }
  for (const { id, hop } of edges) {
    graph.getElementById(id).data({ label: `${hop.kind} ${rate(hop.rate_per_s)}`, idle: hop.rate_per_s === 0 ? 1 : 0 });
  }
}

/** Stretch the layout to the room there is; to fit it by zoom, as the library would, shrinks the text. */
function spread() {
  const { clientWidth, clientHeight } = byId("map");
  for (const [axis, room, margin] of [["x", clientWidth, 85], ["y", clientHeight, 35]]) {
    const all = graph.nodes().map((node) => node.position(axis));
    const [least, most] = [Math.min(...all), Math.max(...all)];
    for (const node of graph.nodes()) {
      const share = most > least ? (node.position(axis) - least) / (most - least) : 0.5;
      node.position(axis, margin + share * (room - 2 * margin));
    }
  }
}

function peerShape(hops, name) {
  if (hops.some((hop) => hop.kind === "sql" && hop.to === name)) return "barrel";
  if (hops.some((hop) => hop.kind === "publish" && hop.to === name)) return "cut-rectangle";
  return "round-rectangle";
}

function style() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [
    { selector: "node", style: {
      label: "data(id)", shape: "data(peer)", height: 30, "font-size": 13,
      width: (node) => 8 * node.id().length + 12,
      "text-valign": "center", "background-color": colour("--none"), color: colour("--ink"),
      "border-width": 1, "border-color": colour("--soft") } },
    { selector: "edge", style: {
      label: "data(label)", "font-size": 12, color: colour("--ink"), "curve-style": "bezier", width: 2,
      "line-color": colour("--bar"), "target-arrow-color": colour("--bar"), "target-arrow-shape": "triangle",
      "text-background-color": colour("--panel"), "text-background-opacity": 1, "text-background-padding": "2px" } },
    { selector: "edge[idle = 1]", style: { "line-style": "dashed", "line-color": colour("--soft"), "target-arrow-color": colour("--soft") } },
  ];
}

/** Draw again from nothing: after the colours or the width changed. */
export function redraw() {
  drawn = "";
}
