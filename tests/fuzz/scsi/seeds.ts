/**
 * Inputs to begin with: each command to each logical unit, task management,
 * events, logical units that come and go.
 *
 * @module
 */

import { COMMAND_COUNT } from "./commands.ts";
import { RECORD } from "./run.ts";
import { UNITS } from "./units.ts";

function input(head: number[], ...records: number[][]): Uint8Array {
  const bytes = new Uint8Array(4 + RECORD * records.length);
  bytes.set(head);
  records.forEach((record, i) => bytes.set(record, 4 + RECORD * i));
  return bytes;
}

/** A command: logical unit, code, blocks, second byte of the CDB, contents. */
function command(
  unit: number,
  code: number,
  many = 2,
  one = 0,
  fill = 0x77,
): number[] {
  return [
    ...[0, unit, code, 0, 3, many, one, 0, 0, 40, fill, 0, 0, 0, 1],
    ...[0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0x20],
  ];
}

/** A command for blocks far away. */
function far(unit: number, code: number, kind: number): number[] {
  const record = command(unit, code);
  record[3] = 0xe0 + kind;
  record[4] = 0;
  return record;
}

const every = Array.from({ length: COMMAND_COUNT }, (_, code) => code);

/** One of each. */
export const SCSI_SEEDS: readonly Uint8Array[] = [
  ...UNITS.flatMap((_, unit) =>
    [0, 8, 16, 24, 32, 40, 48].map((first) =>
      input([0], ...every.slice(first, first + 8).map((c) => command(unit, c)))
    )
  ),
  ...every.filter((code) => code < 21).map((code) =>
    input([0], command(0, code, 1, 8, 4), command(0xc0, code, 1, 2, 4))
  ),
  ...[1, 2, 3, 4, 5, 6].map((one) =>
    input(
      [0],
      command(0, 18, 0, 0),
      command(0xc0, 18, 0, one),
      command(0xc0, 1),
    )
  ),
  input([3], command(0, 1), command(0, 0), [4, 0, 0, 1], [7, 0, 0, 3]),
  input([3], command(0, 0), [4, 0, 0, 5], command(0, 16), [7, 0, 0, 3]),
  ...[0, 1, 2].map((type) =>
    input([0], ...[0, 1, 2, 3, 4, 5, 6, 7].map((n) => [4, 3, type, n]))
  ),
  input([0], [7, 0, 2, 3], [6, 0, 1], command(5, 0), [6, 0, 2]),
  input([0], [4, 4, 2], [7, 0, 2, 3], [6, 0, 3], [6, 0, 3, 0, 1]),
  ...[1, 2, 3, 4, 5].map((size) =>
    input([0], [6, 0, 0, size], command(0, 0), command(3, 1))
  ),
  ...[0, 1, 2, 3, 4].map((kind) =>
    input([0], ...[0, 6, 7, 16].map((code) => far(0, code, kind)))
  ),
  input([0], command(0, 1), [7, 0, 3, 1], command(0, 0), [6, 0, 5]),
];
