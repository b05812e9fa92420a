// The page: what the session says, drawn once per frame of the screen.
// Everything shown comes out of the session's own stream, so every tab shows the same order.
import { Session } from "./session.mjs";

const $ = (id) => document.getElementById(id);
const [CRITICAL, HIGH] = [0, 1];
const address = new URL(location.href);
if (!address.searchParams.get("session")) {
  address.searchParams.set("session", `web-${crypto.randomUUID().slice(0, 8)}`);
  history.replaceState(null, "", address);
}

const messages = new Map();  // message id -> its element
const unpainted = new Map();  // message id -> text that came since the last frame
const lanes = [0, 0, 0, 0];
const asked = new Map();  // run of ours -> when it was asked for
const running = new Set();  // runs, of whichever tab
let stopping = 0;
let resumes = 0;

const session = new Session({
  url: new URL("engine/v1/stream", location.href),
  session: address.searchParams.get("session"),
  onState: showState,
  onEvent: take,
  onSnapshot: restore,
});

// ---- what comes ---------------------------------------------------------------------------------

function take(event) {
  count(event.lane);
  const { kind, run, data } = event;
  if (kind === "RUN_STARTED") {
    for (const said of data.input?.messages ?? []) add(said.id, "user", said.content);
    running.add(run);
  } else if (kind === "TEXT_MESSAGE_START") {
    add(event.entity, "assistant", "", run);
  } else if (kind === "TEXT_MESSAGE_CONTENT") {
    add(event.entity, "assistant", "", run);
    running.add(run);  // it may have begun before this tab came
    unpainted.set(event.entity, (unpainted.get(event.entity) ?? "") + data.delta);
    if (asked.has(run)) measured("first", asked.get(run)), asked.delete(run);
    paintSoon();
  } else if (kind === "TEXT_MESSAGE_END") {
    finish(event.entity);
  } else if (kind === "RUN_FINISHED" || kind === "RUN_ERROR") {
    for (const [id, element] of messages) if (element.dataset.live === run) finish(id);
    if (stopping) measured("stopped", stopping), (stopping = 0);
    if (kind === "RUN_ERROR") note(`It ended with an error: ${data.message}`, true);
    if (data.outcome?.type === "cancelled") note("stopped");
    running.delete(run);
  }
  $("stop").disabled = !running.size;
}

function restore(snapshot) {  // what was said before this tab came
  for (const element of messages.values()) element.remove();
  messages.clear();
  unpainted.clear();
  running.clear();
  for (const { id, role, content } of snapshot) {
    if ((role === "user" || role === "assistant") && content) add(id, role, content);
  }
  scrollDown(true);
}

// ---- how it is drawn ----------------------------------------------------------------------------

function add(id, role, text, live) {
  let element = messages.get(id);
  if (!element) {
    $("hint")?.remove();
    element = document.createElement("p");
    element.className = "message";
    element.dataset.role = role;
    element.setAttribute("aria-label", role === "user" ? "You" : "Answer");
    element.append(text);
    messages.set(id, element);
    $("log").append(element);
    scrollDown(role === "user");
  }
  if (live && !("live" in element.dataset)) {
    element.dataset.live = live;
    element.setAttribute("aria-busy", "true");  // read out once it is whole
  }
}

function finish(id) {
  paint();
  const element = messages.get(id);
  if (!element) return;
  delete element.dataset.live;
  element.removeAttribute("aria-busy");
}

let painting = 0;
function paintSoon() { painting ||= requestAnimationFrame(paint); }

function paint() {  // one change of the document per message and frame, however many events came
  cancelAnimationFrame(painting);
  painting = 0;
  const stuck = atEnd();
  for (const [id, text] of unpainted) messages.get(id)?.append(text);
  for (const id of unpainted.keys()) messages.get(id)?.normalize();
  unpainted.clear();
  if (stuck) scrollDown(true);
}

const scroller = document.querySelector("main");
function atEnd() { return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80; }
function scrollDown(always) { if (always || atEnd()) scroller.scrollTop = scroller.scrollHeight; }

function note(text, bad = false) {
  const element = document.createElement("p");
  element.className = "note";
  if (bad) element.dataset.bad = "";
  element.textContent = text;
  $("log").append(element);
  scrollDown(false);
}

const calm = [0, 0, 0, 0];
function count(lane) {
  const row = $("lanes").children[lane];
  row.lastElementChild.textContent = ++lanes[lane];
  row.dataset.busy = "";
  clearTimeout(calm[lane]);
  calm[lane] = setTimeout(() => delete row.dataset.busy, 200);
}

function measured(what, since) { $(what).textContent = `${Math.max(1, Math.round(performance.now() - since))} ms`; }

function showState(state, resumed) {
  const words = { live: "live", connecting: "connecting", waiting: "reconnecting …", closed: "ended" };
  $("state").textContent = words[state] ?? state;
  $("state").dataset.state = state;
  if (resumed) $("resumed").textContent = `${++resumes}×`;
}

// ---- what is asked ------------------------------------------------------------------------------

$("form").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  $("text").value = "";
  const run = `web-${crypto.randomUUID()}`;
  const begun = performance.now();
  asked.set(run, begun);
  count(HIGH);
  try {
    await session.send("USER_MESSAGE", { run, text });
    measured("accepted", begun);
  } catch (error) {
    asked.delete(run);
    $("text").value ||= text;
    note(error.message, true);
  }
});

$("text").addEventListener("keydown", (key) => {
  if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
    key.preventDefault();
    $("form").requestSubmit();
  }
});

$("stop").addEventListener("click", async () => {
  stopping = performance.now();
  $("stop").disabled = true;
  count(CRITICAL);
  await session.send("INTERRUPT").catch((error) => note(error.message, true));
  $("text").focus();
});

fetch("about.json").then((answer) => answer.json()).then(({ model }) => { $("model").textContent = model; });
session.open();
$("text").focus();
