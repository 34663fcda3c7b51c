/**
 * What is right about the answers of a SCSI host: a model, from virtio 1.4,
 * section 5.6, SAM, SPC and SBC.
 *
 * @module
 */

import { expect } from "../engine/target.ts";
import { rangeOf } from "./commands.ts";

/** Bytes of a request before the CDB, and of a response before the sense data. */
export const REQUEST = 19, RESPONSE = 12;

/** A command as it was taken. */
export interface Taken {
  /** Number of the SCSI host. */
  readonly side: number;
  readonly field: Uint8Array;
  readonly cdb: Uint8Array<ArrayBuffer>;
  readonly out: Uint8Array<ArrayBuffer>;
  /** Bytes of Data-In and Data-Out. */
  readonly inLength: number;
  readonly outLength: number;
  readonly senseSize: number;
  /** It is too short, or has too many pieces, or data both ways. */
  readonly malformed: boolean;
  /** Its LUN field names a target, or the well-known logical unit. */
  readonly known: boolean;
  /** Memory changed while it was read. */
  readonly raced: boolean;
}

/** A response. */
export interface Answer {
  readonly response: number;
  readonly status: number;
  readonly transferred: number;
}

const OK = 0, BAD_TARGET = 3, FAILURE = 9;
const STATUSES = [0x00, 0x02, 0x08, 0x18, 0x28, 0x40];
/** Sense keys of what may go wrong here: storage never fails. */
const KEYS = [0x0, 0x1, 0x2, 0x5, 0x6, 0x7, 0xb, 0xe];

/** The number of a logical unit in a LUN field; -1: none that is known. */
export function lunOf(field: Uint8Array): number {
  if (field[2] === 0) return field[3];
  return field[2] >> 6 === 1 ? (field[2] & 0x3f) << 8 | field[3] : -1;
}

/** Judges the head of a response. */
export function judgeAnswer(
  taken: Taken,
  head: Uint8Array<ArrayBuffer>,
  written: number,
): Answer {
  const view = new DataView(head.buffer);
  const senseLength = view.getUint32(0, true);
  const residual = view.getUint32(4, true);
  const [status, response] = [head[10], head[11]];
  const { inLength, outLength, senseSize, field } = taken;
  const size = RESPONSE + senseSize;
  if (taken.malformed) {
    expect(
      response === FAILURE && senseLength === 0 && written === size,
      () => `a malformed request is answered ${head}, ${written}`,
    );
    return { response, status: 0, transferred: 0 };
  }
  const all = inLength + outLength;
  expect(response <= FAILURE, () => `response ${response}`);
  expect(residual <= all, () => `residual ${residual} of ${all}`);
  expect(
    senseLength <= senseSize,
    () => `${senseLength} bytes of sense data where ${senseSize} fit`,
  );
  const transferred = all - residual;
  const right = size + (inLength > 0 ? transferred : 0);
  expect(
    written === right,
    () => `${written} bytes are written, where residual is ${residual}`,
  );
  expect(
    taken.known === (response !== BAD_TARGET),
    () => `response ${response} for the LUN field ${field}`,
  );
  if (response !== OK) {
    expect(
      transferred === 0 && senseLength === 0 && status === 0,
      () => `response ${response} with ${head}`,
    );
    return { response, status, transferred };
  }
  expect(STATUSES.includes(status), () => `status ${status}`);
  const hasSense = senseLength > 0;
  expect(
    senseSize === 0 || hasSense === (status === 2),
    () => `status ${status} with ${senseLength} bytes of sense data`,
  );
  if (hasSense) {
    judgeSense(head.subarray(RESPONSE, RESPONSE + senseLength), senseSize);
  }
  return { response, status, transferred };
}

/** Sense data is well-formed, as far as there is room for it. */
function judgeSense(sense: Uint8Array, room: number): void {
  const format = sense[0] & 0x7f;
  expect(format === 0x70 || format === 0x72, () => `sense data ${sense}`);
  const fixed = format === 0x70;
  if (room < 3) return;
  const key = sense[fixed ? 2 : 1] & 0xf;
  expect(KEYS.includes(key), () => `sense key ${key} in ${sense}`);
  if (room < 8) return;
  const length = 8 + sense[7];
  expect(
    sense.length === Math.min(length, room) && (!fixed || length === 18),
    () => `${sense.length} bytes of sense data that has ${length}`,
  );
  if (fixed || sense.length < length) return;
  let at = 8;
  while (at < length) at += 2 + sense[at + 1];
  expect(at === length, () => `descriptors of sense data ${sense}`);
}

