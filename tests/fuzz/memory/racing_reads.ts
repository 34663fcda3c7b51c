/**
 * A second processor of the guest, deterministic: something is done between two
 * reads of the device.
 *
 * Theory of operation: devices read shared memory through `DataView` and
 * `Atomics.load`. Here these are replaced, for this process, by functions that
 * note where they read and call the ones that were there. A watch begins before
 * the device is called and ends when it returns. Before the read that the input
 * names, a word is changed that was read shortly before, or is about to be. A
 * device that reads a word once sees the old value or the new one; one that
 * checks the first and uses the second is caught.
 *
 * The number of reads also bounds the work of one call: a device that goes
 * round in circles is stopped by an exception.
 *
 * @module
 */

import { Finding } from "../engine/target.ts";

/** Where in this process something was read. */
export interface ReadPlace {
  readonly buffer: ArrayBufferLike;
  /** Offset of the first byte in the buffer. */
  readonly byteOffset: number;
}

/** How a call of the device is watched. */
export interface WatchOptions {
  /** Most reads. */
  readonly limit: number;
  /** Number of the read before which `change` is called; -1 for none. */
  readonly moment?: number;
  /** Reads to go back for the place; 0 is the read that comes. */
  readonly back?: number;
  /** What the other processor does, at the place of that read. */
  readonly change?: (place: ReadPlace) => void;
}

/** Reads that are remembered. */
const MEMORY = 4096;

const buffers: ArrayBufferLike[] = [];
const offsets = new Float64Array(MEMORY);
const sizes = new Uint8Array(MEMORY);
const idle: WatchOptions = { limit: Infinity };
let watch = idle;
let watching = false;
let installed = false;
/** Reads of the watch under way, or of the last one. */
let reads = 0;

function tick(view: ArrayBufferView, at: number, size: number): void {
  if (!watching) return;
  if (reads < MEMORY) {
    buffers[reads] = view.buffer;
    offsets[reads] = view.byteOffset + at;
    sizes[reads] = size;
    if (reads === watch.moment) {
      const which = Math.max(0, reads - (watch.back ?? 0));
      const buffer = buffers[which], byteOffset = offsets[which];
      watch.change?.({ buffer, byteOffset });
    }
  }
  reads++;
  if (reads > watch.limit) {
    watching = false;
    const { limit } = watch;
    throw new Finding(`The device read more than ${limit} times in one call`);
  }
}

const READERS = [
  ["getUint8", 1],
  ["getUint16", 2],
  ["getUint32", 4],
] as const;

/** Replaces the functions that read; once. */
export function installRacingReads(): void {
  if (installed) return;
  installed = true;
  const view = DataView.prototype;
  for (const [name, size] of READERS) {
    const original = view[name];
    Object.defineProperty(view, name, {
      configurable: true,
      writable: true,
      value: function (this: DataView, at: number, little: boolean): number {
        tick(this, at, size);
        return original.call(this, at, little);
      },
    });
  }
  const load = Atomics.load;
  Object.defineProperty(Atomics, "load", {
    configurable: true,
    writable: true,
    value: function (array: Uint16Array, at: number): number {
      tick(array, at * array.BYTES_PER_ELEMENT, array.BYTES_PER_ELEMENT);
      return load(array, at);
    },
  });
}

/** Calls the device and watches its reads. */
export function watchReads<T>(options: WatchOptions, device: () => T): T {
  reads = 0;
  watch = options;
  watching = true;
  try {
    return device();
  } finally {
    watching = false;
    watch = idle;
  }
}

/** Reads of a word of 4 bytes that the last watch saw before a moment. */
export function readsOf(word: ReadPlace, moment: number): number {
  let count = 0;
  for (let i = 0; i < Math.min(moment, reads, MEMORY); i++) {
    const offset = offsets[i] - word.byteOffset;
    if (buffers[i] === word.buffer && offset > -sizes[i] && offset < 4) count++;
  }
  return count;
}
