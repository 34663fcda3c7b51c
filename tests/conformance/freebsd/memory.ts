/**
 * Guest memory as a FreeBSD kernel hands it to a driver: physical pages,
 * `malloc(9)`, `contigmalloc(9)`, buffers that are contiguous for the kernel
 * but not for the device, and `sglist(9)`.
 *
 * @module
 */

import type { FakeMemory } from "../../../virtqueue/testing/driver.ts";
import { kassert, PAGE_SIZE } from "./kernel.ts";

/** A range of physical memory that the kernel manages, in whole pages. */
export interface PhysicalSegment {
  /** Physical address of the first byte. */
  readonly start: number;
  /** Length in bytes. */
  readonly size: number;
}

/** How the pages of a buffer lie in physical memory. */
export type PagePlacement =
  /** No page follows its predecessor: most segments that there can be. */
  | "scattered"
  /** Two and two: every second page is coalesced with the one before. */
  | "pairs"
  /** One run of pages. */
  | "contiguous";

/** Free pages, in order of their numbers. */
interface Run {
  page: number;
  pages: number;
}

/** Numbers of the first page and of the one after the last. */
interface Segment {
  readonly start: number;
  readonly end: number;
  readonly runs: Run[];
}

interface Slab {
  readonly size: number;
  readonly free: number[];
}

/** The physical memory of a machine. */
export class PhysicalMemory {
  /** The bytes by physical address. */
  readonly ram: FakeMemory;
  /** The free pages of each segment. */
  readonly #segments: Segment[] = [];
  readonly #slabs = new Map<number, Slab>();

  /**
   * @param ram the memory that the device shares
   * @param segments the parts of it that the kernel manages, the one that it
   * prefers first
   */
  constructor(ram: FakeMemory, segments: readonly PhysicalSegment[]) {
    this.ram = ram;
    for (const { start, size } of segments) {
      kassert(
        start % PAGE_SIZE === 0 && size % PAGE_SIZE === 0,
        "physical segment is not page aligned",
      );
      this.#segments.push({
        start: start / PAGE_SIZE,
        end: (start + size) / PAGE_SIZE,
        runs: [{ page: start / PAGE_SIZE, pages: size / PAGE_SIZE }],
      });
    }
  }

  /** Bytes that nobody has. */
  get free(): number {
    const runs = this.#segments.flatMap((segment) => segment.runs);
    return runs.reduce((sum, run) => sum + run.pages * PAGE_SIZE, 0);
  }

  /**
   * `contigmalloc(9)`: zeroed, page-aligned, physically contiguous.
   *
   * @param high highest physical address that is acceptable
   */
  contigmalloc(size: number, high: number = Infinity): number {
    const pages = Math.ceil(size / PAGE_SIZE);
    for (const { runs } of this.#segments) {
      const at = runs.findIndex((run) =>
        run.pages >= pages && (run.page + pages) * PAGE_SIZE - 1 <= high
      );
      if (at < 0) continue;
      const run = runs[at], address = run.page * PAGE_SIZE;
      run.page += pages;
      run.pages -= pages;
      if (run.pages === 0) runs.splice(at, 1);
      this.ram.bytes(address, pages * PAGE_SIZE).fill(0);
      return address;
    }
    throw new RangeError(`There is no run of ${pages} free pages`);
  }

  /** `contigfree(9)`. */
  contigfree(address: number, size: number): void {
    const page = address / PAGE_SIZE, pages = Math.ceil(size / PAGE_SIZE);
    const { runs } = this.#segments.find(({ start, end }) =>
      start <= page && page + pages <= end
    )!;
    let at = runs.findIndex((run) => run.page > page);
    if (at < 0) at = runs.length;
    const before = runs[at - 1], after = runs[at];
    if (before !== undefined && before.page + before.pages === page) {
      before.pages += pages;
      if (after !== undefined && after.page === page + pages) {
        before.pages += after.pages;
        runs.splice(at, 1);
      }
    } else if (after !== undefined && after.page === page + pages) {
      after.page = page;
      after.pages += pages;
    } else {
      runs.splice(at, 0, { page, pages });
    }
  }

  /**
   * `malloc(9)` of at most a page: from a bucket of the next power of two, so
   * that it never crosses a page.
   */
  malloc(size: number): number {
    const slab = this.#slab(size);
    if (slab.free.length === 0) {
      const page = this.contigmalloc(PAGE_SIZE);
      for (let at = PAGE_SIZE - slab.size; at >= 0; at -= slab.size) {
        slab.free.push(page + at);
      }
    }
    return slab.free.pop()!;
  }

  /** `free(9)` of what `malloc(size)` returned. */
  mfree(address: number, size: number): void {
    this.#slab(size).free.push(address);
  }

  /**
   * A buffer of the kernel.
   *
   * @param offset of the first byte in its first page: user memory that
   * `physio(9)` wires begins anywhere
   */
  buffer(
    length: number,
    placement: PagePlacement = "scattered",
    offset = 0,
  ): KernelBuffer {
    const count = Math.ceil((offset + length) / PAGE_SIZE);
    const pages: number[] = [];
    const taken: { address: number; size: number }[] = [];
    const take = (n: number): number => {
      const address = this.contigmalloc(n * PAGE_SIZE);
      taken.push({ address, size: n * PAGE_SIZE });
      return address;
    };
    if (placement === "contiguous") {
      const address = take(count);
      for (let i = 0; i < count; i++) pages.push(address + i * PAGE_SIZE);
    } else {
      const run = placement === "pairs" ? 2 : 1;
      while (pages.length < count) {
        // One page more, so that the next run does not follow this one.
        const address = take(run + 1);
        for (let i = 0; i < run && pages.length < count; i++) {
          pages.push(address + i * PAGE_SIZE);
        }
      }
    }
    return new KernelBuffer(this, pages, offset, length, taken);
  }

  #slab(size: number): Slab {
    kassert(size > 0 && size <= PAGE_SIZE, `malloc of ${size} bytes`);
    const bucket = Math.max(2 ** Math.ceil(Math.log2(size)), 16);
    let slab = this.#slabs.get(bucket);
    if (slab === undefined) {
      slab = { size: bucket, free: [] };
      this.#slabs.set(bucket, slab);
    }
    return slab;
  }
}

