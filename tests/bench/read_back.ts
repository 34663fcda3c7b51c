/**
 * Reads what a load wrote through the device again, and compares.
 *
 * Theory of operation: blocks are visited in strides that meet each of them once,
 * all over the disk from the start on; so those that fit into the time are chosen
 * over the whole range.
 *
 * @module
 */

import type { LoadRing } from "./load_driver.ts";
import { firstStamp, STAMP_UNIT, type WriteLog } from "./stamps.ts";

/** How long (ms) blocks are read. */
const TIME = 1_000;
/** How long (ms) an answer may take. */
const PATIENCE = 10_000;

/** What was read. */
export interface ReadBack {
  /** Blocks. */
  readonly blocks: number;
  /** Those with a wrong status or stamp. */
  readonly errors: number;
}

/**
 * Reads blocks that were written, all or as many as can be read in a second.
 *
 * @param driver of a ring that reads, and has nothing in flight
 * @param kick tells the device that there are requests
 * @param log what was written
 * @param blocks that the disk has
 * @param blockSize bytes of each
 * @throws {Error} when the device does not answer for ten seconds
 */
export function readBack(
  driver: LoadRing,
  kick: () => void,
  log: WriteLog,
  { blocks, blockSize }: { blocks: number; blockSize: number },
): ReadBack {
  const view = new DataView(driver.bytes.buffer, driver.bytes.byteOffset);
  const stride = coprime(Math.floor(blocks * 0.618), blocks);
  const blockOf = new Float64Array(driver.depth);
  let visited = 0, at = 0, read = 0, errors = 0, inFlight = 0;

  /** The next block that was written and has a stamp, or -1. */
  const next = (): number => {
    while (visited < blocks) {
      const block = at;
      visited++;
      at = (at + stride) % blocks;
      if (log.wrote(block) && firstStamp(block * blockSize) < blockSize) {
        return block;
      }
    }
    return -1;
  };
  const submit = (slot: number): void => {
    const block = next();
    if (block < 0) return;
    blockOf[slot] = block;
    driver.submit(slot, block);
    inFlight++;
  };
  const right = (slot: number): boolean => {
    if (driver.status(slot) !== 0) return false;
    const block = blockOf[slot], start = block * blockSize;
    const data = driver.dataOffset(slot);
    for (let i = firstStamp(start); i < blockSize; i += STAMP_UNIT) {
      const unit = view.getUint32(data + i, true);
      const run = view.getUint32(data + i + 4, true);
      const number = view.getUint32(data + i + 8, true);
      if (unit !== (start + i) / STAMP_UNIT) return false;
      if (!log.mayBeLast(block, run, number)) return false;
    }
    return true;
  };

  const begin = performance.now();
  let answered = begin;
  driver.disableInterrupt();
  for (let slot = 0; slot < driver.depth; slot++) submit(slot);
  while (inFlight > 0) {
    if (driver.publish()) kick();
    const slot = driver.reap();
    const now = performance.now();
    if (slot < 0) {
      if (now - answered > PATIENCE) {
        throw new Error(`${inFlight} reads were not answered in 10 s`);
      }
      continue;
    }
    answered = now;
    inFlight--;
    read++;
    if (!right(slot)) errors++;
    if (now - begin < TIME) submit(slot);
  }
  return { blocks: read, errors };
}

/** The least number from `from` on without a divisor in common with another. */
function coprime(from: number, other: number): number {
  const divisor = (a: number, b: number): number =>
    b === 0 ? a : divisor(b, a % b);
  let number = Math.max(1, from);
  while (divisor(number, other) !== 1) number++;
  return number;
}
