/**
 * The memory of the target's guest, and the files that it belongs to.
 *
 * @module
 */

import { FuzzMemory, GUARD } from "../memory/fuzz_memory.ts";
import { Finding } from "../engine/target.ts";
import type { PageHost } from "../../../backends/balloon/page_host.ts";
import { Errno } from "../../../sys/errno.ts";
import type { PageRegion } from "./model.ts";

/** Regions of memory: address and length. */
export const REGIONS = [
  [0x10_0000, 0x4000],
  [0x10_4000, 0x1000],
  [0x20_0000, 0x3000],
  [0x40_0000, 0x1_0000],
  [0x41_0000, 0x8000],
  [0x80_1000, 0x1_6000],
  [0xa0_0000, 0x2000],
  [2 ** 52, 0x1000],
] as const;
/** The region of the rings; files have those that follow. */
export const RINGS = 2;
/** No memory is here. */
export const HOLE = 0x18_0000;

/** Descriptor, offset in the file, page size; 0: it has no pages. */
const FILES: Readonly<Record<number, readonly [number, number, number]>> = {
  3: [3, 0x2000, 4096],
  4: [4, 0, 4096],
  // Huge pages begin a page later in the guest than the region.
  5: [5, 0x3000, 0x4000],
  6: [6, 0, 0],
};

/** The regions that page numbers reach. */
export const PAGES: readonly PageRegion[] = [3, 4, 5, 6, 0, 1, 2].map((i) => {
  const [address, size] = REGIONS[i];
  const [, offset, unit] = FILES[i] ?? [-1, 0, 0];
  return { address, size, offset, unit };
});

/** The files: what is given back becomes zero. */
export class PageFiles implements PageHost {
  /** Nothing can be given back. */
  failing = false;
  readonly #regions = new Map<number, [Uint8Array<ArrayBuffer>, number]>();

  /** A file is in a region. */
  set(fd: number, bytes: Uint8Array<ArrayBuffer>, offset: number): void {
    this.#regions.set(fd, [bytes, offset]);
  }

  punchHole(fd: number, offset: number, length: number): number {
    if (this.failing) return -Errno.ENOSPC;
    const [bytes, base] = this.#regions.get(fd) ?? [new Uint8Array(0), 0];
    const from = offset - base;
    if (length <= 0 || from < 0 || from + length > bytes.length) {
      throw new Finding(
        `${length} bytes at ${offset} of file ${fd} are given back`,
      );
    }
    bytes.fill(0, from, from + length);
    return 0;
  }

  objection(fd: number): string | null {
    return fd === 6 ? "it belongs to a character device" : null;
  }
}

/** Makes memory and its files. */
export function makeMemory(files: PageFiles): FuzzMemory {
  return new FuzzMemory(
    REGIONS.map(([guestAddress, size], i) => {
      const guarded = new Uint8Array(size + 2 * GUARD);
      const region = { guestAddress, size, guarded, hostAddress: 0 };
      const file = FILES[i];
      if (file === undefined) return region;
      const [fd, offset, unit] = file;
      files.set(fd, guarded.subarray(GUARD, GUARD + size), offset);
      return { ...region, backing: { fd, offset, pageSize: unit || 4096 } };
    }),
  );
}
