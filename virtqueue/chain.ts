/**
 * One chain of descriptors, as a device works on it.
 *
 * Theory of operation. When a queue takes a chain it reads every descriptor
 * once, checks it, and notes what it found as segments: a region of guest
 * memory, an offset in it, a length. From then on the device reads those notes
 * and never the descriptors, so the driver can change its mind as it likes.
 * The notes live in typed arrays of fixed length that are filled again for
 * each chain: nothing is allocated for a request.
 *
 * A chain has two parts, each a run of bytes counted from 0: first the
 * device-readable one, then the device-writable one. Where one buffer ends and
 * the next begins is the driver's affair (virtio 1.4, section 2.7.4), so all
 * access is by position in a part. A buffer that crosses from one region into
 * the next is two segments, an empty one is none.
 *
 * A chain of more descriptors than the device works on is walked to its end all
 * the same. Then {@linkcode DescriptorChain.truncated} is set, the lengths are
 * right, and the last segment is right, so that a status byte at the end can
 * still be written; segments between may be missing, and access to the bytes
 * they stood for fails.
 *
 * @module
 */

import { type GuestMemory, WINDOW_STEP } from "./memory.ts";
import type { VirtQueue } from "./queue.ts";

/** Segments beyond {@linkcode ChainPool}'s `maxSegments` that fit, for buffers that cross regions. */
const SPARE_SEGMENTS = 4;
/** Copies longer than this go through a temporary view, shorter ones byte by byte. */
const SMALL_COPY = 64;
const TWO_32 = 4294967296;
// Of this module's own, and so a constant in compiled code.
const WINDOW_MASK = WINDOW_STEP - 1;

// What #locate found, beside the segment: the offset in its region, and the
// bytes from there to the end of the segment.
const found = new Float64Array(1);
const room = new Uint32Array(1);

/** A {@linkcode DescriptorChain} with its fields open, for the queue that fills it. */
export type OpenChain = {
  -readonly [Key in keyof DescriptorChain]: DescriptorChain[Key];
};

/** A chain of descriptors that a queue took. */
export class DescriptorChain {
  /** Number of this object among all chain objects of the device. */
  readonly slot: number;
  /** The queue that the chain was taken from. */
  readonly queue: VirtQueue;
  /** Index of the first descriptor in the descriptor table. */
  readonly head: number = 0;
  /** Position in the available ring that the chain was taken from. */
  readonly position: number = 0;
  /** True between the taking and the completion of a chain. */
  readonly taken: boolean = false;
  /**
   * True when a predecessor of this process took the chain and died before it
   * was answered: what it asks for may have been done, in part or wholly.
   */
  readonly resubmitted: boolean = false;
  /** Number of segments, device-readable ones first. */
  readonly count: number = 0;
  /** Number of device-readable segments. */
  readonly readableCount: number = 0;
  /** True when the chain has more descriptors than the device works on. */
  readonly truncated: boolean = false;
  /** Most segments that can be noted, the last one included. */
  readonly capacity: number;
  /** Region of each segment (filled by the queue). */
  readonly regions: Uint16Array<ArrayBuffer>;
  /** Offset in its region of each segment (filled by the queue). */
  readonly offsets: Float64Array<ArrayBuffer>;
  /** Length in bytes of each segment (filled by the queue). */
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** Length of the readable and of the writable part (filled by the queue). */
  readonly totals: Uint32Array<ArrayBuffer>;
  /** What its segments lie in. */
  readonly memory: GuestMemory;

  /** Makes an empty chain object; queues do. */
  constructor(
    queue: VirtQueue,
    memory: GuestMemory,
    slot: number,
    maxSegments: number,
  ) {
    this.queue = queue;
    this.memory = memory;
    this.slot = slot;
    this.capacity = maxSegments + SPARE_SEGMENTS;
    this.regions = new Uint16Array(this.capacity);
    this.offsets = new Float64Array(this.capacity);
    this.lengths = new Uint32Array(this.capacity);
    this.totals = new Uint32Array(2);
  }

