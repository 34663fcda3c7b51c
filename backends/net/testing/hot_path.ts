/**
 * Sends the same frames over and over and allocates nothing for it itself: run by
 * `hot_path_test.ts` under a V8 whose young generation is so large that nothing is
 * collected meanwhile, so that what is used is what was allocated.
 *
 * @module
 */

import { featureMask } from "../../../virtqueue/constants.ts";
import type { FakeDriver } from "../../../virtqueue/testing/driver.ts";
import { NetFeature } from "../protocol.ts";
import { EVERYTHING, NetBench } from "./bench.ts";
import { type Packet, packet, partialHeader, virtioHeader } from "./packets.ts";

const ROUNDS = Number(Deno.args[0]);
const { GUEST_CSUM, GUEST_TSO4 } = NetFeature;

/** Offers the same chain again and again. */
class Repeater {
  readonly #driver: FakeDriver;
  #available = 0;

  /** A chain of these pieces of memory in front of a ring. */
  constructor(
    bench: NetBench,
    index: number,
    pieces: readonly { address: number; length: number }[],
    write: boolean,
  ) {
    this.#driver = bench.drivers.get(index) as FakeDriver;
    const driver = this.#driver;
    pieces.forEach(({ address, length }, i) => {
      const last = i === pieces.length - 1;
      const flags = (write ? 2 : 0) | (last ? 0 : 1);
      driver.setDescriptor(i, { address, length, flags, next: i + 1 });
    });
    for (let i = 0; i < driver.size; i++) driver.setAvailable(i, 0);
  }

  /** Makes the chain available. */
  offer(): void {
    this.#available = (this.#available + 1) & 0xffff;
    this.#driver.setAvailableIndex(this.#available);
  }
}

function place(bench: NetBench, bytes: Uint8Array) {
  const address = bench.memory.allocate(bytes.length);
  bench.memory.write(address, bytes);
  return { address, length: bytes.length };
}

/** Sends a frame from one bench to another for many rounds. */
function run(
  name: string,
  from: NetBench,
  to: NetBench,
  made: Packet,
  header: Uint8Array,
): void {
  const chain = [place(from, header), place(from, made.bytes)];
  const sender = new Repeater(from, 1, chain, false);
  const room = { address: to.memory.allocate(65562), length: 65562 };
  const receiver = new Repeater(to, 0, [room], true);
  const tx = from.queues.get(1)!, rx = to.queues.get(0)!;
  const { device } = from;
  receiver.offer();
  to.device.serve(rx, 1);
  const before = to.count("rxFrames");
  const rounds = (count: number) => {
    for (let i = 0; i < count; i++) {
      receiver.offer();
      sender.offer();
      device.serve(tx, 8);
      tx.publish();
      rx.publish();
    }
  };
  rounds(ROUNDS / 5);
  const used = Deno.memoryUsage().heapUsed;
  rounds(ROUNDS);
  const bytes = Deno.memoryUsage().heapUsed - used;
  const frames = to.count("rxFrames") - before;
  console.log(JSON.stringify({ name, frames, bytes }));
}

const kept: number[][] = [];
{
  const used = Deno.memoryUsage().heapUsed;
  for (let i = 0; i < ROUNDS; i++) kept[i & 7] = [i];
  const bytes = Deno.memoryUsage().heapUsed - used;
  console.log(JSON.stringify({ name: "control", frames: ROUNDS, bytes }));
}
const small = packet(), large = packet({ payload: 2800 });
{
  using bench = new NetBench({ backend: "echo" });
  run("echo", bench, bench, small, virtioHeader());
}
{
  using bench = new NetBench({ backend: "echo" }, {
    features: EVERYTHING & ~featureMask(GUEST_CSUM),
  });
  run("checksum", bench, bench, small, partialHeader(small));
}
{
  using bench = new NetBench({ backend: "echo" }, {
    features: EVERYTHING & ~featureMask(GUEST_TSO4),
  });
  const header = partialHeader(large, { gsoType: 1, gsoSize: 2800 });
  run("segment", bench, bench, large, header);
}
{
  using from = new NetBench({ backend: "switch" });
  using to = new NetBench({ backend: "switch" });
  run("switch", from, to, small, virtioHeader());
}
