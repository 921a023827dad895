// Keeps a page live. The overview is told by the server: at first the whole of <main>, then the elements that have
// changed, each by its id. A stream's own page asks again. Also searches and sorts the table of streams, which the
// server sorts by what is wrong first. What is open, searched or sorted stays so.
"use strict";
const live = document.getElementById("live");
const link = document.getElementById("link");
const asOf = document.getElementById("as-of");
let last = new Date();
const heard = () => {
  last = new Date();
  asOf.textContent = `${last.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  link.textContent = "";
};

// The table: a box to search in, headings to sort by.
const tools = document.createElement("div");
const box = document.createElement("input");
const found = document.createElement("output");
tools.className = "tools";
Object.assign(box, { type: "search", placeholder: "name, table, phase …", autocomplete: "off" });
box.setAttribute("aria-label", "search the streams");
tools.append(box, found);
let sorted = { column: -1, down: false };

const UNITS = { d: 86400, h: 3600, min: 60, s: 1 };
// "1 d 3 h" and "< 1 min" as seconds; nothing comes last.
const age = (told) => {
  const parts = [...told.matchAll(/(\d+) (d|h|min|s)/g)];
  if (!parts.length) return Infinity;
  return parts.reduce((sum, [, number, unit]) => sum + number * UNITS[unit], told.startsWith("<") ? -1 : 0);
};
const number = (told) => parseFloat(told.replaceAll(",", "")) || 0;
const place = (row) => Number(row.id.slice(1));
const rank = (row) => Number(row.dataset.rank ?? 99);
const same = (told) => told;
const keys = [same, same, same, age, number, age, number];
const key = (row, column) => (column < 0 ? rank(row) : keys[column](row.cells[column].textContent));
const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a === b ? 0 : a < b ? -1 : 1);

const arrange = () => {
  const table = document.getElementById("table");
  if (!table) return;
  if (!tools.isConnected) table.parentElement.before(tools);
  const { column, down } = sorted;
  for (const [at, head] of [...table.tHead.rows[0].cells].entries()) {
    if (!head.firstElementChild) {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      button.onclick = () => {
        // Text from A to Z at first, numbers from the largest; then the other way; then as it was.
        const first = at >= 3 && at !== 5;
        if (sorted.column !== at) sorted = { column: at, down: first };
        else if (sorted.down === first) sorted = { column: at, down: !first };
        else sorted = { column: -1, down: false };
        arrange();
      };
      head.append(button);
    }
    head.setAttribute("aria-sort", at !== column ? "none" : down ? "descending" : "ascending");
  }
  const rows = [...table.tBodies[0].rows];
  const keyed = rows.map((row) => ({ row, key: key(row, column) }));
  keyed.sort((a, b) => (down ? compare(b.key, a.key) : compare(a.key, b.key)) || place(a.row) - place(b.row));
  if (keyed.some(({ row }, at) => row !== rows[at])) table.tBodies[0].append(...keyed.map(({ row }) => row));
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const told = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => told.includes(word));
    if (!row.hidden) shown += 1;
  }
  found.textContent = words.length ? `${shown} of ${rows.length}` : "";
};
box.oninput = arrange;

// What is open, and where the focus is, outlives what is replaced.
const replace = (change) => {
  const open = live.querySelector("details")?.open;
  const focused = document.activeElement;
  const selector = focused?.matches("main a") ? `main a[href="${CSS.escape(focused.getAttribute("href"))}"]` : null;
  const scrolled = document.querySelector(".scroll")?.scrollLeft;
  change();
  if (open) live.querySelector("details").open = true;
  arrange();
  if (focused === box && document.activeElement !== box) box.focus();
  else if (selector && !focused.isConnected) document.querySelector(selector)?.focus();
  if (scrolled) document.querySelector(".scroll").scrollLeft = scrolled;
  const verdict = live.querySelector("header")?.className;
  if (verdict) document.title = document.title.replace(/^(healthy|degraded|critical)/, verdict);
  heard();
};

const connect = () => {
  const source = new EventSource("events");
  source.onmessage = (event) => replace(() => (live.innerHTML = event.data));
  source.addEventListener("parts", (event) => {
    replace(() => {
      for (const [id, html] of JSON.parse(event.data)) document.getElementById(id).outerHTML = html;
    });
  });
  source.addEventListener("still", heard);
  // A connection that was cut is made again by the browser; one that was refused, because too many look, is not.
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 10000);
  };
};

const ask = async () => {
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replace(() => live.replaceChildren(...page.getElementById("live").childNodes));
      document.title = page.title;
    }
  } catch {
    // Said below, if it lasts.
  }
  setTimeout(ask, 2000);
};

arrange();
if (live.dataset.live === "events") connect();
else setTimeout(ask, 2000);
setInterval(() => {
  const seconds = Math.round((Date.now() - last) / 1000);
  if (seconds > 10) link.textContent = `No answer for ${seconds} s: what is shown is old.`;
}, 1000);
