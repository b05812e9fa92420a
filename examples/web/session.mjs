// One session over a WebSocket in the JSON form (docs/protocol.md): reconnects and goes on to the byte.
// What was not answered is sent again after a reconnect; the engine knows repeats by their counter.
const TEXT = new Set(["TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS"]);
const [URGENT, DATA] = [0, 1];
const WINDOW_BYTES = 65536;   // how far the engine may run ahead of this page
const SEQ_BYTES = 16;         // what an event weighs beside its body
const utf8 = new TextEncoder();

export class Session {
  // onEvent({kind, run, entity, lane, data}); onSnapshot(messages); onState("connecting" | "live" | "waiting" | "closed", resumed)
  constructor({ url, session, onEvent, onSnapshot, onState }) {
    this.url = Object.assign(new URL(url), { protocol: url.protocol === "https:" ? "wss:" : "ws:" });
    this.hello = { v: [1], session, client: `web-${crypto.randomUUID().slice(0, 18)}` };
    Object.assign(this, { onEvent, onSnapshot, onState, cursor: null, skip: 0, position: NaN, granted: NaN, counter: 0, failures: 0 });
    this.unanswered = new Map();  // counter -> {event, resolve, reject}
    addEventListener("offline", () => this.drop());
    addEventListener("online", () => this.timer && this.open());
  }

  open() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.onState("connecting");
    const socket = (this.socket = new WebSocket(this.url, "laneway.v1.json"));
    socket.onopen = () => {
      const resume = this.cursor ? { cursor: this.cursor, skip: this.skip } : {};
      this.give({ hello: { ...this.hello, ...resume } });
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.take(JSON.parse(data));
    socket.onclose = () => socket === this.socket && this.lost();
  }

  send(kind, { run = "", text } = {}) {
    const event = { kind, counter: ++this.counter, run, ...(text === undefined ? {} : { text }) };
    return new Promise((resolve, reject) => {
      this.unanswered.set(event.counter, { event, resolve, reject });
      if (this.welcomed) this.give({}, [event]);
    });
  }

  drop() {  // without a network the closing handshake hangs: nobody waits for it
    const socket = this.socket;
    if (!socket) return;
    this.socket = undefined;
    socket.close();
    this.lost();
  }

  give(header, events = []) { if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ header, events })); }

  lost() {
    this.welcomed = false;
    clearTimeout(this.timer);
    if (this.over) return this.onState("closed");
    this.onState("waiting");
    const delayMs = Math.min(8000, 250 * 2 ** this.failures++) * (0.5 + Math.random() / 2);
    this.timer = setTimeout(() => this.open(), delayMs);
  }

  take({ header, events = [] }) {
    if (header.welcome) this.begin(header.welcome);
    for (const [counter, grade] of header.ok ?? []) this.answer(counter, (asked) => asked.resolve(grade));
    for (const [counter, code, , message] of header.refused ?? []) {
      this.answer(counter, (asked) => asked.reject(Object.assign(new Error(message), { code })));
    }
    if (header.notice?.fatal) this.over = !header.notice.retryable && header.notice.code !== "LINK_LOST";
    if (header.ping !== undefined) this.give({ pong: header.ping });
    if (header.snapshot) return this.onSnapshot(events[0]?.data?.messages ?? []);
    this.advance(header, events);
    for (const event of events) this.onEvent(shown(event));
    this.grant();
  }

  begin({ resume, cursor, position, grant }) {
    const resumed = resume === "resumed";
    if (!resumed) {
      [this.cursor, this.skip] = [cursor, 0];
      if (resume === "failed") this.onSnapshot([]);
    }
    if (position !== undefined) this.starts(position, grant);
    this.failures = 0;
    this.welcomed = true;
    this.onState("live", resumed);
    this.give({}, [...this.unanswered.values()].map(({ event }) => event));
  }

  advance({ stream, first, shape, position }, events) {  // the seqs that this frame makes whole, and the bytes of the next one
    if (first === undefined) return;
    if (position !== undefined) this.starts(position);
    let seq = first;
    (shape ?? events.map(() => [1, 0])).forEach(([span, tail, passed = 0], index) => {
      const whole = span - (tail ? 1 : 0);
      seq += whole;
      if (stream !== DATA) return;
      this.position += weight(events[index], whole, this.skip) + passed;
      this.skip = tail;
    });
    this.cursor = this.cursor.with(stream === URGENT ? 1 : 2, seq - 1);
  }

  starts(position, granted = position + WINDOW_BYTES) {  // of the data stream's next seq
    [this.position, this.granted] = [position + this.skip, granted];
  }

  grant() {  // once half of the window is used: what has been shown makes room for as much
    if (!(this.granted - this.position <= WINDOW_BYTES / 2)) return;
    this.granted = this.position + WINDOW_BYTES;
    this.give({ ack: this.cursor, grant: this.granted });
  }

  answer(counter, say) {
    const asked = this.unanswered.get(counter);
    this.unanswered.delete(counter);
    if (asked) say(asked);
  }
}

function weight({ kind, text, bytes = 0, data }, whole, had) {
  if (kind === "GAP") return data.bytes - had;
  return (text === undefined ? bytes : utf8.encode(text).length) + SEQ_BYTES * whole;
}

function shown({ kind, run = "", entity = "", lane = 2, text, data, sealed }) {
  return { kind, run, entity, lane, data: TEXT.has(kind) ? { delta: text ?? sealed?.delta ?? "" } : data ?? {} };
}
