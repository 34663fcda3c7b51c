/**
 * The target "blk".
 *
 * @module
 */

import { Bytes } from "../engine/bytes.ts";
import { comparable, equalBytes } from "../engine/equal.ts";
import type { Observer, Target } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { mapMemory } from "../memory/mapped_memory.ts";
import { installRacingReads } from "../memory/racing_reads.ts";
import { Disk, VARIANTS } from "./disks.ts";
import { BlkModel } from "./model.ts";
import { RECORD, REGIONS, Run } from "./run.ts";
import { BLK_SEEDS } from "./seeds.ts";

/** VERSION_1, FLUSH and CONFIG_WCE: the driver may switch the cache mode. */
const WRITEBACK_FEATURES = 1n << 32n | 1n << 11n | 1n << 9n;

/** The target. */
export class BlkTarget implements Target {
  readonly name = "blk";
  readonly header = 4;
  readonly record = RECORD;
  readonly maxRecords = 16;
  readonly guides: readonly string[] = [
    "/backends/",
    "/virtqueue/",
    "/sys/copy.ts",
    "/sys/file.ts",
  ];
  readonly seeds: readonly Uint8Array[] = BLK_SEEDS;
  readonly #stack = new DisposableStack();
  readonly #memory: FuzzMemory;
  readonly #shared: ReturnType<FuzzMemory["share"]>;
  /** The disk of the last run is as a run begins with it. */
  #clean = false;
  #last: Disk | null = null;
  readonly #disks: readonly { disk: Disk; model: BlkModel }[];

  /** Makes memory and disks. */
  constructor() {
    installRacingReads();
    this.#memory = mapMemory(this.#stack, REGIONS);
    this.#shared = this.#memory.share();
    this.#disks = VARIANTS.map((variant) => {
      const disk = this.#stack.use(new Disk(variant, this.#shared));
      disk.fill();
      const model = new BlkModel(this.#memory, disk.facts);
      model.image.set(disk.contents);
      return { disk, model };
    });
  }

  run(input: Uint8Array, observer: Observer): void {
    this.#memory.clear();
    const bytes = new Bytes(input);
    const { disk, model } = this.#disks[bytes.u8() % this.#disks.length];
    // The cache mode outlives a reset.
    disk.device.negotiate(WRITEBACK_FEATURES);
    disk.device.writeConfig(32, Uint8Array.of(1));
    disk.device.reset();
    if (!this.#clean || this.#last !== disk) {
      disk.fill();
      model.image.set(disk.contents);
    }
    this.#clean = false;
    this.#last = disk;
    const shared = this.#shared;
    const run = new Run(this.#memory, disk, model, bytes, observer, shared);
    bytes.u8();
    while (!bytes.done && !run.over) run.step(bytes);
    this.#clean = !run.over &&
      equalBytes(comparable(model.image), comparable(disk.contents));
  }

  close(): void {
    this.#stack.dispose();
  }
}
