"use strict";
// Text of events may come from untrusted files: it is always set as text, never as HTML.

const MAX_EVENTS = 200;
const TIMEOUT_MS = 20000; // the server answers within 10 s, with or without a picture
const RETRY_MS = 1000;
const STREAM_TEXTS = {
  stream_stalled: "Source is stalled",
  stream_broken: "Source is disconnected",
  stream_back: "Source is back",
};
const NOT_CONNECTED = "Not connected. Retrying.";
const LINK_EXPIRED = "This link has expired. Open the latest link that curate watch printed.";

const element = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const number = (value, unit = "") => (value === null || value === undefined ? "–" : `${Math.round(value * 10) / 10}${unit}`);

const known = new Set();
const connected = { picture: true, events: false };
let state = null;
let disconnectedText = NOT_CONNECTED;
let source = null;

function showStatus() {
  const isConnected = connected.picture && connected.events;
  let kind = "waiting";
  let text = "Connecting";
  if (!isConnected && (state || !connected.picture)) {
    [kind, text] = ["gone", disconnectedText];
  } else if (isConnected && state) {
    [kind, text] = state.trouble ? ["trouble", STREAM_TEXTS[state.trouble]] : ["fine", state.text];
  }
  const status = element("status");
  if (status.dataset.kind !== kind || element("status-text").textContent !== text) {
    status.dataset.kind = kind;
    element("status-text").textContent = text;
  }
  for (const id of ["picture", "numbers"]) element(id).classList.toggle("old", kind === "gone" || kind === "trouble");
}

function showState(newState) {
  state = newState;
  document.title = `${newState.source} · curate watch`;
  element("source").textContent = newState.source;
  element("run").textContent = newState.run;
  element("picture").alt = `The live picture of ${newState.source}`;
  element("frames-per-s").textContent = number(newState.frames_per_s);
  element("latency").textContent = number(newState.latency_ms, " ms");
  element("objects").textContent = number(newState.objects);
  showStatus();
}

function withText(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function timeOf(event) {
  const time = withText("time", "", event.time);
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)/.exec(event.time);
  if (parts) {
    const now = new Date();
    const today = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((one) => String(one).padStart(2, "0")).join("-");
    time.dateTime = event.time;
    time.title = `${event.time}, ${event.timestamp_s.toFixed(1)} s after the first frame`;
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
  row.append(withText("bdi", "trigger", STREAM_TEXTS[event.trigger] || event.trigger));
  row.append(withText("bdi", "what", describe(event)));
  row.dataset.id = id;
  row.classList.toggle("trouble", event.is_trouble);
  row.classList.toggle("new", isNew);
  const list = element("events");
  list.prepend(row);
  while (list.children.length > MAX_EVENTS) {
    known.delete(list.lastElementChild.dataset.id);
    list.lastElementChild.remove();
  }
  element("no-events").hidden = true;
}

function listen() {
  const log = element("log");
  log.setAttribute("aria-busy", "true"); // screen readers do not read earlier events aloud
  source = new EventSource("events");
  const own = source;
  own.addEventListener("open", () => {
    connected.events = true;
    showStatus();
  });
  own.addEventListener("happened", (message) => {
    addEvent(message.lastEventId, JSON.parse(message.data), log.getAttribute("aria-busy") === "false");
  });
  own.addEventListener("state", (message) => {
    log.setAttribute("aria-busy", "false");
    showState(JSON.parse(message.data));
  });
  own.addEventListener("error", () => {
    connected.events = false;
    showStatus();
    if (own.readyState === EventSource.CLOSED && own === source) setTimeout(() => own === source && listen(), RETRY_MS);
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
  const answer = await fetch(`picture?after=${after}`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  disconnectedText = answer.status === 401 || answer.status === 403 ? LINK_EXPIRED : NOT_CONNECTED;
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
      if (!connected.picture) {
        connected.picture = true;
        showStatus();
      }
    } catch {
      connected.picture = false;
      after = "0"; // another server may have reached the same number
      showStatus();
      await pause(RETRY_MS);
    }
  }
}

// browsers allow six connections per host, and each visible page takes two
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stopListening();
  else if (!source) listen();
});
if (!document.hidden) listen();
follow();
