/**
 * Compares a chain object with the chain that the model has, and what can be
 * done with it.
 *
 * @module
 */

import { expect } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import { type ModelBuffer, type ModelChain, totalOf } from "./model.ts";

/** Segments that a chain object has beyond its device's most. */
const SPARE = 4;

type Piece = readonly [address: bigint, length: number];

/** The buffers of a part, cut where regions meet. */
export function piecesOf(
  memory: FuzzMemory,
  buffers: readonly ModelBuffer[],
): Piece[] {
  return buffers.flatMap(({ address, length }) =>
    memory.pieces(address, length)
  );
}

/** What differs between a chain and its model; `null` when nothing does. */
export function chainDifference(
  memory: FuzzMemory,
  chain: DescriptorChain | null,
  model: ModelChain | null,
  maxSegments: number,
): string | null {
  if (chain === null || model === null) {
    if (chain === model) return null;
    return chain === null
      ? `nothing was taken, not the chain at ${model!.head}`
      : `the chain at ${chain.head} was taken, where there is none`;
  }
  const found = [
    chain.head,
    chain.position,
    chain.readableLength,
    chain.writableLength,
  ];
  const right = [
    model.head,
    model.position,
    totalOf(model.readable),
    totalOf(model.writable),
  ];
  if (found.some((value, i) => value !== right[i])) {
    return `head, position and lengths are ${found}, not ${right}`;
  }
  if (chain.resubmitted !== model.resubmitted) {
    return `resubmitted is ${chain.resubmitted}`;
  }
  const readable = piecesOf(memory, model.readable);
  const pieces = [...readable, ...piecesOf(memory, model.writable)];
  const buffers = model.readable.length + model.writable.length;
  const truncated = buffers > maxSegments ||
    pieces.length > maxSegments + SPARE;
  if (chain.truncated !== truncated) {
    return `truncated is ${chain.truncated} for ${buffers} buffers`;
  }
  if (chain.count > chain.capacity) return `${chain.count} segments`;
  if (truncated) {
    const last = pieces.length - 1;
    return segmentDifference(chain, chain.count - 1, pieces[last]);
  }
  if (
    chain.count !== pieces.length || chain.readableCount !== readable.length
  ) {
    return `${chain.count} segments, ${chain.readableCount} of them ` +
      `readable, not ${pieces.length} and ${readable.length}`;
  }
  for (let i = 0; i < pieces.length; i++) {
    const difference = segmentDifference(chain, i, pieces[i]);
    if (difference !== null) return difference;
  }
  return null;
}

function segmentDifference(
  chain: DescriptorChain,
  i: number,
  [address, length]: Piece,
): string | null {
  const at = chain.address(i), size = chain.length(i);
  return BigInt(at) === address && size === length
    ? null
    : `segment ${i} is ${size} bytes at 0x${at.toString(16)}, not ${length} ` +
      `at 0x${address.toString(16)}`;
}

/** Addresses of the bytes of a part, from a position on, as far as it goes. */
function addresses(
  buffers: readonly ModelBuffer[],
  position: number,
  length: number,
): bigint[] {
  const found: bigint[] = [];
  let start = 0;
  for (const buffer of buffers) {
    const from = Math.max(position - start, 0);
    const to = Math.min(position + length - start, buffer.length);
    for (let i = from; i < to; i++) found.push(buffer.address + BigInt(i));
    start += buffer.length;
  }
  return position < 0 ? [] : found;
}

const SIZES = [1, 2, 4] as const;

/** Something to do with a chain. */
export interface Access {
  /** Which of the methods. */
  readonly kind: number;
  readonly position: number;
  readonly length: number;
  readonly value: number;
}