/** Offset and bytes of the allocation length, by operation code. */
const ALLOCATIONS: Readonly<Record<number, readonly [number, number]>> = {
  0x03: [4, 1],
  0x12: [3, 2],
  0x1a: [4, 1],
  0x1c: [3, 2],
  0x37: [7, 2],
  0x43: [7, 2],
  0x46: [7, 2],
  0x4a: [7, 2],
  0x4d: [7, 2],
  0x51: [7, 2],
  0x5a: [7, 2],
  0x5e: [7, 2],
  0x9e: [10, 4],
  0xa0: [6, 4],
  0xa3: [6, 4],
  0xb7: [6, 4],
};
const READS = [0x08, 0x28, 0xa8, 0x88];
const WRITES = [0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e];

/** A medium that is an array. */
export interface MediumModel {
  readonly blockSize: number;
  readonly writable: boolean;
  readonly image: Uint8Array<ArrayBuffer>;
}

/** Does a command that ended with GOOD status; what it read must be right. */
export function follow(
  { cdb, out }: Taken,
  transferred: number,
  data: Uint8Array<ArrayBuffer>,
  medium: MediumModel | null,
): void {
  const [opcode] = cdb;
  const allocation = ALLOCATIONS[opcode];
  if (allocation !== undefined) {
    const [at, size] = allocation;
    let most = 0;
    for (let i = 0; i < size; i++) most = most * 256 + cdb[at + i];
    expect(
      transferred <= most,
      () => `${transferred} bytes where ${most} are allowed`,
    );
    return;
  }
  if (opcode === 0x42) {
    const list = out.subarray(0, cdb[7] << 8 | cdb[8]);
    if (list.length >= 8) unmap(list, medium!);
    return;
  }
  const compares = opcode === 0x89, same = opcode === 0x41 || opcode === 0x93;
  const reads = READS.includes(opcode);
  if (!reads && !compares && !same && !WRITES.includes(opcode)) return;
  expect(medium !== null, () => `command ${opcode} of no medium is done`);
  const { blockSize, image } = medium;
  const { lba, blocks } = rangeOf(cdb);
  const count = compares ? cdb[13] : blocks;
  expect(
    (lba + BigInt(count)) * BigInt(blockSize) <= BigInt(image.length),
    () => `${count} blocks at ${lba} are done`,
  );
  const at = Number(lba) * blockSize, length = count * blockSize;
  if (reads) {
    expect(transferred === length, () => `${transferred} bytes are read`);
    const right = image.subarray(at, at + length);
    const wrong = data.findIndex((byte, i) => byte !== right[i]);
    expect(
      data.length === length && wrong < 0,
      () => `byte ${wrong} of what is read at ${at} is wrong`,
    );
    return;
  }
  expect(medium.writable, () => `command ${opcode} writes what is read-only`);
  if (same) {
    const none = opcode === 0x93 && (cdb[1] & 1) !== 0;
    const block = none ? new Uint8Array(blockSize) : out.subarray(0, blockSize);
    for (let i = 0; i < count; i++) image.set(block, at + i * blockSize);
    return;
  }
  expect(
    transferred === (compares ? 2 : 1) * length,
    () => `${transferred} bytes are written`,
  );
  if (compares) {
    const wrong = out.subarray(0, length)
      .findIndex((byte, i) => byte !== image[at + i]);
    expect(wrong < 0, () => `byte ${wrong} is not what was compared`);
  }
  const from = compares ? length : 0;
  image.set(out.subarray(from, from + length), at);
}

/** Ranges become zero. */
function unmap(list: Uint8Array, { image, blockSize }: MediumModel): void {
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  const described = Math.min(view.getUint16(2), list.length - 8);
  for (let at = 8; at + 16 <= 8 + described; at += 16) {
    const lba = view.getBigUint64(at), blocks = view.getUint32(at + 8);
    expect(
      (lba + BigInt(blocks)) * BigInt(blockSize) <= BigInt(image.length),
      () => `${blocks} blocks at ${lba} are unmapped`,
    );
    const start = Number(lba) * blockSize;
    image.fill(0, start, start + blocks * blockSize);
  }
}
