import { assert, assertEquals } from "@std/assert";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { countCollections } from "../testing/collections.ts";
import { uring } from "./testing/test_ring.ts";

// As in the test of the same name one folder up: what runs for each request
// leaves no garbage, here in batches of 8 requests.
const REQUESTS = 2_000_000;

const PROGRAM = `
import { Arena } from "./arena.ts";
import { EventFd } from "./eventfd.ts";
import { DataFile } from "./file.ts";
import { IoUring } from "./io_uring/io_uring.ts";
import { IORING_OP_NOP, IORING_OP_READ } from "./io_uring/constants.ts";

const requests = Number(Deno.args[1]);
using file = DataFile.open(Deno.args[0], { create: true });
file.write(new Uint8Array(4096), 0);
using arena = new Arena(65536);
using event = EventFd.create();
using ring = new IoUring({ entries: 16 });
const fixed = ring.registerFile(file.fd);
let sum = 0, events = 0;
const first = ring.register((token, result) => sum = (sum + result + token) | 0);
const second = ring.register((_token, result) => sum = (sum ^ result) | 0);
const third = ring.register(() => events++);
ring.watch(event.fd, third, 0);
// Numbers that are no small integers, and that the optimizer cannot know.
const big = Float64Array.of(arena.address, 2 ** 40, 4294967296);
const finish = () => {
  for (let left = ring.inFlight - 1; left > 0; left = ring.inFlight - 1) {
    ring.wait(-1);
    ring.reap(3);
  }
};
const batches = {
  nop(i) {
    for (let k = 0; k < 8; k++) {
      const source = (k & 1) === 0 ? first : second;
      ring.prepare(IORING_OP_NOP, 0, -1, 0, 0, 0, 0, source, k);
    }
    finish();
  },
  prepare(i) {
    for (let k = 0; k < 8; k++) {
      ring.prepare(IORING_OP_NOP, 0, -1, big[1] + i, big[0] + k, 512, 0, first, k);
    }
    ring.submit();
    while (ring.ready) ring.reap(64);
  },
  claim(i) {
    const { sqes } = ring;
    for (let k = 0; k < 8; k++) {
      const at = ring.claim(IORING_OP_READ, 1, fixed, 512, 0, first, k);
      const offset = 512 * k, address = big[0];
      sqes[at + 2] = offset;
      sqes[at + 3] = offset / big[2];
      sqes[at + 4] = address;
      sqes[at + 5] = address / big[2];
    }
    finish();
  },
  signal(i) {
    for (let k = 0; k < 8; k++) ring.signal(event.fd);
    ring.submit();
    while (ring.ready) ring.reap(64);
  },
};
let control = [];
batches.control = (i) => { for (let k = 0; k < 8; k++) control = [i]; };
for (const [name, batch] of Object.entries(batches)) {
  // The first part compiles; what is compiled is what a device runs.
  for (let i = 0; i < requests / 20; i += 8) batch(i);
  console.log("begin", name);
  for (let i = 0; i < requests; i += 8) batch(i);
  console.log("end", name);
}
console.log("events", events > 1000, "failed", ring.failedSignals);
`;

uring.test("requests of a ring leave nothing for the garbage collector", async (t) => {
  using directory = TemporaryDirectory.make("ring");
  const args = [directory.file("disk.img"), String(REQUESTS)];
  await t.step("as the optimizer makes it", async () => {
    const { collections, output } = await countCollections(PROGRAM, args);
    check(collections, ["nop", "prepare", "claim", "signal"], output);
  });
  // Large numbers are boxed in calls then: `prepare` allocates, `claim` and
  // `signal` do not.
  await t.step("without a call inlined", async () => {
    const flags = ["--no-turbo-inlining", "--no-maglev-inlining"];
    const { collections, output } = await countCollections(
      PROGRAM,
      args,
      flags,
    );
    check(collections, ["nop", "claim", "signal"], output);
    assert((collections.get("prepare") ?? 0) > 5, output);
  });
});

function check(
  collections: Map<string, number>,
  clean: string[],
  output: string,
): void {
  assertEquals(collections.size, 5, output);
  // That the count sees garbage at all: a small array for each request.
  assert((collections.get("control") ?? 0) > 5, output);
  for (const name of clean) {
    const count = collections.get(name) ?? -1;
    assert(count >= 0 && count <= 1, `${name}: ${count}\n${output}`);
  }
  assert(output.includes("events true failed 0"), output);
}
