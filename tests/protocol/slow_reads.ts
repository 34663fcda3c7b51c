/**
 * Reads that are in flight for a while: many large ones that bypass the page
 * cache, by io_uring, into a region of guest memory of their own.
 *
 * Every page of that region has a mark. A read that arrives replaces the marks of
 * its pages: memory that is marked anew tells what arrives later.
 *
 * @module
 */

import { DataFile } from "../../sys/file.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { IovecTable } from "../../sys/iovec.ts";
import { mapAnonymous } from "../../sys/mapping.ts";
import { SharedRegion } from "../../vhost/testing/front_end.ts";
import type { RingDriver } from "../../virtqueue/testing/driver.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { type Guest, header, SECTOR, T_IN } from "./disk.ts";

/** Reads that are submitted at once. */
export const DEPTH = 32;
/** Bytes of one of them. */
const READ = 1 << 20;
/** What the used ring says of one that ended well: data and status. */
export const READ_LENGTH = READ + 1;
const PAGE = 4096;
/** Guest address of the region that is read into. */
const ADDRESS = 0x4000_0000;
/** How often to try until requests are in flight at the right time. */
export const ATTEMPTS = 10;
/** No stamp of a sector. */
const MARK = 0xa5a5_a5a5;

/** Sectors that an image has to have. */
export const SECTORS = DEPTH * READ / SECTOR;

/** Whether temporary files can be read past the page cache. */
export function canBypass(): boolean {
  using directory = TemporaryDirectory.make("direct");
  const path = directory.file("probe");
  Deno.writeFileSync(path, new Uint8Array(PAGE));
  try {
    DataFile.open(path, { direct: true }).close();
    return true;
  } catch {
    // Without it the kernel copies in threads of its own: that takes time, too.
    return false;
  }
}

/** Options of a disk whose reads do not end at once. */
export const SLOW: Readonly<Record<string, unknown>> = {
  engine: "io_uring",
  direct: canBypass(),
};

/** What tests with such disks need. */
export const slowly = skipUnless(IoUring.supported(), "needs io_uring");

/** Memory that is read into, and a guest that does it. */
export class SlowReads implements Disposable {
  /** The memory. */
  readonly region: SharedRegion;
  readonly #guest: Guest<RingDriver>;
  readonly #words: Uint32Array<ArrayBuffer>;

  /** @param guest has the ring, in other memory */
  constructor(guest: Guest<RingDriver>) {
    this.#guest = guest;
    this.region = SharedRegion.create(ADDRESS, DEPTH * READ);
    const { buffer, byteOffset, byteLength } = this.region.bytes;
    this.#words = new Uint32Array(buffer, byteOffset, byteLength / 4);
  }

  /** Marks every page. */
  mark(): void {
    for (let i = 0; i < this.#words.length; i += PAGE / 4) {
      this.#words[i] = MARK;
    }
  }

  /** Pages that were written since they were marked. */
  get changed(): number {
    let changed = 0;
    for (let i = 0; i < this.#words.length; i += PAGE / 4) {
      if (this.#words[i] !== MARK) changed++;
    }
    return changed;
  }

  /** Submits a read of the whole image, in pieces. */
  submit(): void {
    const { drivers: [driver], frontEnd } = this.#guest;
    for (let i = 0; i < DEPTH; i++) {
      const address = this.region.guestAddress + i * READ;
      driver.submit([
        { readable: header(T_IN, i * READ / SECTOR) },
        { address, length: READ, write: true },
        { writable: 1 },
      ], { indirect: true });
    }
    if (driver.kickNeeded()) frontEnd.kick(0);
  }

  [Symbol.dispose](): void {
    this.region[Symbol.dispose]();
  }
}

/** Reads an image from its medium: what was asked for before comes before. */
export function readFromMedium(path: string): void {
  using file = DataFile.open(path, {
    readOnly: true,
    direct: SLOW.direct === true,
  });
  using memory = mapAnonymous(READ);
  using iovecs = new IovecTable(1, 1);
  const { words } = iovecs;
  words[0] = memory.address;
  words[1] = memory.address / 4294967296;
  words[2] = READ;
  for (let i = 0; i < DEPTH; i++) {
    const result = file.readv(iovecs.address(0), 1, i * READ);
    if (result !== READ) throw new Error(`Read ${result} bytes of ${path}`);
  }
}
