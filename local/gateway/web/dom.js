// Small helpers for the page. Telemetry only ever becomes text content: nothing here parses HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties set (class as className) and children, which may be text. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Set text only where it differs, so that a selection or a hover survives the refresh. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Make the children of `parent` match `items`: one per key, in order, made once by `create`, then brought up to date
 * by `update`. Elements that stay are not replaced, so nothing flickers and the focus is kept.
 */
export function reconcile(parent, items, key, create, update) {
  const kept = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let previous = null;
  for (const item of items) {
    const name = key(item);
    const child = kept.get(name) ?? create(item);
    kept.delete(name);
    child.dataset.key = name;
    const place = previous ? previous.nextSibling : parent.firstChild;
    if (child !== place) parent.insertBefore(child, place);
    update(child, item);
    previous = child;
  }
  // Whatever is left behind the last item belongs to none.
  while (previous ? previous.nextSibling : parent.firstChild) (previous ? previous.nextSibling : parent.firstChild).remove();
}

/** Make the options of a select match [value, text] pairs and keep the choice if it is still there. */
export function setOptions(select, pairs) {
  const wanted = JSON.stringify(pairs);
  if (select.dataset.options === wanted) return;
  const chosen = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value, textContent: text })));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
  select.dataset.options = wanted;
}

/** The answer of the JSON API, or null where it says 404. */
export async function ask(path) {
  const response = await fetch(path);
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export const count = (number) => number.toLocaleString("en");
export const rate = (number) => `${number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 })}/s`;
export const clock = (nanoseconds) => new Date(nanoseconds / 1e6).toISOString().slice(11, 23);

/** A number of seconds as an age. */
export function age(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

/** Nanoseconds as a duration. */
export function duration(nanoseconds) {
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(0)} µs`;
  return nanoseconds < 1e9 ? `${(nanoseconds / 1e6).toFixed(1)} ms` : `${(nanoseconds / 1e9).toFixed(2)} s`;
}
