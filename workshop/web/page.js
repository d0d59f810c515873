// Shows and sets the faults of the services; refreshes every two seconds, because other clients set faults too.
const REFRESH_MS = 2000;
const message = document.getElementById("message");
const lists = new Map(); // by service
const rows = new Map();
// An answer that was requested before a change was complete would show the state before it.
let changes = 0;
let pending = 0;

async function request(path, method = "GET", body) {
  const response = await fetch(`/api/faults${path}`, {
    method,
    ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error((await response.json()).detail);
  return response.status === 204 ? null : response.json();
}

function clone(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

function addList(service) {
  const section = clone("service");
  section.querySelector("h2").textContent = service;
  document.getElementById("services").append(section);
  lists.set(service, section.querySelector("ul"));
}

function addRow(fault) {
  const item = clone("fault");
  const [toggle, range] = item.querySelectorAll("input");
  item.querySelector(".name").textContent = fault.name;
  item.querySelector(".sentence").textContent = fault.sentence;
  range.setAttribute("aria-label", `intensity of ${fault.name}`);
  range.max = fault.most;
  range.step = fault.most / 20;
  const row = { item, toggle, range, output: item.querySelector("output"), dragging: false };
  toggle.addEventListener("change", () => set(fault, toggle.checked ? valueWhenOn(fault) : 0));
  range.addEventListener("input", () => { row.dragging = true; row.output.textContent = range.value; });
  range.addEventListener("change", () => { row.dragging = false; set(fault, Number(range.value)); });
  if (!lists.has(fault.service)) addList(fault.service);
  lists.get(fault.service).append(item);
  rows.set(fault.name, row);
  return row;
}

// The value a switch sets: the startup value if that is above 0, else 1, or a tenth of the maximum for a clock.
function valueWhenOn(fault) {
  return fault.at_start || (fault.most > 10 ? fault.most / 10 : 1);
}

function show(fault) {
  const row = rows.get(fault.name) ?? addRow(fault);
  if (row.dragging) return;
  const left = fault.seconds_left === null ? "" : `, ${Math.round(fault.seconds_left)} s`;
  row.toggle.checked = fault.strength > 0;
  row.range.value = fault.strength;
  row.output.textContent = `${fault.strength}${left}`;
  row.item.classList.toggle("set", fault.strength !== fault.default);
}

async function set(fault, strength) {
  // The startup value needs no lease: clear the fault instead.
  const atStart = strength === fault.at_start;
  await update(() => atStart ? request(`/${fault.name}`, "DELETE") : request(`/${fault.name}`, "PUT", { strength }));
}

async function update(change) {
  changes += 1;
  pending += 1;
  try {
    await change();
  } catch (error) {
    message.textContent = error.message;
    return;
  } finally {
    pending -= 1;
  }
  await refresh();
}

async function refresh() {
  if (pending) return;
  const before = changes;
  try {
    const faults = await request("");
    if (before !== changes) return;
    faults.forEach(show);
    message.textContent = "";
  } catch (error) {
    message.textContent = error.message;
  }
}

document.getElementById("clear").addEventListener("click", () => update(() => request("", "DELETE")));
refresh();
setInterval(refresh, REFRESH_MS);
