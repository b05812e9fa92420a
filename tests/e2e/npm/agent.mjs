// Drives the real HttpAgent of one @ag-ui/client version through a plan, and prints what it saw as JSON.
//   node agent.mjs '{"client": "1.0.0", "url": ..., "threadId": ..., "runs": [{"say": "hi"}], "cuts": 0}'
import { resumable } from "../../../examples/web/resume.mjs";

const plan = JSON.parse(process.argv[2]);
const noise = [];
for (const level of ["warn", "error"]) console[level] = (...words) => noise.push(words.map(String).join(" "));
const { HttpAgent } = await import(plan.client === "1.0.0" ? "@ag-ui/client" : "@ag-ui/client-0");

let requests = 0, cut = 0;
const statuses = [], retryAfter = [];

// Breaks the connection after some bytes, as a network does: in the middle of whatever is on its way.
function cutting(response, afterBytes) {
  const reader = response.body.getReader();
  let left = afterBytes;
  const body = new ReadableStream({
    async pull(controller) {
      const { value, done } = await reader.read();
      if (done) return controller.close();
      if (value.length <= left) { left -= value.length; return controller.enqueue(value); }
      controller.enqueue(value.slice(0, left));
      cut++;
      await reader.cancel();
      return controller.error(new TypeError("network connection lost"));
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { status: response.status, headers: response.headers });
}

async function network(url, init) {
  requests++;
  const response = await fetch(url, init);
  statuses.push(response.status);
  retryAfter.push(response.headers.get("retry-after"));
  return cut < (plan.cuts ?? 0) && response.ok ? cutting(response, 150 + (requests * 389) % 700) : response;
}

const agent = new HttpAgent({
  url: plan.url,
  threadId: plan.threadId,
  headers: plan.headers ?? {},
  fetch: plan.resumable ? resumable({ fetch: network, firstDelayMs: 1 }) : network,
});
const runs = [];
for (const [number, { say, runId }] of plan.runs.entries()) {
  const seen = { events: [], error: null };
  agent.addMessage({ id: `q${number}`, role: "user", content: say });
  try {
    await agent.runAgent(runId ? { runId } : {}, {
      onEvent: ({ event }) => { seen.events.push(event); },
      onRunFailed: ({ error }) => { seen.error = { message: error.message, status: error.status ?? null }; },
    });
  } catch (error) {
    seen.error = { message: error.message, status: error.status ?? null };
  }
  runs.push(seen);
}
console.log(JSON.stringify({
  runs, messages: agent.messages, state: agent.state, threadId: agent.threadId, noise, requests, statuses, retryAfter, cut,
}));
