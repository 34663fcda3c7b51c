/**
 * One command of a driver: a SCSI task whose buffers are a descriptor chain.
 *
 * Theory of operation. The readable part of a chain is 8 bytes of LUN, 8 of
 * command identifier, task attribute, priority, CRN and the CDB, then Data-Out.
 * The writable part is the response with room for sense data, then Data-In.
 * Where one buffer ends and the next begins is the driver's affair. The header
 * is read once.
 *
 * Source: virtio 1.4, section 5.6.6.1.
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { REQUEST_HEAD_SIZE, Response, RESPONSE_HEAD_SIZE } from "./protocol.ts";
import {
  CDB_SIZE,
  OUTCOME_ABORTED,
  OUTCOME_OVERRUN,
  OUTCOME_RESET,
  OUTCOME_STATUS,
  Task,
} from "./target/task.ts";

/** What hosts requests. */
export interface RequestHost {
  /** Bytes of a CDB in a request. */
  readonly cdbSize: number;
  /** Bytes of sense data in a response. */
  readonly senseSize: number;
  /** A command has ended. */
  ended(request: ScsiRequest): void;
}

/** Where the CDB is in the memory of a request: aligned, the rest before it. */
const CDB_AT = 20;
const HEAD_AT = CDB_AT - REQUEST_HEAD_SIZE;
/** Places in that memory. */
const LUN_AT = HEAD_AT, TAG_AT = HEAD_AT + 8, ATTRIBUTE_AT = HEAD_AT + 16;

/** The response that is being written, without its sense data. */
const head = new Uint8Array(RESPONSE_HEAD_SIZE);
const headView = new DataView(head.buffer);

/** A command of a driver. */
export class ScsiRequest extends Task {
  readonly #host: RequestHost;
  /** The first bytes of the request, read once. */
  readonly #head: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  #chain: DescriptorChain | null = null;
  #requestSize = 0;
  #responseSize = 0;

  /** Makes an object for the commands of a slot. */
  constructor(slot: number, host: RequestHost) {
    const bytes = new Uint8Array(CDB_AT + CDB_SIZE);
    super(slot, bytes.subarray(CDB_AT));
    this.#host = host;
    this.#head = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  /** The chain of the command that this is now. */
  get chain(): DescriptorChain {
    return this.#chain!;
  }

  /** Bytes of the response before Data-In. */
  get responseSize(): number {
    return this.#responseSize;
  }

  /**
   * Reads the request.
   *
   * @returns false when it is too short, or has both directions of data
   */
  read(chain: DescriptorChain): boolean {
    const { cdbSize, senseSize } = this.#host;
    this.#chain = chain;
    this.#requestSize = REQUEST_HEAD_SIZE + cdbSize;
    this.#responseSize = RESPONSE_HEAD_SIZE + senseSize;
    if (
      chain.truncated || chain.readableLength < this.#requestSize ||
      chain.writableLength < this.#responseSize ||
      (this.dataInLength > 0 && this.dataOutLength > 0)
    ) return false;
    if (cdbSize < CDB_SIZE) this.cdb.fill(0, cdbSize);
    const size = REQUEST_HEAD_SIZE + (cdbSize < CDB_SIZE ? cdbSize : CDB_SIZE);
    chain.read(0, this.#head, HEAD_AT, size);
    this.tagLow = this.#view.getUint32(TAG_AT, true);
    this.tagHigh = this.#view.getUint32(TAG_AT + 4, true);
    this.attribute = this.#head[ATTRIBUTE_AT];
    return true;
  }

  /** A byte of the LUN field, 0 to 7, as it was read. */
  lunByte(index: number): number {
    return this.#head[LUN_AT + index];
  }

  override get dataInLength(): number {
    return this.#chain!.writableLength - this.#responseSize;
  }

  override get dataOutLength(): number {
    return this.#chain!.readableLength - this.#requestSize;
  }

  override readOut(
    position: number,
    into: Uint8Array,
    start: number = 0,
    length: number = into.length - start,
  ): number {
    const at = this.#requestSize + position;
    return this.#chain!.read(at, into, start, length);
  }

  override writeIn(
    position: number,
    from: Uint8Array,
    length: number,
  ): number {
    const at = this.#responseSize + position;
    return this.#chain!.write(at, from, 0, length);
  }

  override iovec(
    words: Uint32Array,
    at: number,
    limit: number,
    dataIn: boolean,
    position: number,
    length: number,
  ): number {
    const base = dataIn ? this.#responseSize : this.#requestSize;
    return this.#chain!
      .iovec(words, at, limit, dataIn, base + position, length);
  }

  override finished(): void {
    this.#host.ended(this);
  }

  /** The response that tells how the command ended. */
  get response(): number {
    switch (this.outcome) {
      case OUTCOME_STATUS:
        return Response.OK;
      case OUTCOME_ABORTED:
        return Response.ABORTED;
      case OUTCOME_RESET:
        return Response.RESET;
      case OUTCOME_OVERRUN:
        return Response.OVERRUN;
      default:
        return Response.FAILURE;
    }
  }

  /**
   * Writes the response.
   *
   * @returns bytes of the writable part that count as written
   */
  answer(response: number): number {
    const chain = this.#chain!;
    const ok = response === Response.OK;
    const senseSize = this.#responseSize - RESPONSE_HEAD_SIZE;
    const sense = ok && this.senseLength < senseSize
      ? this.senseLength
      : (ok ? senseSize : 0);
    const moved = ok ? this.transferred : 0;
    headView.setUint32(0, sense, true);
    const residual = this.dataInLength + this.dataOutLength - moved;
    headView.setUint32(4, residual, true);
    head[10] = ok ? this.status : 0;
    head[11] = response;
    chain.write(0, head, 0, RESPONSE_HEAD_SIZE);
    if (sense > 0) chain.write(RESPONSE_HEAD_SIZE, this.sense, 0, sense);
    return this.#responseSize + (this.dataInLength > 0 ? moved : 0);
  }

  /** Forgets the chain. */
  release(): void {
    this.#chain = null;
  }
}
