// Keeps the page live: the server sends the whole of <main> whenever it has changed. What is open stays open.
"use strict";
const live = document.getElementById("live");
const link = document.getElementById("link");
const source = new EventSource("events");
let last = new Date();
source.onmessage = (event) => {
  const open = live.querySelector("details")?.open;
  live.innerHTML = event.data;
  if (open) live.querySelector("details").open = true;
  const verdict = live.querySelector("header")?.className;
  if (verdict) document.title = document.title.replace(/^\w+/, verdict);
  last = new Date();
  link.textContent = "";
};
setInterval(() => {
  const seconds = Math.round((Date.now() - last) / 1000);
  if (seconds > 10) link.textContent = `No answer for ${seconds} s: what is shown is old.`;
}, 1000);
