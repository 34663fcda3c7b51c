/**
 * Guest memory by guest physical address: THE bounds gate. Nothing else in the
 * project turns an address that came from a guest into a place in a buffer.
 *
 * Theory of operation. Memory is a set of regions that do not overlap. A region
 * has a slot (its id) which it keeps as long as it exists, so an id can be kept
 * beside an offset while requests are in flight; freed ids are used again. A
 * second table holds the ids in the order of their addresses, for the binary
 * search. Most accesses hit the region of the one before, which is tried first.
 *
 * Addresses are Numbers. Every region ends at or below 2^53, and an address
 * from the guest, whatever its 64 bits were, is only ever compared with that:
 * one that is too large to be exact is too large to lie in a region.
 *
 * @module
 */

/** Why {@linkcode GuestMemory} refused a change. */
export type MemoryErrorKind =
  | "invalid-range"
  | "overlap"
  | "too-many-regions"
  | "unknown-region";

/** A change of the set of regions that was refused. */
export class MemoryError extends Error {
  /** Stable reason. */
  readonly kind: MemoryErrorKind;

  /** Makes an error of a kind. */
  constructor(kind: MemoryErrorKind, message: string) {
    super(message);
    this.name = "MemoryError";
    this.kind = kind;
  }
}

/**
 * The shared memory that a region is a window on. A device that gives pages
 * back to the host does so there: the range of a region from `offset` on is the
 * range of the file from {@linkcode RegionBacking.offset}` + offset` on.
 */
export interface RegionBacking {
  /** Descriptor of the file or memfd, open as long as the region exists. */
  readonly fd: number;
  /** Offset of the region's first byte in the file. */
  readonly offset: number;
  /** Page size of the file in bytes: that of huge pages where it has such. */
  readonly pageSize: number;
}

/** A region to add to {@linkcode GuestMemory}. */
export interface MemoryRegion {
  /** Guest physical address of the first byte. */
  readonly guestAddress: number;
  /** Length in bytes. */
  readonly size: number;
  /** What holds the bytes. */
  readonly buffer: ArrayBuffer;
  /** Offset of the first byte in `buffer` (default 0). */
  readonly byteOffset?: number;
  /**
   * Address of the first byte in this process, for system calls. The default 0
   * makes {@linkcode GuestMemory.hostAddress} an offset: of no use to a kernel.
   */
  readonly hostAddress?: number;
  /** What the bytes belong to; absent: they are nobody else's. */
  readonly backing?: RegionBacking;
}

/** Where a region lies. */
export interface RegionInfo {
  /** Guest physical address of the first byte. */
  readonly guestAddress: number;
  /** Length in bytes. */
  readonly size: number;
  /** Address of the first byte in this process. */
  readonly hostAddress: number;
}

/** Distance of two windows of a region in bytes; see {@linkcode GuestMemory.window}. */
export const WINDOW_STEP = 2 ** 30;
/** Bytes that a window goes on behind the start of the next one. */
const WINDOW_OVERLAP = 2 ** 20;

const EMPTY = new DataView(new ArrayBuffer(0));
const EMPTY_BYTES = new Uint8Array(0);

/**
 * The memory of a guest.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { GuestMemory } from "./memory.ts";
 *
 * const memory = new GuestMemory();
 * memory.add({ guestAddress: 0x1000, size: 64, buffer: new ArrayBuffer(64) });
 * assertEquals(memory.find(0x1000, 64), 0);
 * assertEquals(memory.find(0x1000, 65), -1);
 * ```
 */
export class GuestMemory {
  readonly #bases: Float64Array<ArrayBuffer>;
  readonly #sizes: Float64Array<ArrayBuffer>;
  readonly #hosts: Float64Array<ArrayBuffer>;
  readonly #order: Int32Array<ArrayBuffer>;
  readonly #probe = new Float64Array(1);
  readonly #views: DataView<ArrayBuffer>[];
  readonly #bytes: Uint8Array<ArrayBuffer>[];
  readonly #windows: DataView<ArrayBuffer>[][];
  /** The first window of each region: most need no other. */
  readonly #firstWindows: DataView<ArrayBuffer>[];
  readonly #backings: (RegionBacking | null)[];
  readonly #used: boolean[];
  #count = 0;
  #last = 0;
  #generation = 0;

