import { assertEquals } from "@std/assert";
import { loadAcquire, storeFence } from "./ordering.ts";

Deno.test("ring fields are read and written whole", () => {
  const window = new Uint16Array(4);
  storeFence(window, 1, 0xabcd);
  assertEquals([...window], [0, 0xabcd, 0, 0]);
  assertEquals(loadAcquire(window, 1), 0xabcd);
  assertEquals(loadAcquire(window, 2), 0);
});

Deno.test("ring fields go through Atomics, which are the fences", () => {
  const calls: string[] = [];
  const { load, store } = Atomics;
  const patch = { load, store };
  patch.load = ((...all: Parameters<typeof load>) => {
    calls.push("load");
    return load(...all);
  }) as typeof load;
  patch.store = ((...all: Parameters<typeof store>) => {
    calls.push("store");
    return store(...all);
  }) as typeof store;
  try {
    Object.assign(Atomics, patch);
    const window = new Uint16Array(1);
    storeFence(window, 0, 1);
    loadAcquire(window, 0);
  } finally {
    Object.assign(Atomics, { load, store });
  }
  assertEquals(calls, ["store", "load"]);
});
