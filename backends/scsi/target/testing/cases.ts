/**
 * Tests of commands as tables: for each command a good use, and bad fields.
 *
 * The names of the tests are what the reference page of the commands refers to.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Sense } from "../sense.ts";
import {
  type Answer,
  type BenchOptions,
  type CommandBuffers,
  TargetBench,
} from "./bench.ts";

/** Registers the test of a command that goes well. */
export function good(
  command: string,
  options: BenchOptions,
  test: (bench: TargetBench) => void,
): void {
  Deno.test(`${command}: good`, () => {
    using bench = new TargetBench(options);
    test(bench);
  });
}

/** A command that must be refused. */
export type BadCase = readonly [
  why: string,
  cdb: readonly number[],
  sense: Sense,
  buffers?: CommandBuffers,
];

/** Registers the tests of a command that is refused, each on a new unit. */
export function bad(
  command: string,
  options: BenchOptions,
  cases: readonly BadCase[],
): void {
  Deno.test(`${command}: bad fields`, () => {
    for (const [why, cdb, sense, buffers] of cases) {
      using bench = new TargetBench(options);
      const answer = bench.run(cdb, { room: 4096, ...buffers });
      assertEquals([answer.status, answer.sense], [2, sense], why);
    }
  });
}

/** Sense data of INVALID FIELD IN CDB. */
export function field(byte: number, bit = -1): Sense {
  return { key: 5, asc: 0x2400, field: { command: true, byte, bit } };
}

/** Sense data of INVALID FIELD IN PARAMETER LIST. */
export function parameter(byte: number, bit = -1): Sense {
  return { key: 5, asc: 0x2600, field: { command: false, byte, bit } };
}

/** Sense data of LOGICAL BLOCK ADDRESS OUT OF RANGE. */
export function outOfRange(lba: number): Sense {
  return { key: 5, asc: 0x2100, information: lba };
}

/** Asserts GOOD status; the data. */
export function data(answer: Answer): Uint8Array<ArrayBuffer> {
  assertEquals([answer.status, answer.sense, answer.outcome], [0, null, 0]);
  return answer.data;
}

/** Bytes of a number, most significant first. */
export function be(value: number, width: number): number[] {
  const bytes = new Array<number>(width);
  let rest = value;
  for (let i = width - 1; i >= 0; i--) {
    bytes[i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  return bytes;
}

/** ASCII text out of bytes. */
export function text(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