  /** Length of the device-readable part in bytes. */
  get readableLength(): number {
    return this.totals[0];
  }

  /** Length of the device-writable part in bytes. */
  get writableLength(): number {
    return this.totals[1];
  }

  /**
   * Guest physical address of a segment.
   *
   * @throws {RangeError} when there is no segment `i`.
   */
  address(i: number): number {
    this.#checkSegment(i);
    return this.memory.regionAddress(this.regions[i]) + this.offsets[i];
  }

  /**
   * Length of a segment in bytes.
   *
   * @throws {RangeError} when there is no segment `i`.
   */
  length(i: number): number {
    this.#checkSegment(i);
    return this.lengths[i];
  }

  /**
   * Address of a segment in this process.
   *
   * @throws {RangeError} when there is no segment `i`.
   */
  hostAddress(i: number): number {
    this.#checkSegment(i);
    return this.memory.hostBase(this.regions[i]) + this.offsets[i];
  }

  /**
   * A new view of a segment's bytes; for rare use, since it allocates. It must
   * not be kept after the chain was completed.
   *
   * @throws {RangeError} when there is no segment `i`.
   */
  bytes(i: number): Uint8Array<ArrayBuffer> {
    this.#checkSegment(i);
    const offset = this.offsets[i];
    return this.memory.bytes(this.regions[i])
      .subarray(offset, offset + this.lengths[i]);
  }

  /**
   * Reads one byte of the readable part.
   *
   * @returns the value, or -1 when the position lies outside of the part.
   */
  readUint8(position: number): number {
    if (this.#inFirst(position, 1)) {
      return this.memory.view(this.regions[0])
        .getUint8(this.offsets[0] + position);
    }
    const segment = this.#locate(position, 1, false);
    if (segment < 0) return -1;
    return this.memory.view(this.regions[segment]).getUint8(found[0]);
  }

  /**
   * Reads a little-endian 16-bit value of the readable part; it may straddle
   * segments.
   *
   * @returns the value, or -1 when a byte lies outside of the part.
   */
  readUint16(position: number): number {
    if (this.#inFirst(position, 2)) {
      return this.memory.view(this.regions[0])
        .getUint16(this.offsets[0] + position, true);
    }
    const segment = this.#locate(position, 2, false);
    if (segment < 0) return this.#readSlowly(position, 2);
    return this.memory.view(this.regions[segment]).getUint16(found[0], true);
  }

  /**
   * Reads a little-endian 32-bit value of the readable part; it may straddle
   * segments.
   *
   * @returns the value, or -1 when a byte lies outside of the part.
   */
  readUint32(position: number): number {
    if (this.#inFirst(position, 4)) {
      return this.memory.view(this.regions[0])
        .getUint32(this.offsets[0] + position, true);
    }
    const segment = this.#locate(position, 4, false);
    if (segment < 0) return this.#readSlowly(position, 4);
    return this.memory.view(this.regions[segment]).getUint32(found[0], true);
  }

  /**
   * Writes one byte of the writable part.
   *
   * @returns false when the position lies outside of the part.
   */
  writeUint8(position: number, value: number): boolean {
    const last = this.count - 1;
    if (last >= this.readableCount) {
      const size = this.lengths[last];
      const into = position - (this.totals[1] - size);
      if (into >= 0 && into < size) {
        this.memory.view(this.regions[last])
          .setUint8(this.offsets[last] + into, value);
        return true;
      }
    }
    const segment = this.#locate(position, 1, true);
    if (segment < 0) return false;
    this.memory.view(this.regions[segment]).setUint8(found[0], value);
    return true;
  }

