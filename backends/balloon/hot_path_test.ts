import { assert, assertEquals } from "@std/assert";
import { countCollections } from "../../sys/testing/collections.ts";

// A request leaves no garbage: one that allocated as much as a boxed number for
// each of its pages would fill the young generation again and again.
const ROUNDS = 40_000;

const HERE = new URL("./", import.meta.url);
const VIRTQUEUE = new URL("../../virtqueue/", import.meta.url);

const PROGRAM = `
import { BalloonMetrics } from "${HERE}metrics.ts";
import { Reclaimer } from "${HERE}reclaim.ts";
import { PageRequests } from "${HERE}requests.ts";
import { GuestMemory } from "${VIRTQUEUE}memory.ts";
import { FakeDriver, FakeMemory } from "${VIRTQUEUE}testing/driver.ts";
import { startQueue } from "${VIRTQUEUE}testing/queue.ts";

const rounds = Number(Deno.args[0]);
const memory = new GuestMemory();
const bytes = new Uint8Array(8 << 20);
memory.add({
  guestAddress: 0x4000_0000,
  size: bytes.length,
  buffer: bytes.buffer,
  backing: { fd: 3, offset: 0, pageSize: 4096 },
});
const rings = new Uint8Array(1 << 20);
memory.add({ guestAddress: 0, size: rings.length, buffer: rings.buffer });
const host = { punchHole: () => 0, objection: () => null };
const metrics = new BalloonMetrics();
const reclaimer = new Reclaimer(memory, host, metrics, () => {});
const requests = new PageRequests(reclaimer, metrics);
const fake = new FakeMemory([{ guestAddress: 0, bytes: rings }]);
const lists = {
  runs: (i) => 0x40000 + i,
  scattered: (i) => 0x40000 + (i * 7919 & 2047),
};
/** A chain that was taken, for ever: its queue forgets what is completed. */
function chainOf(list) {
  const driver = new FakeDriver(fake, { size: 4 });
  const words = Uint32Array.from({ length: 256 }, (_, i) => list(i));
  driver.submit([{ readable: new Uint8Array(words.buffer) }]);
  const queue = startQueue(driver, { memory });
  const chain = queue.take();
  queue.complete = () => {};
  return chain;
}
function reportOf() {
  const driver = new FakeDriver(fake, { size: 64 });
  driver.submit(Array.from({ length: 16 }, (_, i) => ({
    address: 0x4000_0000 + i * 262144, length: 131072, write: true,
  })));
  const queue = startQueue(driver, { memory, maxSegments: 32 });
  const chain = queue.take();
  queue.complete = () => {};
  return chain;
}
const runs = chainOf(lists.runs), scattered = chainOf(lists.scattered);
const report = reportOf();
const calls = {
  inflate: () => requests.start(runs, "inflate"),
  scatter: () => requests.start(scattered, "inflate"),
  deflate: () => requests.start(runs, "deflate"),
  report: () => requests.start(report, "report"),
};
let control = [];
calls.control = (i) => (control = new Array(64).fill(i)).length > 0;
for (const [name, call] of Object.entries(calls)) {
  for (let i = 0; i < rounds / 4; i++) call(i);
  console.log("begin", name);
  for (let i = 0; i < rounds; i++) if (!call(i)) throw new Error(name);
  console.log("end", name);
}
`;

Deno.test("requests of a balloon leave nothing for the garbage collector", async () => {
  const { collections, output } = await countCollections(PROGRAM, [
    String(ROUNDS),
  ]);
  assertEquals([...collections.keys()], [
    ...["inflate", "scatter", "deflate", "report", "control"],
  ], output);
  assert((collections.get("control") ?? 0) > 2, output);
  collections.delete("control");
  for (const [call, count] of collections) {
    assert(count <= 2, `${call}: ${count} collections\n${output}`);
  }
});
