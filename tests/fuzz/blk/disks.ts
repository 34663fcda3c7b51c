/**
 * The disks of the target: real devices on real storage, made once.
 *
 * @module
 */

import type { BlkDevice } from "../../../backends/blk/device.ts";
import createBlk from "../../../backends/blk/mod.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { pattern } from "../../../backends/storage/testing/buffers.ts";
import type { DiskFacts } from "./model.ts";

/** Entries of the ring, and so chains of a device. */
export const RING_SIZE = 16;
/** Bytes of a disk. */
export const DISK_SIZE = 0x1_0000;

type Variant = Omit<DiskFacts, "size"> & { readonly storage: string };

const common = {
  storage: "file",
  blockSize: 512,
  readOnly: false,
  segMax: 8,
  discard: true,
  writeZeroes: true,
  serial: "fuzz",
} as const;

/** The disks there are. */
export const VARIANTS: readonly Variant[] = [
  common,
  { ...common, storage: "memory" },
  { ...common, readOnly: true, serial: "" },
  { ...common, blockSize: 4096 },
  { ...common, discard: false, writeZeroes: false, segMax: 2 },
  {
    ...common,
    storage: "memory",
    blockSize: 4096,
    segMax: 1,
    serial: "12345678901234567890",
  },
];

/** What disks contain when a run begins. */
const CONTENTS = pattern(DISK_SIZE, 1);

/** A device, and its bytes from behind. */
export class Disk implements Disposable {
  readonly facts: DiskFacts;
  readonly device: BlkDevice;
  readonly #directory = TemporaryDirectory.make("fuzz");
  readonly #file: Deno.FsFile;
  readonly #bytes = new Uint8Array(DISK_SIZE);

  /** Makes a device on this memory. */
  constructor(variant: Variant, memory: GuestMemory) {
    const { storage, ...facts } = variant;
    this.facts = { ...facts, size: DISK_SIZE };
    const path = this.#directory.file("disk.img");
    const inMemory = storage === "memory";
    Deno.writeFileSync(path, CONTENTS);
    const where = inMemory
      ? { storage, size: DISK_SIZE }
      : { path, engine: "sync" };
    this.device = createBlk({
      ...where,
      blockSize: facts.blockSize,
      readonly: facts.readOnly,
      segMax: facts.segMax,
      discard: facts.discard && !facts.readOnly,
      writeZeroes: facts.writeZeroes && !facts.readOnly,
      serial: facts.serial,
    }, {
      memory,
      slotsPerQueue: RING_SIZE,
      worker: 0,
      ring: () => null,
      configChanged() {},
      resume() {},
      watch() {},
      log() {},
    }) as BlkDevice;
    this.device.activate();
    const options = { read: true, write: true };
    this.#file = Deno.openSync(inMemory ? memfdPath() : path, options);
  }

  /** Writes the contents that a run begins with. */
  fill(): void {
    this.#file.seekSync(0, Deno.SeekMode.Start);
    this.#file.writeSync(CONTENTS);
  }

  /** What a run begins with. */
  get contents(): Uint8Array<ArrayBuffer> {
    return CONTENTS;
  }

  /** What the disk contains; valid up to the next call. */
  read(): Uint8Array<ArrayBuffer> {
    this.#file.seekSync(0, Deno.SeekMode.Start);
    let at = 0;
    while (at < DISK_SIZE) {
      const n = this.#file.readSync(this.#bytes.subarray(at));
      if (n === null) throw new Error(`The disk ends after ${at} bytes`);
      at += n;
    }
    return this.#bytes;
  }

  [Symbol.dispose](): void {
    this.device.deactivate();
    this.device.close();
    this.#file.close();
    this.#directory[Symbol.dispose]();
  }
}

/** The memory of the disk in memory that was made last. */
function memfdPath(): string {
  const found: number[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      const link = Deno.readLinkSync(`/proc/self/fd/${name}`);
      if (link.startsWith("/memfd:vhostd-disk")) found.push(Number(name));
    } catch (error) {
      // The descriptor that reads the folder is gone by now.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return `/proc/self/fd/${Math.max(...found)}`;
}
