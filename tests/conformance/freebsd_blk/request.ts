/**
 * `struct vtblk_request` of virtio_blk(4), and the list of free ones.
 *
 * @module
 */

import { FreeBsdErrno } from "../freebsd/kernel.ts";
import type { PhysicalMemory } from "../freebsd/memory.ts";
import type { Bio } from "./disk.ts";
import type { RequestLayout } from "./profiles.ts";

/** `VIRTIO_BLK_T_*`. */
export const RequestType = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  DISCARD: 11,
  BARRIER: 0x8000_0000,
} as const;

const STATUS_OK = 0, STATUS_UNSUPPORTED = 2;
/** `vbr_ack = -1`: what a device leaves that forgets the status. */
const ACK_UNSET = 0xff;
const SECTOR = 512;
const RANGE_BYTES = 16;

/** `struct vtblk_request`. */
export class VtblkRequest {
  /** `vbr_bp`. */
  bio: Bio | null = null;
  readonly #memory: PhysicalMemory;
  readonly #layout: RequestLayout;
  readonly #address: number;
  #range = 0;

  /** Allocates one. */
  constructor(memory: PhysicalMemory, layout: RequestLayout) {
    this.#memory = memory;
    this.#layout = layout;
    this.#address = memory.malloc(layout.size);
  }

  /** Physical address of `vbr_hdr`, a `struct virtio_blk_outhdr`. */
  get headerAddress(): number {
    return this.#address + this.#layout.header;
  }

  /** Physical address of `vbr_ack`. */
  get ackAddress(): number {
    return this.#address + this.#layout.ack;
  }

  /** `vbr_ack`. */
  get ack(): number {
    return this.#memory.ram.bytes(this.ackAddress, 1)[0];
  }

  /** The request for an I/O: header written, status preset. */
  prepare(bio: Bio, type: number, sector: number): void {
    const { ram } = this.#memory;
    ram.bytes(this.#address, this.#layout.size).fill(0);
    this.bio = bio;
    ram.setUint32(this.headerAddress, type);
    ram.setUint32(this.headerAddress + 4, 1); // ioprio
    ram.setUint32(this.headerAddress + 8, sector % 2 ** 32);
    ram.setUint32(this.headerAddress + 12, Math.floor(sector / 2 ** 32));
    ram.bytes(this.ackAddress, 1)[0] = ACK_UNSET;
  }

  /** `vbr_hdr.type &= ~VIRTIO_BLK_T_BARRIER`. */
  clearBarrier(): void {
    const { ram } = this.#memory;
    const type = ram.getUint32(this.headerAddress);
    ram.setUint32(this.headerAddress, type & 0x7fff_ffff);
  }

  /**
   * `struct virtio_blk_discard_write_zeroes` of a `BIO_DELETE`, flags 0; made
   * anew each time that the request is put on the ring.
   *
   * @returns its physical address
   */
  allocRange(offset: number, length: number): number {
    this.#freeRange();
    this.#range = this.#memory.malloc(RANGE_BYTES);
    const { ram } = this.#memory, sector = offset / SECTOR;
    ram.setUint32(this.#range, sector % 2 ** 32);
    ram.setUint32(this.#range + 4, Math.floor(sector / 2 ** 32));
    ram.setUint32(this.#range + 8, length / SECTOR);
    ram.setUint32(this.#range + 12, 0);
    return this.#range;
  }

  /** `vtblk_request_error`. */
  get error(): number {
    switch (this.ack) {
      case STATUS_OK:
        return 0;
      case STATUS_UNSUPPORTED:
        return FreeBsdErrno.ENOTSUP;
      default:
        return FreeBsdErrno.EIO;
    }
  }

  /** The status byte was not written. */
  get unanswered(): boolean {
    return this.ack === ACK_UNSET;
  }

  /** The I/O is done. */
  clear(): void {
    this.bio = null;
    this.#freeRange();
  }

  /** Gives the memory back. */
  free(): void {
    this.clear();
    this.#memory.mfree(this.#address, this.#layout.size);
  }

  #freeRange(): void {
    if (this.#range !== 0) this.#memory.mfree(this.#range, RANGE_BYTES);
    this.#range = 0;
  }
}

/** `vtblk_req_free`, and `vtblk_dump_request` beside it. */
export class RequestPool {
  /** The one that dumps use. */
  readonly dump: VtblkRequest;
  readonly #free: VtblkRequest[] = [];
  readonly #count: number;

  /** `vtblk_request_prealloc`. */
  constructor(memory: PhysicalMemory, layout: RequestLayout, count: number) {
    this.#count = count;
    this.dump = new VtblkRequest(memory, layout);
    for (let i = 0; i < count; i++) {
      this.#free.push(new VtblkRequest(memory, layout));
    }
  }

  /** `vtblk_request_dequeue`. */
  take(): VtblkRequest | null {
    return this.#free.pop() ?? null;
  }

  /** `vtblk_request_enqueue`. */
  give(request: VtblkRequest): void {
    request.clear();
    if (request !== this.dump) this.#free.push(request);
  }

  /**
   * `vtblk_request_free`.
   *
   * @returns how many requests were leaked
   */
  free(): number {
    for (const request of this.#free) request.free();
    this.dump.free();
    return this.#count - this.#free.length;
  }
}
