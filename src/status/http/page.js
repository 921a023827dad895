// Keeps the page live: the server sends the whole of <main> whenever it has changed. What is open stays open.
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
const connect = () => {
  const source = new EventSource("events");
  source.onmessage = (event) => {
    const open = live.querySelector("details")?.open;
    live.innerHTML = event.data;
    if (open) live.querySelector("details").open = true;
    const verdict = live.querySelector("header")?.className;
    if (verdict) document.title = document.title.replace(/^\w+/, verdict);
    heard();
  };
  source.addEventListener("still", heard);
  // A connection that was cut is made again by the browser; one that was refused, because too many look, is not.
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 10000);
  };
};
connect();
setInterval(() => {
  const seconds = Math.round((Date.now() - last) / 1000);
  if (seconds > 10) link.textContent = `No answer for ${seconds} s: what is shown is old.`;
}, 1000);
