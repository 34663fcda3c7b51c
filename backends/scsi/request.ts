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

const head = new Uint8Array(REQUEST_HEAD_SIZE);
const headView = new DataView(head.buffer);

/** A command of a driver. */
export class ScsiRequest extends Task {
  readonly #host: RequestHost;
  #chain: DescriptorChain | null = null;
  #requestSize = 0;
  #responseSize = 0;

  /** Makes an object for the commands of a slot. */
  constructor(slot: number, host: RequestHost) {
    super(slot);
    this.#host = host;
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
   * @param lun receives the eight bytes of the LUN field
   * @returns false when it is too short, or has both directions of data
   */
  read(chain: DescriptorChain, lun: Uint8Array): boolean {
    const { cdbSize, senseSize } = this.#host;
    this.#chain = chain;
    this.#requestSize = REQUEST_HEAD_SIZE + cdbSize;
    this.#responseSize = RESPONSE_HEAD_SIZE + senseSize;
    if (
      chain.truncated || chain.readableLength < this.#requestSize ||
      chain.writableLength < this.#responseSize ||
      (this.dataInLength > 0 && this.dataOutLength > 0)
    ) return false;
    chain.read(0, head, 0, REQUEST_HEAD_SIZE);
    for (let i = 0; i < 8; i++) lun[i] = head[i];
    this.tagLow = headView.getUint32(8, true);
    this.tagHigh = headView.getUint32(12, true);
    this.attribute = head[16];
    if (cdbSize < CDB_SIZE) this.cdb.fill(0, cdbSize);
    chain.read(
      REQUEST_HEAD_SIZE,
      this.cdb,
      0,
      cdbSize < CDB_SIZE ? cdbSize : CDB_SIZE,
    );
    return true;
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
    chain.writeUint32(0, sense);
    chain.writeUint32(4, this.dataInLength + this.dataOutLength - moved);
    chain.writeUint16(8, 0);
    chain.writeUint8(10, ok ? this.status : 0);
    chain.writeUint8(11, response);
    if (sense > 0) chain.write(RESPONSE_HEAD_SIZE, this.sense, 0, sense);
    return this.#responseSize + (this.dataInLength > 0 ? moved : 0);
  }

  /** Forgets the chain. */
  release(): void {
    this.#chain = null;
  }
}