  /**
   * Writes a little-endian 16-bit value of the writable part; it may straddle
   * segments.
   *
   * @returns false, with nothing written, when a byte lies outside of the part.
   */
  writeUint16(position: number, value: number): boolean {
    const segment = this.#locate(position, 2, true);
    if (segment < 0) return this.#writeSlowly(position, 2, value);
    this.memory.view(this.regions[segment])
      .setUint16(found[0], value, true);
    return true;
  }

  /**
   * Writes a little-endian 32-bit value of the writable part; it may straddle
   * segments.
   *
   * @returns false, with nothing written, when a byte lies outside of the part.
   */
  writeUint32(position: number, value: number): boolean {
    const segment = this.#locate(position, 4, true);
    if (segment < 0) return this.#writeSlowly(position, 4, value);
    this.memory.view(this.regions[segment])
      .setUint32(found[0], value, true);
    return true;
  }

  /**
   * Reads little-endian 32-bit words of the readable part that lie in one
   * segment: a header, say, in one go.
   *
   * @param at first index of `into` that is filled
   * @returns false, with nothing read, when a byte lies outside of the part or
   * they straddle segments; {@linkcode read} can tell.
   */
  readWords(
    position: number,
    into: Uint32Array,
    at: number,
    count: number,
  ): boolean {
    let segment = 0;
    let offset = 0;
    if (this.#inFirst(position, 4 * count)) {
      offset = this.offsets[0] + position;
    } else {
      segment = this.#locate(position, 4 * count, false);
      if (segment < 0) return false;
      offset = found[0];
    }
    const window = this.memory.window(this.regions[segment], offset);
    const from = offset & WINDOW_MASK;
    for (let i = 0; i < count; i++) {
      into[at + i] = window.getUint32(from + 4 * i, true);
    }
    return true;
  }

  /**
   * Writes little-endian 32-bit words of the writable part that lie in one
   * segment.
   *
   * @param at first index of `from` that is written
   * @returns false, with nothing written, when a byte lies outside of the part
   * or they straddle segments; {@linkcode write} can do that.
   */
  writeWords(
    position: number,
    from: Uint32Array,
    at: number,
    count: number,
  ): boolean {
    const segment = this.#locate(position, 4 * count, true);
    if (segment < 0) return false;
    const offset = found[0];
    const window = this.memory.window(this.regions[segment], offset);
    const to = offset & WINDOW_MASK;
    for (let i = 0; i < count; i++) {
      window.setUint32(to + 4 * i, from[at + i], true);
    }
    return true;
  }

  /**
   * Copies out of the readable part, from a position on.
   *
   * @param start first index of `into` that is filled
   * @param length most bytes to copy
   * @returns number of bytes copied: less than asked for where the part ends.
   */
  read(
    position: number,
    into: Uint8Array,
    start: number = 0,
    length: number = into.length - start,
  ): number {
    let done = 0;
    while (done < length) {
      const segment = this.#locate(position + done, 1, false);
      if (segment < 0) break;
      const piece = Math.min(room[0], length - done);
      const at = found[0];
      const source = this.memory.bytes(this.regions[segment]);
      if (piece > SMALL_COPY) {
        into.set(source.subarray(at, at + piece), start + done);
      } else {
        for (let i = 0; i < piece; i++) into[start + done + i] = source[at + i];
      }
      done += piece;
    }
    return done;
  }

  /**
   * Copies into the writable part, from a position on.
   *
   * @param start first index of `from` that is copied
   * @param length most bytes to copy
   * @returns number of bytes copied: less than asked for where the part ends.
   */
  write(
    position: number,
    from: Uint8Array,
    start: number = 0,
    length: number = from.length - start,
  ): number {
    let done = 0;
    while (done < length) {
      const segment = this.#locate(position + done, 1, true);
      if (segment < 0) break;
      const piece = Math.min(room[0], length - done);
      const at = found[0];
      const target = this.memory.bytes(this.regions[segment]);
      const first = start + done;
      if (piece > SMALL_COPY) {
        target.set(from.subarray(first, first + piece), at);
      } else {
        for (let i = 0; i < piece; i++) target[at + i] = from[first + i];
      }
      done += piece;
    }
    return done;
  }

