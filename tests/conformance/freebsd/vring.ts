/**
 * `struct vring` of FreeBSD: where the parts of a split ring lie in one piece of
 * memory, and access to their fields.
 *
 * Source: `sys/dev/virtio/virtio_ring.h`, `vring_init` and `vring_size`.
 *
 * @module
 */

import { VIRTQ_DESC_SIZE } from "../../../virtqueue/constants.ts";
import { PAGE_SIZE } from "./kernel.ts";
import type { PhysicalMemory } from "./memory.ts";

/** `VIRTIO_PCI_VRING_ALIGN`, which modern devices get, too. */
const RING_ALIGNMENT = 4096;
/** `VQ_RING_DESC_CHAIN_END`: no index of a descriptor. */
export const CHAIN_END = 32768;

/** Offsets of the rings behind the descriptors, and the size of all, in bytes. */
function layout(
  size: number,
): { available: number; used: number; end: number } {
  const available = size * VIRTQ_DESC_SIZE;
  const used = roundUp(available + 6 + 2 * size, RING_ALIGNMENT);
  return { available, used, end: roundUp(used + 6 + 8 * size, PAGE_SIZE) };
}

/** A ring in memory of its own. */
export class Vring {
  /** Number of entries. */
  readonly size: number;
  /** Physical address of the descriptors. */
  readonly descriptorTable: number;
  /** Physical address of the available ring. */
  readonly availableRing: number;
  /** Physical address of the used ring. */
  readonly usedRing: number;
  /** `avail`: flags, idx, ring[], used_event. */
  readonly available: Uint16Array<ArrayBuffer>;
  /** `used` in 16 bits: flags, idx, ring[] of 4 each, avail_event. */
  readonly used: Uint16Array<ArrayBuffer>;
  readonly #memory: PhysicalMemory;
  readonly #bytes: number;

  /**
   * @param highAddress highest physical address of the ring
   */
  constructor(memory: PhysicalMemory, size: number, highAddress: number) {
    const { available, used, end } = layout(size);
    this.#memory = memory;
    this.#bytes = end;
    this.size = size;
    this.descriptorTable = memory.contigmalloc(end, highAddress);
    this.availableRing = this.descriptorTable + available;
    this.usedRing = this.descriptorTable + used;
    this.available = window16(memory, this.availableRing, 3 + size);
    this.used = window16(memory, this.usedRing, 3 + 4 * size);
  }

  /** Zeroes everything and threads the list of free descriptors. */
  initialize(): void {
    this.#memory.ram.bytes(this.descriptorTable, this.#bytes).fill(0);
    this.threadNext(this.descriptorTable, this.size);
  }

  /** Gives the memory back. */
  free(): void {
    this.#memory.contigfree(this.descriptorTable, this.#bytes);
  }

  /** Links the descriptors of a table one after the other. */
  threadNext(table: number, count: number): void {
    for (let i = 0; i < count; i++) {
      this.setNext(table, i, i === count - 1 ? CHAIN_END : i + 1);
    }
  }

  /** Writes a descriptor, `next` excepted. */
  setDescriptor(
    table: number,
    index: number,
    address: number,
    length: number,
    flags: number,
  ): void {
    const at = table + index * VIRTQ_DESC_SIZE, ram = this.#memory.ram;
    ram.setUint32(at, address % 2 ** 32);
    ram.setUint32(at + 4, Math.floor(address / 2 ** 32));
    ram.setUint32(at + 8, length);
    ram.setUint16(at + 12, flags);
  }

  /** `flags` of a descriptor of the ring. */
  flags(index: number): number {
    return this.#memory.ram.getUint16(
      this.descriptorTable + index * VIRTQ_DESC_SIZE + 12,
    );
  }

  /** `next` of a descriptor. */
  next(table: number, index: number): number {
    return this.#memory.ram.getUint16(table + index * VIRTQ_DESC_SIZE + 14);
  }

  /** Writes `next` of a descriptor. */
  setNext(table: number, index: number, next: number): void {
    this.#memory.ram.setUint16(table + index * VIRTQ_DESC_SIZE + 14, next);
  }

  /** `id` and `len` of an element of the used ring. */
  usedElement(slot: number): { id: number; length: number } {
    const at = this.usedRing + 4 + 8 * slot;
    return {
      id: this.#memory.ram.getUint32(at),
      length: this.#memory.ram.getUint32(at + 4),
    };
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function window16(
  memory: PhysicalMemory,
  address: number,
  count: number,
): Uint16Array<ArrayBuffer> {
  const bytes = memory.ram.bytes(address, 2 * count);
  return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
}
