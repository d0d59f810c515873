// What the browser measures, by Grafana Faro: web vitals, page loads, requests, errors, and a trace for each request.
// The session's id is in this tab's session storage, which the browser deletes with the tab. The page sets no cookie.

// Source: web.dev, "Largest Contentful Paint": the names are what people come to the page for.
const GOOD_MS = 2500;
const POOR_MS = 4000;

const known = JSON.parse(document.getElementById("known").textContent);
const { faro: settings, kind } = known;

/** Start Faro where a receiver is set and its bundles are loaded; return its API, else null. */
function start() {
  if (!settings || !window.GrafanaFaroWebSdk || !window.GrafanaFaroWebTracing) return null;
  const { initializeFaro, getWebInstrumentations } = window.GrafanaFaroWebSdk;
  const { TracingInstrumentation } = window.GrafanaFaroWebTracing;
  return initializeFaro({
    url: settings.url,
    app: settings.app,
    sessionTracking: { enabled: true, persistent: false },
    instrumentations: [...getWebInstrumentations({ captureConsole: true }), new TracingInstrumentation()],
  }).api;
}

export const api = start();
export { known };

/** Say which endpoint the page shows now: Faro groups what it measures by it. */
export function showView(endpoint) {
  api?.setView({ name: endpoint });
}

/** Report how many milliseconds something took, rated with the bounds of the largest contentful paint. */
export function measure(name, ms) {
  const rating = ms <= GOOD_MS ? "good" : ms <= POOR_MS ? "needs-improvement" : "poor";
  api?.pushMeasurement({ type: name, values: { [name]: ms } }, { context: { rating } });
}

/** Report an error that the page has handled. */
export function report(error, endpoint) {
  api?.pushError(error, { context: { [kind]: endpoint } });
}
