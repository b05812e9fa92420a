// A fetch for AG-UI clients whose answers survive lost connections: new HttpAgent({ url, fetch: resumable() }).
// The engine numbers its events (`id:`); asked again with Last-Event-ID it goes on exactly there, and
// the run is not run twice. Only whole events are handed on, so nothing is lost or doubled.
const ENDS = /^data: \{"type":"(RUN_FINISHED|RUN_ERROR)"/m;
const PASSING = new Set([408, 429, 502, 503, 504]);

export function resumable({ fetch = globalThis.fetch, attempts = 10, firstDelayMs = 100, maxDelayMs = 5000, onState = () => {} } = {}) {
  return async (url, init = {}) => {
    const connect = (last) => fetch(url, last ? { ...init, headers: { ...Object.fromEntries(new Headers(init.headers)), "last-event-id": last } } : init);
    let reader, decoder, rest, last = "", ended = false, failures = 0;

    async function again(error, passes) {  // the same request, until somebody answers it
      for (;;) {
        if (init.signal?.aborted || failures++ >= attempts) throw error;
        onState("reconnecting", failures);
        const delayMs = Math.min(maxDelayMs, firstDelayMs * 2 ** (failures - 1));
        await new Promise((done) => setTimeout(done, delayMs * (0.5 + Math.random() / 2)));
        const response = await connect(last).catch((failure) => { error = failure; });
        if (!response || passes(response)) continue;
        onState("connected", failures);
        return response;
      }
    }

    function read(response) { [reader, decoder, rest] = [response.body.getReader(), new TextDecoder(), ""]; }

    async function goOn(error) {
      const response = await again(error, ({ status }) => PASSING.has(status));
      if (response.ok) return read(response);
      const told = await response.json().catch(() => ({}));  // it cannot go on: an end of the run that says why
      return { type: "RUN_ERROR", message: told.message ?? `HTTP ${response.status}`, code: told.code ?? "RESUME_FAILED" };
    }

    const first = await connect("").catch((error) => again(error, () => false));
    if (!first.ok || !(first.headers.get("content-type") ?? "").startsWith("text/event-stream")) return first;
    read(first);

    const body = new ReadableStream({
      async pull(controller) {
        for (let sent = false; !sent && !ended; ) {
          const part = await reader.read().catch((error) => ({ error }));
          if (part.value) {
            const blocks = (rest + decoder.decode(part.value, { stream: true })).split("\n\n");
            rest = blocks.pop();
            for (const block of blocks.filter((block) => !block.startsWith(":"))) {
              last = /^id: (.*)$/m.exec(block)?.[1] ?? last;
              ended ||= ENDS.test(block);
              controller.enqueue(new TextEncoder().encode(`${block}\n\n`));
              [sent, failures] = [true, 0];
            }
          } else {  // the connection ended before the run did
            const refusal = await goOn(part.error ?? new TypeError("the stream ended before the run did"));
            if (refusal) controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(refusal)}\n\n`));
            ended = Boolean(refusal);
          }
        }
        if (ended) { reader.cancel().catch(() => {}); controller.close(); }
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(body, { status: first.status, headers: first.headers });
  };
}
