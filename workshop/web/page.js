// Shows the faults of the three services, and sets them; asks again every two seconds, for others set them too.
const EVERY_MS = 2000;
const SERVICES = ["requester", "server", "recorder"];
const said = document.getElementById("said");
const rows = new Map();

async function ask(path, method = "GET", body) {
  const answer = await fetch(`/api/faults${path}`, {
    method,
    ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.status === 204 ? null : answer.json();
}

function part(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

function list(service) {
  const section = part("service");
  section.querySelector("h2").textContent = service;
  document.getElementById("services").append(section);
  return section.querySelector("ul");
}

const lists = new Map(SERVICES.map((service) => [service, list(service)]));

function row(fault) {
  const item = part("fault");
  const [toggle, range] = item.querySelectorAll("input");
  item.querySelector(".name").textContent = fault.name;
  item.querySelector(".sentence").textContent = fault.sentence;
  range.max = fault.most;
  range.step = fault.most / 20;
  const held = { item, toggle, range, output: item.querySelector("output"), touched: false };
  toggle.addEventListener("change", () => set(fault, toggle.checked ? whenOn(fault) : 0));
  range.addEventListener("input", () => { held.touched = true; held.output.textContent = range.value; });
  range.addEventListener("change", () => { held.touched = false; set(fault, Number(range.value)); });
  lists.get(fault.service)?.append(item);
  rows.set(fault.name, held);
  return held;
}

// What a switch means: as at start where that is on, else one, or half a minute for a clock.
function whenOn(fault) {
  return fault.at_start || (fault.most > 10 ? fault.most / 10 : 1);
}

function show(fault) {
  const held = rows.get(fault.name) ?? row(fault);
  if (held.touched) return;
  const left = fault.seconds_left === null ? "" : `, ${Math.round(fault.seconds_left)} s`;
  held.toggle.checked = fault.strength > 0;
  held.range.value = fault.strength;
  held.output.textContent = `${fault.strength}${left}`;
  held.item.classList.toggle("set", fault.strength !== fault.default);
}

async function set(fault, strength) {
  // Back where it was at start: then there is nothing to hold it there.
  await tell(() => strength === fault.at_start ? ask(`/${fault.name}`, "DELETE") : ask(`/${fault.name}`, "PUT", { strength }));
}

async function tell(what) {
  try {
    await what();
    (await ask("")).forEach(show);
    said.textContent = "";
  } catch (error) {
    said.textContent = error.message;
  }
}

document.getElementById("clear").addEventListener("click", () => tell(() => ask("", "DELETE")));
tell(() => null);
setInterval(() => tell(() => null), EVERY_MS);
