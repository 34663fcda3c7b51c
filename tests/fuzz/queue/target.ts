/**
 * What the targets "ring" and "packed" are: a queue in the memory of a guest.
 *
 * @module
 */

import { Bytes } from "../engine/bytes.ts";
import type { Observer, Target } from "../engine/target.ts";
import { FuzzMemory, GUARD } from "../memory/fuzz_memory.ts";
import { installRacingReads } from "../memory/racing_reads.ts";
import { REGIONS } from "./layout.ts";

const HOST_BASE = 0x7000_0000_0000;

/** An input that is run: a record is a step, until it is over. */
interface Run {
  readonly over: boolean;
  step(bytes: Bytes): void;
}

/** A target that fuzzes queues of a layout. */
export class QueueTarget implements Target {
  readonly name: string;
  readonly header = 8;
  readonly record = 12;
  readonly maxRecords = 48;
  readonly guides: readonly string[] = ["/virtqueue/"];
  readonly seeds: readonly Uint8Array[];
  readonly #start: (
    memory: FuzzMemory,
    bytes: Bytes,
    observer: Observer,
  ) => Run;
  readonly #memory = new FuzzMemory(
    REGIONS.map(([guestAddress, size], i) => ({
      guestAddress,
      size,
      guarded: new Uint8Array(size + 2 * GUARD),
      hostAddress: HOST_BASE + i * 0x10_0000,
    })),
  );

  /**
   * Replaces the functions that read shared memory in this process.
   *
   * @param start lays out the ring that the header of an input says
   */
  constructor(
    name: string,
    seeds: readonly Uint8Array[],
    start: (memory: FuzzMemory, bytes: Bytes, observer: Observer) => Run,
  ) {
    this.name = name;
    this.seeds = seeds;
    this.#start = start;
    installRacingReads();
  }

  run(input: Uint8Array, observer: Observer): void {
    this.#memory.clear();
    const bytes = new Bytes(input);
    const run = this.#start(this.#memory, bytes, observer);
    while (!bytes.done && !run.over) run.step(bytes);
  }
}
