"use strict";
// Text of events comes from people's files: it is only ever set as text, never as HTML.

const MOST_EVENTS = 200;
const PATIENCE_MS = 20000; // the server answers within ten seconds, with or without a picture
const PAUSE_MS = 1000;
const SOURCE_WORDS = {
  stream_stalled: "The source is stalled",
  stream_broken: "The source is broken",
  stream_back: "The source is back",
};
const NOT_CONNECTED = "Not connected. Trying again.";
const NOT_INVITED = "This link has ended. Open the one that curate watch printed last.";

const element = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const number = (value, unit = "") => (value === null || value === undefined ? "–" : `${Math.round(value * 10) / 10}${unit}`);

const known = new Set();
const reached = { picture: true, events: false };
let state = null;
let lost = NOT_CONNECTED;
let source = null;

function showStatus() {
  const isThere = reached.picture && reached.events;
  let kind = "waiting";
  let text = "Connecting";
  if (!isThere && (state || !reached.picture)) {
    [kind, text] = ["gone", lost];
  } else if (isThere && state) {
    [kind, text] = state.trouble ? ["trouble", SOURCE_WORDS[state.trouble]] : ["fine", state.text];
  }
  const status = element("status");
  if (status.dataset.kind !== kind || element("status-text").textContent !== text) {
    status.dataset.kind = kind;
    element("status-text").textContent = text;
  }
  for (const id of ["picture", "numbers"]) element(id).classList.toggle("old", kind === "gone" || kind === "trouble");
}

function showState(told) {
  state = told;
  document.title = `${told.source} · curate watch`;
  element("source").textContent = told.source;
  element("run").textContent = told.run;
  element("picture").alt = `The live picture of ${told.source}`;
  element("frames-per-s").textContent = number(told.frames_per_s);
  element("latency").textContent = number(told.latency_ms, " ms");
  element("objects").textContent = number(told.objects);
  showStatus();
}

function withText(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function timeOf(event) {
  const time = withText("time", "", event.time);
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)/.exec(event.time);
  if (parts) {
    const now = new Date();
    const today = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((one) => String(one).padStart(2, "0")).join("-");
    time.dateTime = event.time;
    time.title = `${event.time}, ${event.timestamp_s.toFixed(1)} s from the beginning`;
    time.textContent = parts[2];
    if (parts[1] !== today) time.append(withText("span", "", parts[1]));
  }
  return time;
}

function describe(event) {
  const parts = [];
  if (event.class !== null) parts.push(event.class);
  if (event.score !== null) parts.push(`score\u00a0${event.score.toFixed(2)}`);
  if (event.track_id !== null) parts.push(`track\u00a0${event.track_id}`);
  for (const more of [event.source, event.detail, event.clip]) if (more) parts.push(more);
  return parts.join(" · ");
}

function addEvent(id, event, isNew) {
  if (known.has(id)) return;
  known.add(id);
  const row = document.createElement("li");
  row.append(timeOf(event));
  row.append(withText("bdi", "trigger", SOURCE_WORDS[event.trigger] || event.trigger));
  row.append(withText("bdi", "what", describe(event)));
  row.dataset.id = id;
  row.classList.toggle("trouble", event.is_trouble);
  row.classList.toggle("new", isNew);
  const list = element("events");
  list.prepend(row);
  while (list.children.length > MOST_EVENTS) {
    known.delete(list.lastElementChild.dataset.id);
    list.lastElementChild.remove();
  }
  element("no-events").hidden = true;
}

function listen() {
  const log = element("log");
  log.setAttribute("aria-busy", "true"); // what happened before is not read aloud
  source = new EventSource("events");
  const own = source;
  own.addEventListener("open", () => {
    reached.events = true;
    showStatus();
  });
  own.addEventListener("happened", (told) => {
    addEvent(told.lastEventId, JSON.parse(told.data), log.getAttribute("aria-busy") === "false");
  });
  own.addEventListener("state", (told) => {
    log.setAttribute("aria-busy", "false");
    showState(JSON.parse(told.data));
  });
  own.addEventListener("error", () => {
    reached.events = false;
    showStatus();
    if (own.readyState === EventSource.CLOSED && own === source) setTimeout(() => own === source && listen(), PAUSE_MS);
  });
}

function stopListening() {
  source.close();
  source = null;
}

async function showPicture(content) {
  const picture = element("picture");
  const before = picture.src;
  picture.src = URL.createObjectURL(content);
  await picture.decode().catch(() => {});
  if (before) URL.revokeObjectURL(before);
  picture.hidden = false;
  element("no-picture").hidden = true;
}

async function nextPicture(after) {
  const answer = await fetch(`picture?after=${after}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  lost = answer.status === 401 || answer.status === 403 ? NOT_INVITED : NOT_CONNECTED;
  if (answer.status === 204) return after;
  if (answer.status !== 200) throw new Error(answer.statusText);
  await showPicture(await answer.blob());
  return answer.headers.get("picture-number");
}

async function follow() {
  let after = "0";
  for (;;) {
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    try {
      after = await nextPicture(after);
      if (!reached.picture) {
        reached.picture = true;
        showStatus();
      }
    } catch {
      reached.picture = false;
      after = "0"; // another server may have shown as many
      showStatus();
      await pause(PAUSE_MS);
    }
  }
}

// browsers keep six connections to a host, and each page that is looked at takes two
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stopListening();
  else if (!source) listen();
});
if (!document.hidden) listen();
follow();
