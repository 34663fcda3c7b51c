/**
 * The target "scsi".
 *
 * @module
 */

import { Bytes } from "../engine/bytes.ts";
import type { Observer, Target } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { mapMemory } from "../memory/mapped_memory.ts";
import { installRacingReads } from "../memory/racing_reads.ts";
import { REGIONS } from "./hosts.ts";
import { RECORD, Run } from "./run.ts";
import { SCSI_SEEDS } from "./seeds.ts";
import { Images } from "./units.ts";

/** The target. */
export class ScsiTarget implements Target {
  readonly name = "scsi";
  readonly header = 4;
  readonly record = RECORD;
  readonly maxRecords = 20;
  readonly guides: readonly string[] = ["/backends/scsi/", "/virtqueue/"];
  readonly seeds: readonly Uint8Array[] = SCSI_SEEDS;
  readonly #stack = new DisposableStack();
  readonly #images = this.#stack.use(new Images());
  readonly #memory: FuzzMemory;
  readonly #shared: ReturnType<FuzzMemory["share"]>;

  /** Makes memory and images. */
  constructor() {
    installRacingReads();
    this.#memory = mapMemory(this.#stack, REGIONS);
    this.#shared = this.#memory.share();
  }

  async run(input: Uint8Array, observer: Observer): Promise<void> {
    this.#memory.clear();
    this.#images.reset();
    const bytes = new Bytes(input);
    const run = new Run(
      this.#memory,
      this.#shared,
      this.#images,
      bytes,
      observer,
    );
    bytes.u8();
    try {
      while (!bytes.done) await run.step(bytes);
      await run.finish();
    } finally {
      run.close();
    }
  }

  close(): void {
    this.#stack.dispose();
  }
}