  /**
   * Makes an empty memory.
   *
   * @param maxRegions most regions at a time
   */
  constructor(maxRegions = 512) {
    this.#bases = new Float64Array(maxRegions);
    this.#sizes = new Float64Array(maxRegions);
    this.#hosts = new Float64Array(maxRegions);
    this.#order = new Int32Array(maxRegions);
    this.#views = new Array<DataView<ArrayBuffer>>(maxRegions).fill(EMPTY);
    this.#bytes = new Array<Uint8Array<ArrayBuffer>>(maxRegions).fill(
      EMPTY_BYTES,
    );
    this.#windows = new Array<DataView<ArrayBuffer>[]>(maxRegions).fill([]);
    this.#firstWindows = this.#views.slice();
    this.#backings = new Array<RegionBacking | null>(maxRegions).fill(null);
    this.#used = new Array<boolean>(maxRegions).fill(false);
  }

  /**
   * Number of changes so far. What a device keeps about regions, by their ids,
   * is out of date when this is another number.
   */
  get generation(): number {
    return this.#generation;
  }

  /** The regions, by ascending guest address. */
  get regions(): RegionInfo[] {
    return Array.from(this.#order.subarray(0, this.#count), (id) => ({
      guestAddress: this.#bases[id],
      size: this.#sizes[id],
      hostAddress: this.#hosts[id],
    }));
  }

  /**
   * Adds a region.
   *
   * @returns its id, which stays the same until it is removed.
   * @throws {MemoryError} of kind `invalid-range`, `overlap`, `too-many-regions`
   */
  add(region: MemoryRegion): number {
    const { guestAddress, size, buffer } = region;
    const byteOffset = region.byteOffset ?? 0;
    const hostAddress = region.hostAddress ?? 0;
    checkRange(guestAddress, size, "guest address");
    checkRange(hostAddress, size, "host address");
    if (
      !Number.isSafeInteger(byteOffset) || byteOffset < 0 ||
      byteOffset + size > buffer.byteLength
    ) {
      throw new MemoryError(
        "invalid-range",
        `Cannot add memory at ${hex(guestAddress)}: ${size} bytes at offset ` +
          `${byteOffset} exceed a buffer of ${buffer.byteLength} bytes`,
      );
    }
    const at = this.#firstEndingAfter(guestAddress);
    if (
      at < this.#count &&
      this.#bases[this.#order[at]] < guestAddress + size
    ) {
      const other = this.#order[at];
      throw new MemoryError(
        "overlap",
        `Cannot add memory at ${hex(guestAddress)} of ${size} bytes: ` +
          `overlaps the region at ${hex(this.#bases[other])} of ` +
          `${this.#sizes[other]} bytes`,
      );
    }
    const id = this.#used.indexOf(false);
    if (id < 0) {
      throw new MemoryError(
        "too-many-regions",
        `Cannot add memory at ${hex(guestAddress)}: all ` +
          `${this.#used.length} region slots are taken`,
      );
    }
    this.#bases[id] = guestAddress;
    this.#sizes[id] = size;
    this.#hosts[id] = hostAddress;
    this.#views[id] = new DataView(buffer, byteOffset, size);
    this.#bytes[id] = new Uint8Array(buffer, byteOffset, size);
    this.#windows[id] = makeWindows(buffer, byteOffset, size);
    this.#firstWindows[id] = this.#windows[id][0];
    this.#backings[id] = region.backing ?? null;
    this.#used[id] = true;
    this.#generation++;
    this.#order.copyWithin(at + 1, at, this.#count);
    this.#order[at] = id;
    this.#count++;
    return id;
  }

  /**
   * Removes the region with exactly this address and size. Views handed out
   * before must not be used any more.
   *
   * @returns the buffer it was added with, to be detached or kept.
   * @throws {MemoryError} of kind `unknown-region`
   */
  remove(guestAddress: number, size: number): ArrayBuffer {
    const at = this.#firstEndingAfter(guestAddress);
    const id = at < this.#count ? this.#order[at] : -1;
    if (
      id < 0 || this.#bases[id] !== guestAddress || this.#sizes[id] !== size
    ) {
      throw new MemoryError(
        "unknown-region",
        `Cannot remove memory at ${hex(guestAddress)} of ${size} bytes: ` +
          `there is no such region`,
      );
    }
    const buffer = this.#views[id].buffer;
    this.#order.copyWithin(at, at + 1, this.#count);
    this.#count--;
    this.#bases[id] = 0;
    this.#sizes[id] = 0;
    this.#hosts[id] = 0;
    this.#views[id] = EMPTY;
    this.#bytes[id] = EMPTY_BYTES;
    this.#windows[id] = [];
    this.#firstWindows[id] = EMPTY;
    this.#backings[id] = null;
    this.#used[id] = false;
    this.#generation++;
    return buffer;
  }

  /**
   * Finds the region that holds a whole range.
   *
   * @param length in bytes, at least 1 (an empty range lies nowhere)
   * @returns the region's id, or -1 when no single region holds the range.
   */
  find(address: number, length: number): number {
    const last = this.#last;
    const offset = address - this.#bases[last];
    if (offset >= 0 && length > 0 && offset + length <= this.#sizes[last]) {
      return last;
    }
    this.#probe[0] = address;
    return this.#search(length);
  }

  /** All bytes of a region, by offset. */
  view(id: number): DataView<ArrayBuffer> {
    return this.#views[id];
  }

  /** All bytes of a region, by offset. */
  bytes(id: number): Uint8Array<ArrayBuffer> {
    return this.#bytes[id];
  }

  /**
   * A view of the bytes around an offset of a region, in which all offsets are
   * small integers: it starts at `offset` rounded down to a multiple of
   * {@linkcode WINDOW_STEP} and reaches at least 1 MiB beyond `offset` or to
   * the end of the region. Reading a table through it is faster than through
   * {@linkcode view}, where offsets can be too large for 32-bit arithmetic.
   */
  window(id: number, offset: number): DataView<ArrayBuffer> {
    return offset < WINDOW_STEP
      ? this.#firstWindows[id]
      : this.#windows[id][(offset / WINDOW_STEP) | 0];
  }

  /** Guest physical address of the first byte of a region. */
  regionAddress(id: number): number {
    return this.#bases[id];
  }

  /** Length of a region in bytes (0 when the id is not in use). */
  regionSize(id: number): number {
    return this.#sizes[id];
  }

  /** Address of the first byte of a region in this process. */
  hostBase(id: number): number {
    return this.#hosts[id];
  }

  /** What a region belongs to, or `null` where nothing is known of it. */
  backing(id: number): RegionBacking | null {
    return this.#backings[id];
  }

  /**
   * Address in this process of a range.
   *
   * @returns the address of the first byte, or -1 when no single region holds
   * the range.
   */
  hostAddress(address: number, length: number): number {
    const id = this.find(address, length);
    return id < 0 ? -1 : this.#hosts[id] + (address - this.#bases[id]);
  }

  /**
   * Copies guest memory into a buffer; the range may span adjacent regions.
   *
   * @returns false, with nothing copied, when a byte lies outside of memory.
   */
  read(address: number, into: Uint8Array): boolean {
    if (!this.#covers(address, into.length)) return false;
    for (let done = 0; done < into.length;) {
      const id = this.find(address + done, 1);
      const from = address + done - this.#bases[id];
      const end = Math.min(this.#sizes[id], from + into.length - done);
      into.set(this.#bytes[id].subarray(from, end), done);
      done += end - from;
    }
    return true;
  }

  /**
   * Copies a buffer into guest memory; the range may span adjacent regions.
   *
   * @returns false, with nothing copied, when a byte lies outside of memory.
   */
  write(address: number, from: Uint8Array): boolean {
    if (!this.#covers(address, from.length)) return false;
    for (let done = 0; done < from.length;) {
      const id = this.find(address + done, 1);
      const at = address + done - this.#bases[id];
      const take = Math.min(this.#sizes[id] - at, from.length - done);
      this.#bytes[id].set(from.subarray(done, done + take), at);
      done += take;
    }
    return true;
  }

  /** The part of {@linkcode find} that is not inlined: no float crosses the call. */
  #search(length: number): number {
    const address = this.#probe[0];
    const at = this.#firstEndingAfter(address);
    if (at >= this.#count) return -1;
    const id = this.#order[at];
    const offset = address - this.#bases[id];
    if (offset >= 0 && length > 0 && offset + length <= this.#sizes[id]) {
      this.#last = id;
      return id;
    }
    return -1;
  }

  /** Place in the order of the first region whose end is beyond an address. */
  #firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const id = this.#order[middle];
      if (this.#bases[id] + this.#sizes[id] > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #covers(address: number, length: number): boolean {
    if (length === 0) return this.find(address, 1) >= 0;
    for (let done = 0; done < length;) {
      const id = this.find(address + done, 1);
      if (id < 0) return false;
      done += this.#bases[id] + this.#sizes[id] - (address + done);
    }
    return true;
  }
}

function makeWindows(
  buffer: ArrayBuffer,
  byteOffset: number,
  size: number,
): DataView<ArrayBuffer>[] {
  const windows: DataView<ArrayBuffer>[] = [];
  for (let at = 0; at < size; at += WINDOW_STEP) {
    const length = Math.min(size - at, WINDOW_STEP + WINDOW_OVERLAP);
    windows.push(new DataView(buffer, byteOffset + at, length));
  }
  return windows;
}

function checkRange(address: number, size: number, what: string): void {
  if (
    !Number.isSafeInteger(address) || address < 0 ||
    !Number.isSafeInteger(size) || size < 1 ||
    address > Number.MAX_SAFE_INTEGER - size
  ) {
    throw new MemoryError(
      "invalid-range",
      `Cannot add memory: ${what} ${hex(address)} with ${size} bytes ` +
        `does not lie between 0 and 2^53`,
    );
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
