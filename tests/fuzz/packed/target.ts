/**
 * The target "packed".
 *
 * @module
 */

import { Bytes } from "../engine/bytes.ts";
import type { Observer, Target } from "../engine/target.ts";
import { FuzzMemory, GUARD } from "../memory/fuzz_memory.ts";
import { installRacingReads } from "../memory/racing_reads.ts";
import { REGIONS } from "../ring/layout.ts";
import { PackedRun } from "./run.ts";
import { PACKED_SEEDS } from "./seeds.ts";

const HOST_BASE = 0x7000_0000_0000;

/** The target. */
export class PackedTarget implements Target {
  readonly name = "packed";
  readonly header = 8;
  readonly record = 12;
  readonly maxRecords = 48;
  readonly guides: readonly string[] = ["/virtqueue/"];
  readonly seeds: readonly Uint8Array[] = PACKED_SEEDS;
  readonly #memory = new FuzzMemory(
    REGIONS.map(([guestAddress, size], i) => ({
      guestAddress,
      size,
      guarded: new Uint8Array(size + 2 * GUARD),
      hostAddress: HOST_BASE + i * 0x10_0000,
    })),
  );

  /** Replaces the functions that read shared memory in this process. */
  constructor() {
    installRacingReads();
  }

  run(input: Uint8Array, observer: Observer): void {
    this.#memory.clear();
    const bytes = new Bytes(input);
    const run = new PackedRun(this.#memory, bytes, observer);
    while (!bytes.done && !run.over) run.step(bytes);
  }
}
