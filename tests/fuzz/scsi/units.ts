/**
 * The SCSI hosts of the target: two, which share a disk; real storage.
 *
 * Theory of operation. Hosts are made for each run, so that no reservation,
 * mode or lock outlives it; their images are made once. A storage may be put in
 * between that keeps operations until it is told to do them: then commands wait,
 * and can be aborted.
 *
 * @module
 */

import type { ScsiDevice } from "../../../backends/scsi/device.ts";
import createScsi from "../../../backends/scsi/mod.ts";
import { comparable, equalBytes } from "../engine/equal.ts";
import type { Storage } from "../../../backends/storage/storage.ts";
import { pattern } from "../../../backends/storage/testing/buffers.ts";
import type { DeviceContext } from "../../../virtqueue/device.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";

/** Bytes of each image. */
export const IMAGE_SIZE = 0x8000;
/** What images contain when a run begins. */
const CONTENTS = pattern(IMAGE_SIZE, 1);

/** A logical unit. */
export interface UnitFacts {
  readonly target: number;
  readonly lun: number;
  /** Name of the image; empty: there is no medium. */
  readonly image: string;
  readonly blockSize: number;
  readonly type?: "cdrom";
  readonly readonly?: boolean;
  readonly removable?: boolean;
}

/** Those of the first host; the second has the first of them. */
export const UNITS: readonly UnitFacts[] = [
  { target: 0, lun: 0, image: "a", blockSize: 512 },
  { target: 0, lun: 1, image: "b", blockSize: 4096, removable: true },
  { target: 0, lun: 2, image: "c", blockSize: 512, readonly: true },
  { target: 1, lun: 0, image: "d", blockSize: 2048, type: "cdrom" },
  { target: 1, lun: 300, image: "", blockSize: 2048, type: "cdrom" },
];
/** One that comes and goes. */
export const SPARE: UnitFacts = {
  target: 2,
  lun: 1,
  image: "e",
  blockSize: 512,
};
/** Units of each host. */
export const HOSTS: readonly (readonly UnitFacts[])[] = [
  UNITS,
  UNITS.slice(0, 1),
];
const IMAGES = ["a", "b", "c", "d", "e", "f"];

/** Images on files. */
export class Images implements Disposable {
  /** What images contain, by name. */
  readonly models = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #directory = TemporaryDirectory.make("fuzz");
  readonly #files = new Map<string, Deno.FsFile>();
  readonly #bytes = new Uint8Array(IMAGE_SIZE);

  /** Makes the files. */
  constructor() {
    for (const name of IMAGES) {
      const path = this.path(name);
      Deno.writeFileSync(path, CONTENTS);
      const options = { read: true, write: true };
      this.#files.set(name, Deno.openSync(path, options));
      this.models.set(name, CONTENTS.slice());
    }
  }

  /** Where an image is. */
  path(name: string): string {
    return name === "" ? "" : this.#directory.file(`${name}.img`);
  }

  /** Everything is as a run begins with it. */
  reset(): void {
    for (const [name, model] of this.models) {
      if (this.difference(name, CONTENTS) >= 0) {
        const file = this.#files.get(name)!;
        file.seekSync(0, Deno.SeekMode.Start);
        file.writeSync(CONTENTS);
      }
      model.set(CONTENTS);
    }
    for (const { name } of Deno.readDirSync(this.#directory.path)) {
      if (!name.endsWith(".img")) Deno.removeSync(this.#directory.file(name));
    }
  }

  /** What an image contains now; valid up to the next call. */
  read(name: string): Uint8Array<ArrayBuffer> {
    const file = this.#files.get(name)!;
    file.seekSync(0, Deno.SeekMode.Start);
    let at = 0;
    while (at < IMAGE_SIZE) {
      const n = file.readSync(this.#bytes.subarray(at));
      if (n === null) throw new Error(`Image ${name} ends after ${at} bytes`);
      at += n;
    }
    return this.#bytes;
  }

  /** Where an image differs from what is expected; -1: nowhere. */
  difference(name: string, right: Uint8Array<ArrayBuffer>): number {
    const bytes = this.read(name);
    const same = equalBytes(comparable(bytes), comparable(right));
    return same ? -1 : bytes.findIndex((byte, i) => byte !== right[i]);
  }

  [Symbol.dispose](): void {
    for (const file of this.#files.values()) file.close();
    this.#directory[Symbol.dispose]();
  }
}

/** Options of a logical unit. */
export function optionsOf(
  { image, ...facts }: UnitFacts,
  images: Images,
): Record<string, unknown> {
  const path = image === "" ? {} : { path: images.path(image) };
  return { ...facts, ...path, engine: "sync", share: true };
}

/** Makes a host. */
export function makeHost(
  which: number,
  images: Images,
  context: DeviceContext,
): ScsiDevice {
  return createScsi({
    initiator: ["fuzz-a", "fuzz-b"][which],
    segMax: 8,
    luns: HOSTS[which].map((unit) => optionsOf(unit, images)),
  }, context) as ScsiDevice;
}

/** Storage that does what it is told to when it is told to. */
export class Delays {
  readonly #waiting: (() => void)[] = [];

  /** Whether nothing waits. */
  get idle(): boolean {
    return this.#waiting.length === 0;
  }

  /** Puts itself in front of the storages of a host. */
  insert({ bus }: ScsiDevice): void {
    for (const [, , nexus] of bus.entries()) {
      const { storage } = nexus;
      if (storage === null) continue;
      const submit = storage.submit.bind(storage);
      storage.submit = ((slot, operation) => {
        this.#waiting.push(() => submit(slot, operation));
      }) as Storage["submit"];
    }
  }

  /** Does what waits longest, or the newest; false: nothing does. */
  release(newest: boolean): boolean {
    const next = newest ? this.#waiting.pop() : this.#waiting.shift();
    next?.();
    return next !== undefined;
  }
}
