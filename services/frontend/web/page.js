// The page: one kind at a time, its names, and what was rejected and why. Names only ever become text content.

import { api, known, measure, report, showView } from "./telemetry.js";

const byId = (id) => document.getElementById(id);
const [form, input, message, list, more, refresh] = ["add", "name", "message", "names", "more", "refresh"].map(byId);
const PAGE = 50;
const RETRY_MS = 3000;

let current = null; // the kind that is shown
let next = null; // the address of the next page of names
let retry = null; // the timer that lists again while the server cannot be reached

/** A rejected request: `message` is the reason for the reader, `status` the HTTP status, 0 without an answer. */
class Rejected extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/** Send a request; return the response, or throw Rejected with the reason that the server gives. */
async function request(path, method = "GET", name) {
  const body = name === undefined ? undefined : JSON.stringify({ name });
  const headers = body ? { "Content-Type": "application/json" } : {};
  let response;
  try {
    response = await fetch(path, { method, headers, body });
  } catch {
    throw new Rejected("The page's server cannot be reached. Check your connection.", 0);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Rejected(problem.detail ?? `The server responded with ${response.status}.`, response.status);
}

function say(text, kind = "") {
  message.textContent = text;
  message.className = kind;
}

function row(name) {
  const label = document.createElement("span");
  label.textContent = name;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = "Remove";
  button.setAttribute("aria-label", `Remove ${name}`);
  button.dataset.faroUserActionName = "remove-name";
  button.addEventListener("click", () => remove(name, button));
  const item = document.createElement("li");
  item.append(label, button);
  return item;
}

/** Show the first page of names, or with `append` the next one after those that are shown. */
async function show({ append = false, focus = false } = {}) {
  const kind = current;
  const start = performance.now();
  clearTimeout(retry);
  refresh.disabled = more.disabled = true;
  try {
    const response = await request(append ? next : `/api/${kind}?limit=${PAGE}`);
    const names = await response.json();
    if (kind !== current) return; // another kind was chosen meanwhile
    if (known.breaks) names.push(null); // the injected fault script_error
    keepBusy(known.busy_ms);
    const rows = names.map(({ name }) => row(name));
    next = /<([^>]+)>; rel="next"/.exec(response.headers.get("Link") ?? "")?.[1] ?? null;
    if (append) list.append(...rows);
    else list.replaceChildren(...rows);
    measure("names_shown", performance.now() - start);
    if (focus) (rows[0] ?? list.lastElementChild)?.querySelector("button").focus();
    byId("empty").hidden = list.childElementCount > 0;
    more.hidden = next === null;
    if (message.dataset.lost) {
      delete message.dataset.lost;
      say("The server is back.", "good");
    }
  } catch (error) {
    if (kind === current) explain(error);
  } finally {
    refresh.disabled = more.disabled = false;
  }
}

/** Occupy the browser for so many milliseconds: the injected fault slow_page. */
function keepBusy(ms) {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** Show why a request was rejected; while the server cannot be reached, list again from time to time. */
function explain(error) {
  if (!(error instanceof Rejected)) {
    say("The page has an error. Reload it.", "error");
    throw error; // Faro reports what nothing handles, with its stack
  }
  say(error.message, "error");
  report(error, current);
  if (error.status === 0 || error.status === 502 || error.status === 503) {
    message.dataset.lost = "true";
    retry = setTimeout(show, RETRY_MS);
  }
}

async function add(event) {
  event.preventDefault();
  const name = input.value;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await request(`/api/${current}`, "POST", name);
    input.value = "";
    say(`Added ${name}.`, "good");
  } catch (error) {
    explain(error);
    return;
  } finally {
    button.disabled = false;
    input.focus();
  }
  await show();
}

async function remove(name, button) {
  const item = button.closest("li");
  const neighbour = item.nextElementSibling ?? item.previousElementSibling;
  button.disabled = true;
  try {
    await request(`/api/${current}`, "DELETE", name);
    item.remove();
    byId("empty").hidden = list.childElementCount > 0;
    (neighbour?.querySelector("button") ?? input).focus();
    say(`Removed ${name}.`, "good");
  } catch (error) {
    button.disabled = false;
    explain(error);
  }
}

/** Show the kind that the address names, `#owlbear`, or the first one. */
function route() {
  const wanted = location.hash.slice(1);
  current = known.endpoints.includes(wanted) ? wanted : known.endpoints[0];
  for (const link of byId("kinds").children) {
    if (link.textContent === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("names-title").textContent = `Names of ${current}`;
  list.replaceChildren();
  more.hidden = true;
  say("");
  showView(current);
  show();
}

byId("kinds").append(
  ...known.endpoints.map((name) => Object.assign(document.createElement("a"), { href: `#${name}`, textContent: name })),
);
byId("telemetry").textContent = api
  ? "This page measures itself: durations, errors and clicks of this tab, without a cookie."
  : "This page sends no telemetry.";
form.addEventListener("submit", add);
refresh.addEventListener("click", () => show());
more.addEventListener("click", () => show({ append: true, focus: true }));
window.addEventListener("hashchange", route);
window.addEventListener("online", () => show());
route();
