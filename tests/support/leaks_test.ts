import { assertEquals, assertRejects } from "@std/assert";
import { EventFd } from "../../sys/eventfd.ts";
import { mapAnonymous } from "../../sys/mapping.ts";
import { runSource } from "../../sys/testing/run.ts";
import { assertNoLeaks, resources } from "./leaks.ts";

Deno.test("resources() counts descriptors and shared mappings", () => {
  const before = resources();
  const event = EventFd.create();
  const mapping = mapAnonymous(4096, { shared: true });
  const during = resources();
  mapping.unmap();
  event.close();
  assertEquals(during.descriptors - before.descriptors, 1);
  assertEquals(during.mappings - before.mappings, 1);
  assertEquals(resources(), before);
});

Deno.test("assertNoLeaks() accepts a body that releases what it takes", async () => {
  let runs = 0;
  await assertNoLeaks(() => {
    runs++;
    using event = EventFd.create();
    event.signal();
  }, { times: 5 });
  assertEquals(runs, 6);
});

Deno.test("assertNoLeaks() waits for what is released later", async () => {
  await assertNoLeaks(() => {
    const event = EventFd.create();
    setTimeout(() => event.close(), 50);
  });
});

Deno.test("assertNoLeaks() finds descriptors and mappings", async () => {
  await using stack = new AsyncDisposableStack();
  await assertRejects(
    () =>
      assertNoLeaks(() => void stack.use(EventFd.create()), { settle: 100 }),
    Error,
    "Leaked in 3 runs: ",
  );
  await assertRejects(
    () =>
      assertNoLeaks(() => {
        stack.use(mapAnonymous(4096, { shared: true }));
      }, { times: 2, settle: 100 }),
    Error,
    "Leaked in 2 runs: ",
  );
});

Deno.test("what the runtime makes for signals is there before the first count", async () => {
  const { code, stdout, stderr } = await runSource(`
    const { resources } = await import("${import.meta.resolve("./leaks.ts")}");
    const before = resources();
    Deno.addSignalListener("SIGUSR1", () => {});
    console.log(resources().descriptors - before.descriptors);
    Deno.exit();
  `);
  assertEquals([code, stdout], [0, "0\n"], stderr);
});
