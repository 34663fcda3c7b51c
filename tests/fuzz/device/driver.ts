/**
 * A driver of several rings, as the bytes of an input want it: good and bad
 * chains, and anything else that can be written to memory.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import {
  addressOf,
  lengthOf,
  type Places,
  putDescriptor,
} from "../ring/program.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import { type QueueWatch, WatchedQueue } from "./watched_queue.ts";

/** Entries of each ring. */
export const RING_SIZE = 16;
/** Bytes of the memory of a ring: all three parts, and indirect tables. */
export const RING_BYTES = 0x800;
const AVAILABLE = 0x100n, USED = 0x180n, TABLES = 0x280n;
const TABLE_COUNT = 4, TABLE_SIZE = 20;
/** Bytes of {@linkcode DeviceDriver.disturb}. */
export const DISTURB_BYTES = 11;

/** A part of a request, from its start to its end. */
export interface Part {
  /** What the device reads; for it to write: none. */
  readonly bytes?: Uint8Array;
  /** How long it is. */
  readonly length: number;
  /** Where it is cut into descriptors. */
  readonly cuts: readonly number[];
  /** Where its pieces are, see `addressOf`. */
  readonly kind: number;
  readonly at: number;
}

/** A descriptor to be. */
export interface Piece {
  readonly address: bigint;
  readonly length: number;
  readonly write: boolean;
}

/** What a device is given queues with. */
export interface QueueTraits {
  readonly maxSegments: number;
  readonly alwaysNotify?: boolean;
  readonly eventIdx: boolean;
}

/** The driver of a device. */
export class DeviceDriver {
  readonly queues: WatchedQueue[] = [];
  readonly #memory: FuzzMemory;
  readonly #shared: GuestMemory;
  readonly #places: Omit<Places, "parts">;
  readonly #base: bigint;
  readonly #heads: number[] = [];

  /** @param base address of the memory of the first ring */
  constructor(
    memory: FuzzMemory,
    shared: GuestMemory,
    places: Omit<Places, "parts">,
    base: number,
  ) {
    this.#memory = memory;
    this.#shared = shared;
    this.#places = places;
    this.#base = BigInt(base);
  }

  /**
   * Starts the next ring.
   *
   * @param index by which the device knows it
   */
  start(
    index: number,
    { maxSegments, alwaysNotify, eventIdx }: QueueTraits,
    watch: QueueWatch,
  ): WatchedQueue {
    const base = this.#baseOf(this.queues.length);
    const queue = new WatchedQueue({
      index,
      size: RING_SIZE,
      memory: this.#memory,
      shared: this.#shared,
      descriptorTable: base,
      availableRing: base + AVAILABLE,
      usedRing: base + USED,
      eventIdx,
      alwaysNotify,
      maxSegments,
      slotBase: index * RING_SIZE,
    }, watch);
    this.queues.push(queue);
    this.#heads.push(0);
    return queue;
  }

  /** An address, of a kind. */
  address(kind: number, at: number): bigint {
    const ring = this.#baseOf(at % Math.max(1, this.queues.length));
    const parts = [ring, ring + AVAILABLE, ring + USED];
    return addressOf({ ...this.#places, parts }, kind, at);
  }

  /** Cuts a part, gives each piece a place, and writes what it contains. */
  place(part: Part): Piece[] {
    const write = part.bytes === undefined;
    const cuts = [...new Set(part.cuts)]
      .filter((cut) => cut > 0 && cut < part.length)
      .sort((a, b) => a - b);
    const pieces: Piece[] = [];
    let from = 0;
    for (const to of [...cuts, part.length]) {
      if (to === from) continue;
      const at = part.at + 0x240 * pieces.length + (write ? 0x1800 : 0);
      const address = this.address(part.kind & 15, at);
      if (part.bytes !== undefined) {
        this.#memory.driverWrite(address, part.bytes.subarray(from, to));
      }
      pieces.push({ address, length: to - from, write });
      from = to;
    }
    return pieces;
  }

  /** Makes a chain and offers it to the ring of a number. */
  submit(ring: number, pieces: readonly Piece[], indirect: boolean): void {
    const memory = this.#memory;
    const base = this.#baseOf(ring);
    const head = this.#heads[ring] % RING_SIZE;
    const inTable = indirect || pieces.length > RING_SIZE;
    const size = inTable ? TABLE_SIZE : RING_SIZE;
    const table = inTable
      ? base + TABLES + BigInt(16 * TABLE_SIZE * (head % TABLE_COUNT))
      : base;
    const first = inTable ? 0 : head;
    const used = pieces.slice(0, size);
    used.forEach(({ address, length, write }, i) => {
      putDescriptor(memory, table + 16n * BigInt((first + i) % size), {
        address,
        length,
        flags: (write ? 2 : 0) | (i === used.length - 1 ? 0 : 1),
        next: (first + i + 1) % size,
      });
    });
    if (inTable) {
      putDescriptor(memory, base + 16n * BigInt(head), {
        address: table,
        length: 16 * used.length,
        flags: 4,
        next: 0,
      });
    }
    this.#heads[ring] += inTable ? 1 : used.length;
    this.offer(ring, head);
  }

  /** Makes a head available. */
  offer(ring: number, head: number): void {
    const available = this.#baseOf(ring) + AVAILABLE;
    const index = this.#memory.read(available + 2n, 2);
    const entry = available + 4n + 2n * BigInt(index % RING_SIZE);
    this.#memory.driverPut(entry, 2, head);
    this.#memory.driverPut(available + 2n, 2, index + 1 & 0xffff);
  }

  /** Writes what no driver should; what it was. */
  disturb(bytes: Bytes): string {
    const a = bytes.u8(), b = bytes.u8(), c = bytes.u8();
    const d = bytes.u16(), e = bytes.u16(), f = bytes.u32();
    const ring = b % this.queues.length;
    const address = this.address(c, d);
    switch (a % 3) {
      case 0:
        this.#memory.driverPut(address, [4, 2, 1, 8][a % 4], f);
        return `0x${address.toString(16)} becomes ${f}`;
      case 1: {
        const base = this.#baseOf(ring);
        const at = (a & 0x80) === 0
          ? base + 16n * BigInt(a % RING_SIZE)
          : base + TABLES + 16n * BigInt(a % (TABLE_COUNT * TABLE_SIZE));
        const length = lengthOf(b >> 3, e);
        const flags = f & 7, next = (f >>> 8) % (RING_SIZE + 1);
        putDescriptor(this.#memory, at, { address, length, flags, next });
        return `the descriptor at 0x${at.toString(16)} becomes another`;
      }
      default:
        this.offer(ring, e % (RING_SIZE + 1));
        return `ring ${ring}: head ${e % (RING_SIZE + 1)} is made available`;
    }
  }

  /** Shows answers, and compares memory and what was counted. */
  settle(after: string): void {
    for (const queue of this.queues) {
      queue.publish();
      queue.check();
    }
    this.#memory.compare(after);
  }

  #baseOf(ring: number): bigint {
    return this.#base + BigInt(RING_BYTES * ring);
  }
}
