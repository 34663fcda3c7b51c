/**
 * Inputs to begin with: buffers and a frame of each kind, on each network;
 * commands of each class.
 *
 * @module
 */

import { RECORD } from "./run.ts";

function input(head: number[], ...records: number[][]): Uint8Array {
  const bytes = new Uint8Array(4 + RECORD * records.length);
  bytes.set(head);
  records.forEach((record, i) => bytes.set(record, 4 + RECORD * i));
  return bytes;
}

/** Eight receive buffers of a side. */
function buffers(side: number): number[] {
  return [3, side, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0x10];
}

/** A frame: shape, addresses, payload, `gso_type`, `flags`. */
function frame(
  shape: number,
  who: number,
  size: number,
  gso = 0,
  flags = 0,
): number[] {
  const [low, high] = [size & 255, size >> 8];
  return [0, 0, 0, 0, shape, who, low, high, gso, 0xe8, 3, flags];
}

/** A command: class, number, value. */
function command(kind: number, number: number, value: number): number[] {
  return [4, 0, 0, 0, kind, number, value, 0, 2, 1];
}

/** One of each. */
export const NET_SEEDS: readonly Uint8Array[] = [
  ...[0, 1, 2].flatMap((setup) =>
    [0, 1, 4].flatMap((mask) =>
      [
        frame(0, 0, 100),
        frame(4, 1, 60, 0, 1),
        frame(0, 0, 2900, 1),
        frame(1, 0, 2900, 2),
        frame(2, 0, 2900, 3),
      ].map((sent) =>
        input([setup, 0, mask], buffers(setup === 0 ? 1 : 0), sent, sent)
      )
    )
  ),
  ...[0, 1, 2, 3, 4, 5].map((kind) =>
    input(
      [1],
      buffers(0),
      command(kind, 0, 1),
      command(kind, 1, 2),
      frame(0, 0, 60),
    )
  ),
  // Buffers of 7 bytes, then better ones.
  input(
    [1],
    [3, 0, 0, 0, 1, 0xe0, 7, 0, 0, 0, 0, 0, 0x10],
    buffers(0),
    frame(
      0,
      0,
      60,
    ),
  ),
  input([0], [6, 0, 0, 1], frame(0, 0, 60), [6, 0, 1], [7, 0, 3, 1]),
];
