// Drives examples/web in a headless Chromium as a person would, and prints what it saw as JSON.
//   node page.mjs '{"url": ..., "chromium": "/usr/bin/chromium", "shot": "page.png"}'
import { chromium } from "playwright-core";

const plan = JSON.parse(process.argv[2]);
const noise = [], foreign = [];
const browser = await chromium.launch({ executablePath: plan.chromium, args: ["--no-sandbox", "--disable-gpu"] });

async function tab(address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1080, height: 720 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(45_000);
  page.on("console", (message) => { if (!page.quiet && ["error", "warning"].includes(message.type())) noise.push(message.text()); });
  page.on("pageerror", (error) => noise.push(String(error)));
  page.on("request", (request) => { if (new URL(request.url()).origin !== new URL(plan.url).origin) foreign.push(request.url()); });
  await page.addInitScript(() => {  // how often the newest answer changed on the screen
    globalThis.paints = [];
    const look = () => {
      const length = [...document.querySelectorAll("[data-role=assistant]")].at(-1)?.textContent.length ?? 0;
      if (length !== paints.at(-1)) paints.push(length);
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
  await page.goto(address);
  await page.locator("#state[data-state=live]").waitFor();
  return page;
}

const ask = async (page, text) => { await page.getByLabel("Message").fill(text); await page.getByRole("button", { name: "Send" }).click(); };
const said = (page) => page.locator(".message").evaluateAll((all) => all.map((one) => [one.dataset.role, one.textContent]));
const answers = (page, count) => page.waitForFunction((count) => {
  const all = [...document.querySelectorAll("[data-role=assistant]")];
  return all.length === count && all.every((one) => !("live" in one.dataset)) && document.getElementById("stop").disabled;
}, count);
const words = (page, number, length) => page.waitForFunction(([number, length]) =>
  ([...document.querySelectorAll("[data-role=assistant]")][number]?.textContent.length ?? 0) > length, [number, length]);

async function everything() {
  const seen = {};
  const one = await tab(plan.url);
  const two = await tab(one.url());  // another tab of the same conversation, never disturbed

  await ask(one, "What does a lane do?");
  await answers(one, 1);
  seen.paints = await one.evaluate(() => globalThis.paints.filter((length) => length > 0).length);
  seen.first = await one.locator("#first").textContent();

  await ask(one, "Stop me");
  await words(one, 1, 30);
  await one.getByRole("button", { name: "Stop" }).click();
  await answers(one, 2);
  seen.critical = Number(await one.locator("#lanes [data-lane='0'] dd").textContent());
  seen.stopped = { note: await one.getByText("stopped", { exact: true }).count(), time: await one.locator("#stopped").textContent() };

  await ask(one, "Reload me");
  await words(one, 2, 30);
  await one.reload();
  await answers(two, 3);
  await answers(one, 3);

  await ask(one, "Cut me");
  await words(one, 3, 30);
  one.quiet = true;  // the browser itself complains of a lost network
  await one.context().setOffline(true);
  await one.locator("#state[data-state=waiting]").waitFor();
  seen.waiting = await one.locator("#state").textContent();
  await one.context().setOffline(false);
  await one.locator("#state[data-state=live]").waitFor();
  one.quiet = false;
  seen.resumed = await one.locator("#resumed").textContent();
  await answers(one, 4);

  await Promise.all([ask(one, "Both at once, here"), ask(two, "Both at once, there")]);
  await Promise.all([answers(one, 6), answers(two, 6)]);
  [seen.one, seen.two] = [await said(one), await said(two)];

  await one.getByLabel("Message").focus();
  await one.keyboard.press("Tab");
  seen.focus = await one.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  return seen;
}

async function shot() {  // one answer stopped, the next one on its way
  const page = await tab(plan.url, { colorScheme: "light", viewport: { width: 1000, height: 640 } });
  await ask(page, "Tell me a long story about a traffic light.");
  await words(page, 0, 160);
  await page.getByRole("button", { name: "Stop" }).click();
  await answers(page, 1);
  await ask(page, "Why do cities have bus lanes?");
  await words(page, 1, 240);
  await page.screenshot({ path: plan.shot });
  return {};
}

try {
  const seen = plan.shot ? await shot() : await everything();
  console.log(JSON.stringify({ ...seen, noise, foreign }));
} finally {
  await browser.close();
}
