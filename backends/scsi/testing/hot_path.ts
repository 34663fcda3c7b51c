/**
 * Sends the same commands over and over and allocates nothing for it itself: run
 * by `hot_path_test.ts` under a V8 whose young generation is so large that nothing
 * is collected meanwhile, so that what is used is what was allocated.
 *
 * @module
 */

import type { RunningQueue } from "../../../virtqueue/queue.ts";
import type { FakeDriver } from "../../../virtqueue/testing/driver.ts";
import { FIRST_REQUEST_QUEUE } from "../protocol.ts";
import { requestHead, ScsiBench } from "./bench.ts";

const ROUNDS = Number(Deno.args[0]);
/** Commands that are available at once. */
const BATCH = 8;
/**
 * Slices that are measured at most: code that is not compiled yet allocates, and
 * on a busy machine that takes its time. What a command allocates is in each.
 */
const SLICES = 8;
/** Bytes of a command's data, and of a response. */
const DATA = 4096, RESPONSE = 108;
const NEXT = 1, WRITE = 2;

/** Makes the same commands available again and again. */
class Repeater {
  readonly #bench: ScsiBench;
  readonly #driver: FakeDriver;
  readonly #queue: RunningQueue;
  #available = 0;

  constructor(bench: ScsiBench, cdb: readonly number[], writing: boolean) {
    this.#bench = bench;
    this.#driver = bench.drivers[FIRST_REQUEST_QUEUE] as FakeDriver;
    this.#queue = bench.queues[FIRST_REQUEST_QUEUE];
    const { memory } = bench;
    for (let i = 0; i < BATCH; i++) {
      const head = requestHead(cdb, { tag: i });
      const request = memory.allocate(head.length);
      memory.write(request, head);
      const response = { address: memory.allocate(RESPONSE), length: RESPONSE };
      const data = { address: memory.allocate(DATA), length: DATA };
      const [second, third] = writing
        ? [{ ...data, flags: NEXT }, { ...response, flags: WRITE }]
        : [{ ...response, flags: NEXT | WRITE }, { ...data, flags: WRITE }];
      const first = { address: request, length: head.length, flags: NEXT };
      [first, second, third].forEach((descriptor, at) =>
        this.#driver.setDescriptor(3 * i + at, {
          ...descriptor,
          next: 3 * i + at + 1,
        })
      );
    }
    for (let i = 0; i < this.#driver.size; i++) {
      this.#driver.setAvailable(i, 3 * (i % BATCH));
    }
  }

  /** Runs all commands that often. */
  run(rounds: number): void {
    const { device } = this.#bench;
    for (let i = 0; i < rounds; i++) {
      this.#available = (this.#available + BATCH) & 0xffff;
      this.#driver.setAvailableIndex(this.#available);
      const goal = device.metrics.completed + BATCH;
      device.serve(this.#queue, BATCH);
      while (device.metrics.completed < goal) {
        device.poll();
        this.#bench.wait();
      }
      this.#queue.publish();
    }
  }
}

/** Runs a command for many rounds, and tells what was allocated. */
function measure(
  name: string,
  engine: string,
  cdb: readonly number[],
  writing: boolean,
): void {
  using images = new ScsiBench();
  const path = images.image("disk.img");
  using bench = new ScsiBench({ scsi: { path, engine } });
  bench.clearAttentions();
  const repeater = new Repeater(bench, cdb, writing);
  const good = (): number => {
    const { statuses } = bench.device.metrics.toJSON();
    return (statuses as Record<string, number>).good;
  };
  repeater.run(ROUNDS / 5);
  let commands = 0, bytes = Infinity;
  for (let slice = 0; slice < SLICES && bytes > ROUNDS; slice++) {
    const before = good();
    const used = Deno.memoryUsage().heapUsed;
    repeater.run(ROUNDS);
    bytes = Math.min(bytes, Deno.memoryUsage().heapUsed - used);
    commands = good() - before;
  }
  console.log(JSON.stringify({ name, commands, bytes }));
}

const kept: number[][] = [];
{
  const used = Deno.memoryUsage().heapUsed;
  for (let i = 0; i < ROUNDS * BATCH; i++) kept[i & 7] = [i];
  const bytes = Deno.memoryUsage().heapUsed - used;
  console.log(
    JSON.stringify({ name: "control", commands: ROUNDS * BATCH, bytes }),
  );
}
const read10 = [0x28, 0, 0, 0, 0, 8, 0, 0, 8, 0];
const write10 = [0x2a, 0, 0, 0, 0, 8, 0, 0, 8, 0];
const tail = [0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0];
for (const engine of ["sync", "io_uring"]) {
  measure(`${engine} READ (10)`, engine, read10, false);
  measure(`${engine} WRITE (10)`, engine, write10, true);
  measure(`${engine} READ (16)`, engine, [0x88, 0, ...tail], false);
  measure(`${engine} WRITE (16)`, engine, [0x8a, 0, ...tail], true);
}
measure("sync READ (6)", "sync", [8, 0, 0, 8, 8, 0], false);
measure("sync WRITE (6)", "sync", [10, 0, 0, 8, 8, 0], true);
measure("sync READ (12)", "sync", [
  ...[0xa8, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0],
], false);
measure("sync WRITE (12)", "sync", [
  ...[0xaa, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0],
], true);
