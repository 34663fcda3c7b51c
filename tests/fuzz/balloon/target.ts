/**
 * The target "balloon".
 *
 * @module
 */

import { Bytes } from "../engine/bytes.ts";
import type { Observer, Target } from "../engine/target.ts";
import { installRacingReads } from "../memory/racing_reads.ts";
import { makeMemory, PageFiles, REGIONS, RINGS } from "./memory.ts";
import { RECORD, Run } from "./run.ts";
import { BALLOON_SEEDS } from "./seeds.ts";

/** What free memory contains. */
const CONTENTS = 0xa5;

/** The target. */
export class BalloonTarget implements Target {
  readonly name = "balloon";
  readonly header = 2;
  readonly record = RECORD;
  readonly maxRecords = 24;
  readonly guides: readonly string[] = ["/backends/balloon/", "/virtqueue/"];
  readonly seeds: readonly Uint8Array[] = BALLOON_SEEDS;
  readonly #files = new PageFiles();
  readonly #memory = makeMemory(this.#files);

  /** Makes the memory. */
  constructor() {
    installRacingReads();
  }

  run(input: Uint8Array, observer: Observer): void {
    const memory = this.#memory;
    memory.clear();
    for (let i = RINGS + 1; i < REGIONS.length - 1; i++) {
      memory.fill(i, CONTENTS);
    }
    const bytes = new Bytes(input);
    const shared = memory.share();
    const run = new Run(memory, shared, this.#files, bytes, observer);
    try {
      while (!bytes.done) run.step(bytes);
      run.finish();
    } finally {
      run.close();
    }
  }
}
