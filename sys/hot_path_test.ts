import { assert, assertEquals } from "@std/assert";
import { countCollections } from "./testing/collections.ts";

// What the data plane calls for each request must leave no garbage. The
// collector reports on itself: a call that allocated one bigint (24 bytes)
// would fill the young generation dozens of times in this many rounds.
const ROUNDS = 1_000_000;

const PROGRAM = `
import { Arena } from "./arena.ts";
import { readClock } from "./clock.ts";
import { Epoll, EPOLLIN } from "./epoll.ts";
import { drainEventFd, EventFd, signalEventFd } from "./eventfd.ts";
import { DataFile } from "./file.ts";
import { punchHole } from "./hole.ts";
import { IoTable } from "./io_table.ts";
import { IovecTable } from "./iovec.ts";
import { createMemfd } from "./memfd.ts";

const rounds = Number(Deno.args[1]);
using event = EventFd.create();
using epoll = new Epoll();
epoll.add(event.fd, EPOLLIN, 1);
using file = DataFile.open(Deno.args[0], { create: true });
file.truncate(2 ** 40);
using memfd = createMemfd("hot-path", 2 ** 40);
using arena = new Arena(65536);
using table = new IovecTable(64, 2);
for (let i = 0; i < table.words.length; i += 4) {
  table.words[i] = arena.address;
  table.words[i + 1] = arena.address / 2 ** 32;
  table.words[i + 2] = 16;
}
using slots = new IoTable(64, 2);
for (let slot = 0; slot < 64; slot++) {
  slots.iovecs.words.set(table.words.subarray(0, 8), slots.iovecs.wordOffset(slot));
  slots.offsets[slot] = slot * 2 ** 33;
  slots.counts[slot] = 1 + (slot & 1);
}
// Ranges beyond 2^32, of whole blocks and not, that a file does not discard.
using ranges = new IoTable(64, 1);
for (let slot = 0; slot < 64; slot++) {
  ranges.offsets[slot] = slot * (2 ** 33 + 512);
  ranges.lengths[slot] = 8192 + slot * 2 ** 33;
}
const calls = {
  signal: () => Number(signalEventFd(event.fd)),
  wait: () => epoll.wait(-1) + epoll.token(0) + epoll.events(0),
  drain: () => (event.signal(), drainEventFd(event.fd)),
  readv: (i) => file.readv(table.address(i & 63), 2, i * 1_000_000),
  writev: (i) => file.writev(table.address(i & 63), 2, (i & 63) * 2 ** 33),
  readSlot: (i) => file.readSlot(slots, i & 63),
  writeSlot: (i) => file.writeSlot(slots, i & 63),
  clock: () => readClock() & 1,
  failure: (i) => file.readv(16, 1, i),
  datasync: () => file.datasync(),
  hole: (i) => punchHole(memfd.fd, i * 1_000_000, 4096),
  punchHole: (i) => file.punchHole(i * 1_000_000, 0),
  punchSlot: (i) => file.punchSlot(slots, i & 63),
  zeroSlot: (i) => file.zeroSlot(slots, i & 63),
  discardSlot: (i) => file.discardSlot(ranges, i & 63),
};
let control = [];
calls.control = (i) => (control = [i]).length;
for (const [name, call] of Object.entries(calls)) {
  // The first part compiles; what is compiled is what a device runs.
  for (let i = 0; i < rounds / 10; i++) call(i);
  console.log("begin", name);
  let sum = 0;
  for (let i = 0; i < rounds; i++) sum += call(i);
  console.log("end", name, sum);
}
`;

Deno.test("requests leave nothing for the garbage collector", async () => {
  const directory = Deno.makeTempDirSync({
    dir: await exists("/dev/shm") ? "/dev/shm" : undefined,
  });
  try {
    const args = [`${directory}/disk.img`, String(ROUNDS)];
    const { collections, output } = await countCollections(PROGRAM, args);
    assertEquals(collections.size, 16, output);
    // That the count sees garbage at all: a small array in each round.
    assert((collections.get("control") ?? 0) > 5, output);
    collections.delete("control");
    for (const [call, count] of collections) {
      assert(count <= 1, `${call}: ${count} collections\n${output}`);
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