/** Does something with a chain and checks what comes of it. */
export function access(
  memory: FuzzMemory,
  chain: DescriptorChain,
  model: ModelChain,
  { kind, position, length, value }: Access,
): string {
  const which = kind % 9;
  if (which < 3) {
    const size = SIZES[which];
    const places = addresses(model.readable, position, size);
    const result = which === 0
      ? chain.readUint8(position)
      : which === 1
      ? chain.readUint16(position)
      : chain.readUint32(position);
    const right = places.length < size ? -1 : places.reduceRight(
      (sum, at) => sum * 256 + memory.read8(at),
      0,
    );
    const what = `readUint${8 * size}(${position})`;
    expect(
      result === right || chain.truncated && result === -1,
      () => `${what} is ${result}, not ${right}`,
    );
    return what;
  }
  if (which < 6) return put(memory, chain, model, which - 3, position, value);
  if (which === 8) return list(memory, chain, model, position, length, value);
  const size = length % 512;
  const places = which === 6 && value % 2 === 0
    ? addresses(model.readable, position, size)
    : addresses(model.writable, position, size);
  const bytes = new Uint8Array(size).map((_, i) => value + 3 * i);
  const what = `${["read", "write or fill"][which - 6]} ${size} at ${position}`;
  let done: number;
  if (which === 6 && value % 2 === 0) {
    const into = new Uint8Array(size);
    done = chain.read(position, into);
    for (let i = 0; i < Math.min(done, places.length); i++) {
      expect(
        into[i] === memory.read8(places[i]),
        () => `${what}: byte ${i} is ${into[i]}`,
      );
    }
  } else if (which === 6) {
    done = chain.write(position, bytes);
    for (let i = 0; i < Math.min(done, places.length); i++) {
      memory.write8(places[i], bytes[i]);
    }
  } else {
    done = chain.fill(position, size, value & 255);
    for (let i = 0; i < Math.min(done, places.length); i++) {
      memory.write8(places[i], value & 255);
    }
  }
  expect(
    done === places.length || chain.truncated && done < places.length,
    () => `${what}: ${done} bytes, not ${places.length}`,
  );
  return what;
}

function put(
  memory: FuzzMemory,
  chain: DescriptorChain,
  model: ModelChain,
  which: number,
  position: number,
  value: number,
): string {
  const size = SIZES[which];
  const places = addresses(model.writable, position, size);
  const done = which === 0
    ? chain.writeUint8(position, value)
    : which === 1
    ? chain.writeUint16(position, value)
    : chain.writeUint32(position, value);
  const what = `writeUint${8 * size}(${position})`;
  const right = places.length === size;
  expect(
    done === right || chain.truncated && !done,
    () => `${what} is ${done}, not ${right}`,
  );
  if (done) {
    places.forEach((at, i) => memory.write8(at, value >>> (8 * i) & 255));
  }
  return what;
}

function list(
  memory: FuzzMemory,
  chain: DescriptorChain,
  model: ModelChain,
  position: number,
  length: number,
  value: number,
): string {
  const writable = value % 2 === 1;
  const limit = 1 + (value >>> 1) % 8;
  const buffers = writable ? model.writable : model.readable;
  const right: Piece[] = [];
  let start = 0;
  for (const [address, size] of piecesOf(memory, buffers)) {
    const from = Math.max(position - start, 0);
    const to = Math.min(position + length - start, size);
    if (from < to) right.push([address + BigInt(from), to - from]);
    start += size;
  }
  const whole = position >= 0 && position + length <= start;
  const words = new Uint32Array(4 * limit + 4);
  const count = chain.iovec(words, 4, limit, writable, position, length);
  const what = `iovec of ${length} at ${position}, ${limit} at most`;
  if (length === 0) {
    expect(count === 0, () => `${what}: ${count}`);
    return what;
  }
  if (!whole || right.length > limit || chain.truncated && count < 0) {
    expect(count === -1, () => `${what}: ${count}, not -1`);
    return what;
  }
  expect(count === right.length, () => `${what}: ${count}`);
  right.forEach(([address, size], i) => {
    const at = 4 + 4 * i;
    const host = words[at] + words[at + 1] * 2 ** 32;
    expect(
      host === memory.hostAddress(address) && words[at + 2] === size &&
        words[at + 3] === 0,
      () => `${what}: element ${i} is ${words.subarray(at, at + 4)}`,
    );
  });
  return what;
}
