/**
 * The requests of a driver for load, whatever the layout of its ring is.
 *
 * Theory of operation. Each slot of the queue depth has a header, data and an
 * answer of its own, placed once in the region behind the ring. What is the same
 * for all requests of a slot is written at the start; to submit, the place on the
 * disk is written into the header. Nothing is allocated for a request.
 *
 * @module
 */

import { VIRTQ_DESC_F_WRITE } from "../../virtqueue/constants.ts";
import type { SharedRegion } from "../../vhost/testing/front_end.ts";
import type { RequestFormat } from "./request_format.ts";

/** Bytes of an indirect table of a request: header, data and answer. */
export const TABLE_BYTES = 48;
const SECTOR = 512;

/** What a driver for load is made with. */
export interface LoadDriverOptions {
  /** Requests in flight at most: entries of the ring, a power of two. */
  readonly depth: number;
  /** Bytes of one request. */
  readonly blockSize: number;
  /** Whether requests write. */
  readonly write: boolean;
  /** What requests look like. */
  readonly format: RequestFormat;
  /** Whether VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** Whether VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
}

/** Finds room for some bytes; the offset of them. */
export type Place = (bytes: number, alignment: number) => number;

/** Places parts of a region, one behind the other, from its start on. */
export function placer(): Place {
  let end = 0;
  return (bytes, alignment) => {
    const offset = Math.ceil(end / alignment) * alignment;
    end = offset + bytes;
    return offset;
  };
}

/** A part of a request, for a descriptor. */
export interface Piece {
  /** Offset in the region. */
  readonly at: number;
  /** Bytes. */
  readonly length: number;
  /** Whether the device writes it: VIRTQ_DESC_F_WRITE or 0. */
  readonly flags: number;
}

/** Headers, data and answers of all slots. */
export class RequestSlots {
  /** The bytes of the region. */
  readonly view: DataView<ArrayBuffer>;
  /** Offset of the indirect tables, one for each slot. */
  readonly tables: number;
  readonly #format: RequestFormat;
  readonly #blockSize: number;
  readonly #write: boolean;
  readonly #headerBytes: number;
  readonly #answerBytes: number;
  readonly #headers: number;
  readonly #answers: number;
  readonly #data: number;

  /** Places everything in a region, and prepares it. */
  constructor(
    region: SharedRegion,
    place: Place,
    { depth, blockSize, write, format }: LoadDriverOptions,
  ) {
    const { headerBytes, answerBytes } = format;
    const { buffer, byteOffset } = region.bytes;
    this.view = new DataView(buffer, byteOffset, region.size);
    this.#format = format;
    this.#blockSize = blockSize;
    this.#write = write;
    this.#headerBytes = headerBytes;
    this.#answerBytes = answerBytes;
    this.tables = place(TABLE_BYTES * depth, 64);
    this.#headers = place(headerBytes * depth, 64);
    this.#answers = place(answerBytes * depth, 64);
    this.#data = place(blockSize * depth, 4096);
    for (let slot = 0; slot < depth; slot++) {
      const header = this.#headers + slot * headerBytes;
      format.prepare(this.view, header, write, blockSize);
    }
  }

  /** The three parts of a slot's requests, in the order of their descriptors. */
  pieces(slot: number): Piece[] {
    const header = {
      at: this.#headers + slot * this.#headerBytes,
      length: this.#headerBytes,
      flags: 0,
    };
    const data = {
      at: this.dataOffset(slot),
      length: this.#blockSize,
      flags: this.#write ? 0 : VIRTQ_DESC_F_WRITE,
    };
    const answer = {
      at: this.#answers + slot * this.#answerBytes,
      length: this.#answerBytes,
      flags: VIRTQ_DESC_F_WRITE,
    };
    return this.#write || !this.#format.dataLast
      ? [header, data, answer]
      : [header, answer, data];
  }

  /** Offset of a slot's data in the region. */
  dataOffset(slot: number): number {
    return this.#data + slot * this.#blockSize;
  }

  /** Makes a slot's request one for the block of this number. */
  aim(slot: number, block: number): void {
    this.#format.submit(
      this.view,
      this.#headers + slot * this.#headerBytes,
      this.#answers + slot * this.#answerBytes,
      block * this.#blockSize / SECTOR,
    );
  }

  /** Status of a slot: 0 is good. */
  status(slot: number): number {
    const at = this.#answers + slot * this.#answerBytes;
    return this.#format.status(this.view, at);
  }
}