  /**
   * Sets bytes of the writable part to a value.
   *
   * @returns number of bytes set: less than `length` where the part ends.
   */
  fill(position: number, length: number, value: number): number {
    let done = 0;
    while (done < length) {
      const segment = this.#locate(position + done, 1, true);
      if (segment < 0) break;
      const piece = Math.min(room[0], length - done);
      const at = found[0];
      this.memory.bytes(this.regions[segment]).fill(value, at, at + piece);
      done += piece;
    }
    return done;
  }

  /**
   * Describes a range of a part as an array of `struct iovec`, each four 32-bit
   * words: address low, address high, length, 0.
   *
   * @param words where to write
   * @param at index of the first word
   * @param limit most iovecs to write
   * @param writable which part
   * @returns number of iovecs, or -1 when more than `limit` are needed or a
   * byte lies outside of the part.
   */
  iovec(
    words: Uint32Array,
    at: number,
    limit: number,
    writable: boolean,
    position: number,
    length: number,
  ): number {
    if (length === 0) return 0;
    let segment = this.#locate(position, 1, writable);
    if (segment < 0) return -1;
    const end = writable ? this.count : this.readableCount;
    let offset = found[0];
    let size = room[0];
    let left = length;
    for (let count = 1; count <= limit; count++) {
      const piece = size < left ? size : left;
      const host = this.memory.hostBase(this.regions[segment]) + offset;
      words[at] = host;
      words[at + 1] = host / TWO_32;
      words[at + 2] = piece;
      words[at + 3] = 0;
      left -= piece;
      if (left === 0) return count;
      at += 4;
      segment++;
      if (segment >= end) return -1;
      if (this.truncated && segment === this.count - 1) return -1;
      offset = this.offsets[segment];
      size = this.lengths[segment];
    }
    return -1;
  }

  /** True when the first segment holds a range of the readable part. */
  #inFirst(position: number, length: number): boolean {
    return this.readableCount > 0 && position >= 0 &&
      position + length <= this.lengths[0];
  }

  /**
   * Finds the segment that holds a range of a part; its place goes to `found`
   * and `room`. The last segment is counted from the end of the part: that is
   * where a status byte lies, and all that is known of a truncated chain's.
   */
  #locate(position: number, length: number, writable: boolean): number {
    const first = writable ? this.readableCount : 0;
    let end = writable ? this.count : this.readableCount;
    if (first === end || !(position >= 0)) return -1;
    if (!this.truncated || end === this.count) {
      end--;
      const size = this.lengths[end];
      const into = position - (this.totals[writable ? 1 : 0] - size);
      if (into >= 0) {
        if (into + length > size) return -1;
        found[0] = this.offsets[end] + into;
        room[0] = size - into;
        return end;
      }
    }
    let into = position;
    for (let i = first; i < end; i++) {
      const size = this.lengths[i];
      if (into < size) {
        if (into + length > size) return -1;
        found[0] = this.offsets[i] + into;
        room[0] = size - into;
        return i;
      }
      into -= size;
    }
    return -1;
  }

  /** Reads a value byte by byte, or says -1. */
  #readSlowly(position: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      const byte = this.readUint8(position + i);
      if (byte < 0) return -1;
      value = value * 256 + byte;
    }
    return value;
  }

  /** Writes a value byte by byte, when all of them can be written. */
  #writeSlowly(position: number, size: number, value: number): boolean {
    for (let i = 0; i < size; i++) {
      if (this.#locate(position + i, 1, true) < 0) return false;
    }
    for (let i = 0; i < size; i++) {
      this.writeUint8(position + i, value >>> (8 * i));
    }
    return true;
  }

  #checkSegment(i: number): void {
    if (!(i >= 0 && i < this.count)) {
      throw new RangeError(
        `Cannot access segment ${i}: the chain has ${this.count}`,
      );
    }
  }
}
