/**
 * The target "net".
 *
 * @module
 */

import { Bytes } from "../engine/bytes.ts";
import type { Observer, Target } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { mapMemory } from "../memory/mapped_memory.ts";
import { installRacingReads } from "../memory/racing_reads.ts";
import { REGIONS } from "./network.ts";
import { RECORD, Run } from "./run.ts";
import { NET_SEEDS } from "./seeds.ts";

/** The target. */
export class NetTarget implements Target {
  readonly name = "net";
  readonly header = 4;
  readonly record = RECORD;
  readonly maxRecords = 20;
  readonly guides: readonly string[] = ["/backends/net/", "/virtqueue/"];
  readonly seeds: readonly Uint8Array[] = NET_SEEDS;
  readonly #stack = new DisposableStack();
  readonly #memory: FuzzMemory;
  readonly #shared: ReturnType<FuzzMemory["share"]>;

  /** Makes the memory. */
  constructor() {
    installRacingReads();
    this.#memory = mapMemory(this.#stack, REGIONS);
    this.#shared = this.#memory.share();
  }

  run(input: Uint8Array, observer: Observer): void {
    this.#memory.clear();
    const bytes = new Bytes(input);
    const run = new Run(this.#memory, this.#shared, bytes, observer);
    try {
      while (!bytes.done) run.step(bytes);
      run.finish();
    } finally {
      run.close();
    }
  }

  close(): void {
    this.#stack.dispose();
  }
}
