/**
 * Inputs to begin with: a list of each kind on each queue, reports, settings.
 *
 * @module
 */

import { RECORD } from "./run.ts";

function input(features: number, ...records: number[][]): Uint8Array {
  const bytes = new Uint8Array(2 + RECORD * records.length);
  bytes[0] = features;
  records.forEach((record, i) => bytes.set(record, 2 + RECORD * i));
  return bytes;
}

/** A list: queue, region, first page, how many, stride. */
function list(
  queue: number,
  region: number,
  first: number,
  many: number,
  stride = 1,
): number[] {
  return [0, queue, region, first, 0, many, stride];
}

/** A report: region, first page, pages. */
function report(region: number, first: number, pages: number): number[] {
  return [4, 1, 0, region, first, 0, pages - 1];
}

/** One of each. */
export const BALLOON_SEEDS: readonly Uint8Array[] = [
  ...Array.from(
    { length: 7 },
    (_, region) => input(0, list(0, region, 0, 12), list(1, region, 2, 5, 255)),
  ),
  input(0, list(0, 2, 1, 4), list(0, 2, 5, 4), list(1, 2, 6, 1)),
  input(0, list(2, 0, 0, 39), list(2, 0, 3, 20), [6, 3]),
  input(0, report(0, 1, 8), report(2, 0, 20), report(4, 0, 1)),
  input(2, report(0, 1, 8), list(3, 0, 1, 8)),
  input(0, list(0, 0, 0, 0xff, 0)),
  input(0, [6, 0, 7, 9], report(0, 1, 8), [6, 0, 0, 0], report(0, 1, 8)),
  input(0, [6, 1, 1], list(0, 0, 0, 8), [6, 2, 1], list(0, 0, 0, 8)),
  ...[1, 2, 4].map((how) =>
    input(0, list(0, 0, 0, 8), [7, 3, how], list(1, 0, 0, 8))
  ),
];
