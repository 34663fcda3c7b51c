import { assert, assertEquals } from "@std/assert";
import { waitUntil } from "../support/deadline.ts";
import { type Look, lookAt, usedBetween } from "./idle_usage.ts";

Deno.test("what this process does is seen, by its thread", async () => {
  const before = lookAt(Deno.pid);
  assertEquals([before.pid, before.name], [Deno.pid, "deno"]);
  // A wait that sleeps, and work of some ticks.
  await waitUntil(() => {
    for (const end = performance.now() + 20; performance.now() < end;);
    return usedBetween(before, lookAt(Deno.pid)).ticks > 2;
  }, { what: "three clock ticks" });
  const used = usedBetween(before, lookAt(Deno.pid, "bench"));
  assertEquals(used.name, "bench");
  assert(used.milliseconds > 10 && used.wakes > 0, JSON.stringify(used));
  const [main] = used.threads.toSorted((a, b) =>
    b.milliseconds - a.milliseconds
  );
  assert(main.milliseconds > 10);
});

Deno.test("threads that rest are left out, those that came are counted whole", () => {
  const look = (ticks: number, threads: Look["threads"]): Look => ({
    ...{ pid: 1, name: "device", ticks, threads },
  });
  const thread = (name: string, milliseconds: number, wakes: number) => ({
    ...{ name, milliseconds, wakes },
  });
  const before = look(
    7,
    new Map([
      ["1", thread("deno", 100, 10)],
      ["2", thread("Worker", 50, 20)],
      ["3", thread("gone", 5, 5)],
    ]),
  );
  const after = look(
    9,
    new Map([
      ["1", thread("deno", 100, 10)],
      ["2", thread("Worker", 51.5, 32)],
      ["4", thread("new", 0.5, 1)],
    ]),
  );
  assertEquals(usedBetween(before, after), {
    name: "device",
    ticks: 2,
    milliseconds: 2,
    wakes: 13,
    threads: [thread("Worker", 1.5, 12), thread("new", 0.5, 1)],
  });
});
