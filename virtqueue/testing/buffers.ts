/**
 * What the drivers for tests have in common: buffers in fake guest memory, and the
 * face that tests of devices use, whatever the layout of the ring is.
 *
 * @module
 */

import type { FakeMemory } from "./memory.ts";

const TWO_32 = 4294967296;

/**
 * One buffer of a chain: bytes for the device to read, a number of bytes for
 * it to write, or a range of guest memory that the test manages itself.
 */
export type FakeBuffer =
  | { readonly readable: Uint8Array }
  | { readonly writable: number }
  | {
    readonly address: number;
    readonly length: number;
    readonly write: boolean;
  };

/** How to make a chain available. */
export interface SubmitOptions {
  /** Use an indirect table (default: direct descriptors). */
  readonly indirect?: boolean;
  /** Guest address of the indirect table (default: allocated). */
  readonly tableAddress?: number;
  /** First descriptors to use (default: any free ones); they must be free. */
  readonly descriptors?: readonly number[];
  /** False leaves the available index alone until {@linkcode FakeDriver.flush}. */
  readonly flush?: boolean;
}

/** A chain that the device gave back. */
export interface Completion {
  /** What {@linkcode FakeDriver.submit} returned. */
  readonly token: number;
  /** The used element's id. */
  readonly id: number;
  /** The used element's length. */
  readonly length: number;
  /** All device-writable bytes of the chain, in order. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/** A descriptor as {@linkcode writeDescriptor} writes it. */
export interface RawDescriptor {
  /** Guest address: a Number, or 64 bits as a BigInt. */
  readonly address: number | bigint;
  /** Length in bytes. */
  readonly length: number;
  /** `VIRTQ_DESC_F_*`. */
  readonly flags?: number;
  /** Index of the next descriptor. */
  readonly next?: number;
}

/** A driver of one ring, split or packed, that keeps the rules. */
export interface RingDriver {
  /** The memory that everything lies in. */
  readonly memory: FakeMemory;
  /** Whether the ring is a packed one. */
  readonly packed: boolean;
  /** Number of entries. */
  readonly size: number;
  /** Whether VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** Whether VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  /** Guest address of the descriptor table or ring. */
  readonly descriptorTable: number;
  /** Guest address of the available ring or the driver event structure. */
  readonly availableRing: number;
  /** Guest address of the used ring or the device event structure. */
  readonly usedRing: number;
  /** Position at which a device begins. */
  readonly start: number;
  /** Chains that were ever submitted. */
  readonly submitted: number;
  /** Chains that were submitted and not reaped. */
  readonly inFlight: number;
  /** Descriptors that are free. */
  readonly freeDescriptors: number;
  /** True when there is something to reap. */
  readonly usedPending: boolean;
  /**
   * Makes a chain available.
   *
   * @returns a token that comes back with the completion, or -1 when there are
   * not enough free descriptors.
   */
  submit(buffers: readonly FakeBuffer[], options?: SubmitOptions): number;
  /** Shows the device what was submitted with `flush: false`. */
  flush(): void;
  /** Whether the device wants to know of what was submitted since the last call. */
  kickNeeded(): boolean;
  /**
   * Takes what the device used, and frees it.
   *
   * @throws {Error} when the device broke a rule.
   */
  reap(limit?: number): Completion[];
  /** Asks for a notification; true when something was used meanwhile. */
  enableInterrupt(): boolean;
  /** Asks for no notifications. */
  disableInterrupt(): void;
  /** Forgets and frees everything: a driver's reset. */
  reset(start?: number): void;
}

/** A buffer in guest memory. */
export interface Range {
  /** Guest address. */
  readonly address: number;
  /** Length in bytes. */
  readonly length: number;
  /** Whether the device writes it. */
  readonly write: boolean;
  /** Whether it is freed when the chain comes back. */
  readonly owned: boolean;
}

/** Puts a buffer into guest memory. */
export function placeBuffer(memory: FakeMemory, buffer: FakeBuffer): Range {
  if ("address" in buffer) return { ...buffer, owned: false };
  if ("readable" in buffer) {
    const length = buffer.readable.length;
    const address = memory.allocate(length);
    memory.write(address, buffer.readable);
    return { address, length, write: false, owned: true };
  }
  const length = buffer.writable;
  const address = memory.allocate(length);
  return { address, length, write: true, owned: true };
}

/**
 * Collects what the device wrote.
 *
 * @param copy false: nothing, but the length is checked
 * @throws {Error} when it says that it wrote more than there is room for
 */
export function collectWritten(
  memory: FakeMemory,
  ranges: readonly Range[],
  id: number,
  length: number,
  copy: boolean,
): Uint8Array<ArrayBuffer> {
  const writable = ranges.filter((range) => range.write);
  const total = writable.reduce((sum, range) => sum + range.length, 0);
  if (length > total) {
    throw new Error(
      `The device wrote ${length} bytes to id ${id}, which has ${total}`,
    );
  }
  const data = new Uint8Array(copy ? total : 0);
  if (copy) {
    let at = 0;
    for (const range of writable) {
      data.set(memory.read(range.address, range.length), at);
      at += range.length;
    }
  }
  return data;
}

/** Frees buffers that were allocated for a chain. */
export function freeRanges(
  memory: FakeMemory,
  ranges: readonly Range[],
): void {
  for (const range of ranges) {
    if (range.owned) memory.free(range.address, range.length);
  }
}

/**
 * Writes a descriptor anywhere in guest memory.
 *
 * @param last16 the last two fields, in the order of the layout
 */
export function writeDescriptor(
  memory: FakeMemory,
  at: number,
  { address, length }: Pick<RawDescriptor, "address" | "length">,
  last16: readonly [number, number],
): void {
  const wide = BigInt(address);
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Number(wide % BigInt(TWO_32)), true);
  view.setUint32(4, Number(wide / BigInt(TWO_32)), true);
  view.setUint32(8, length, true);
  view.setUint16(12, last16[0], true);
  view.setUint16(14, last16[1], true);
  memory.write(at, bytes);
}
