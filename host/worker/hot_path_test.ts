import { assert, assertEquals } from "@std/assert";
import { countCollections } from "../../sys/testing/collections.ts";

// What is called for each wake-up, and not for each request, is interpreted for
// up to a minute, and no object that it makes is spared by a compiler.
const ROUNDS = 150_000;
const INTERPRETED = ["--no-sparkplug", "--no-maglev", "--no-opt"];

const HERE = new URL("./", import.meta.url);

const PROGRAM = `
import { EpollWaiter } from "${HERE}waiter.ts";
import { PollingGovernor } from "${HERE}polling.ts";
import { Bench } from "${HERE}testing/bench.ts";

const rounds = Number(Deno.args[0]);
const governor = new PollingGovernor("auto");
const bench = new Bench(new EpollWaiter());
bench.start({ kickFd: -1 });
const { hosted } = bench;
const { queue } = hosted.rings[0];
const calls = {
  look: () => (governor.begin(), governor.goOn()),
  sleep: (i) => {
    governor.sleeps();
    governor.wakes();
    governor.woken((i & 3) === 0);
  },
  publish: () => hosted.publish(),
  woken: () => hosted.woken(),
  resume: () => hosted.resume(queue),
  pending: () => hosted.pending,
};
let control = 0.5;
calls.control = () => control += 1.5;
for (const [name, call] of Object.entries(calls)) {
  call(0);
  console.log("begin", name);
  for (let i = 0; i < rounds; i++) call(i);
  console.log("end", name);
}
bench[Symbol.dispose]();
`;

Deno.test("a wake-up leaves nothing for the garbage collector, not even interpreted", async () => {
  const { collections, output } = await countCollections(
    PROGRAM,
    [String(ROUNDS)],
    INTERPRETED,
  );
  assertEquals([...collections.keys()], [
    ...["look", "sleep", "publish", "woken", "resume", "pending", "control"],
  ], output);
  // That the count sees garbage at all: a number on the heap in each round.
  assert((collections.get("control") ?? 0) > 1, output);
  collections.delete("control");
  for (const [call, count] of collections) {
    assert(count <= 1, `${call}: ${count} collections\n${output}`);
  }
});