/** Byte around a buffer that no device may touch. */
const CANARY = 0xa5;

/** Memory that is contiguous for the kernel: some pages, from some offset on. */
export class KernelBuffer implements Disposable {
  /** Length in bytes. */
  readonly length: number;
  readonly #memory: PhysicalMemory;
  readonly #pages: readonly number[];
  readonly #offset: number;
  readonly #taken: readonly { address: number; size: number }[];

  /** Made by {@linkcode PhysicalMemory.buffer}. */
  constructor(
    memory: PhysicalMemory,
    pages: readonly number[],
    offset: number,
    length: number,
    taken: readonly { address: number; size: number }[],
  ) {
    this.#memory = memory;
    this.#pages = pages;
    this.#offset = offset;
    this.length = length;
    this.#taken = taken;
    for (const { address, size } of taken) {
      memory.ram.bytes(address, size).fill(CANARY);
    }
  }

  /** The physical ranges, one for each page, of `length` bytes from `from` on. */
  *ranges(
    from = 0,
    length: number = this.length - from,
  ): Generator<{ address: number; length: number }> {
    let at = this.#offset + from, left = length;
    while (left > 0) {
      const into = at % PAGE_SIZE;
      const piece = Math.min(PAGE_SIZE - into, left);
      yield {
        address: this.#pages[Math.floor(at / PAGE_SIZE)] + into,
        length: piece,
      };
      at += piece;
      left -= piece;
    }
  }

  /** Copies the bytes out. */
  read(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.length);
    let at = 0;
    for (const { address, length } of this.ranges()) {
      bytes.set(this.#memory.ram.bytes(address, length), at);
      at += length;
    }
    return bytes;
  }

  /** Copies bytes in, from the start on. */
  write(from: Uint8Array): void {
    let at = 0;
    for (const { address, length } of this.ranges(0, from.length)) {
      this.#memory.ram.bytes(address, length).set(
        from.subarray(at, at + length),
      );
      at += length;
    }
  }

  /** Fills all bytes with one value. */
  fill(value: number): void {
    for (const { address, length } of this.ranges()) {
      this.#memory.ram.bytes(address, length).fill(value);
    }
  }

  /**
   * Checks that the memory around the buffer is as it was.
   *
   * @throws {KernelPanic} when a byte changed: use after free, in a real kernel
   */
  checkSurroundings(): void {
    const own = new Set(this.#pages);
    const end = this.#offset + this.length;
    this.#pages.forEach((page, i) => {
      const low = i === 0 ? this.#offset : 0;
      const high = Math.min(end - i * PAGE_SIZE, PAGE_SIZE);
      this.#checkCanary(page, low);
      this.#checkCanary(page + high, PAGE_SIZE - high);
    });
    for (const { address, size } of this.#taken) {
      for (let page = address; page < address + size; page += PAGE_SIZE) {
        if (!own.has(page)) this.#checkCanary(page, PAGE_SIZE);
      }
    }
  }

  #checkCanary(address: number, length: number): void {
    const at = this.#memory.ram.bytes(address, length)
      .findIndex((byte) => byte !== CANARY);
    kassert(
      at < 0,
      `memory modified outside of a buffer at 0x${(address + at).toString(16)}`,
    );
  }

  /** Gives the pages back. */
  [Symbol.dispose](): void {
    for (const { address, size } of this.#taken) {
      this.#memory.contigfree(address, size);
    }
  }
}

/** A segment of a scatter/gather list. */
export interface SgSegment {
  /** Physical address. */
  readonly address: number;
  /** Length in bytes. */
  readonly length: number;
}

/**
 * `sglist(9)`: physical ranges in order, adjacent ones made one.
 *
 * Source: `sys/kern/subr_sglist.c`, `_sglist_append_range`.
 */
export class SgList {
  /** `sg_maxseg`: most segments that there may be. */
  readonly maxSegments: number;
  readonly #segments: { address: number; length: number }[] = [];

  /** @param maxSegments as for `sglist_alloc` */
  constructor(maxSegments: number) {
    this.maxSegments = maxSegments;
  }

  /** `sg_segs`. */
  get segments(): readonly SgSegment[] {
    return this.#segments;
  }

  /** `sg_nseg`. */
  get count(): number {
    return this.#segments.length;
  }

  /** `sglist_reset`. */
  reset(): void {
    this.#segments.length = 0;
  }

  /** `sglist_append`; false where it returns EFBIG. */
  append(address: number, length: number): boolean {
    const last = this.#segments.at(-1);
    if (last !== undefined && last.address + last.length === address) {
      last.length += length;
      return true;
    }
    if (this.#segments.length === this.maxSegments) return false;
    this.#segments.push({ address, length });
    return true;
  }
}
