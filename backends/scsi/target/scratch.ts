/**
 * Memory at fixed addresses for commands that look at the data of a medium:
 * comparing, zeroing with a pattern. Rare; pieces are kept and used again.
 *
 * @module
 */

import { Arena } from "../../../sys/arena.ts";

/** Bytes of a piece. */
export const SCRATCH_SIZE = 256 * 1024;
/** Pieces that are kept for later. */
const MOST_KEPT = 4;

const kept: Scratch[] = [];

/** A piece of memory. */
export class Scratch {
  readonly #arena = new Arena(SCRATCH_SIZE);

  /** Takes a piece that is not in use; its contents are anything. */
  static take(): Scratch {
    return kept.pop() ?? new Scratch();
  }

  /** The memory. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#arena.u8;
  }

  /** Its address. */
  get address(): number {
    return this.#arena.address;
  }

  /** Gives it back. */
  release(): void {
    if (kept.length < MOST_KEPT) kept.push(this);
    else this.#arena[Symbol.dispose]();
  }
}
