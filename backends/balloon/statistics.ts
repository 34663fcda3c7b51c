/**
 * Statistics of the guest's memory: what the driver's last buffer said.
 *
 * Source: virtio 1.4, section 5.5.6.3 (memory statistics).
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { STAT_NAMES, STAT_SIZE } from "./protocol.ts";

/** Entries of one buffer that are looked at. */
const MAX_STATS = 64;
const TWO_32 = 4294967296;

/** The statistics of one buffer. */
export class GuestStatistics {
  /** When they came, in ms of `performance.now()`; -1: none came. */
  at = -1;
  #count = 0;
  readonly #tags = new Uint16Array(MAX_STATS);
  readonly #values = new Float64Array(MAX_STATS);

  /**
   * Takes over what a buffer says.
   *
   * @returns false when it is not made of whole entries, or of too many: the
   * rest is ignored.
   */
  read(chain: DescriptorChain, now: number): boolean {
    const entries = Math.floor(chain.readableLength / STAT_SIZE);
    const count = Math.min(entries, MAX_STATS);
    let valid = 0;
    for (let i = 0; i < count; i++) {
      const tag = chain.readUint16(i * STAT_SIZE);
      const low = chain.readUint32(i * STAT_SIZE + 2);
      const high = chain.readUint32(i * STAT_SIZE + 6);
      if (tag < 0 || low < 0 || high < 0) break;
      this.#tags[valid] = tag;
      this.#values[valid] = high * TWO_32 + low;
      valid++;
    }
    this.#count = valid;
    this.at = now;
    return chain.readableLength === valid * STAT_SIZE;
  }

  /** Forgets everything. */
  clear(): void {
    this.#count = 0;
    this.at = -1;
  }

  /**
   * The statistics by name; those with a tag that has none as `tag` and its
   * number. Values from 2^53 on are not exact.
   */
  toJSON(): Record<string, number> {
    const json: Record<string, number> = {};
    for (let i = 0; i < this.#count; i++) {
      const tag = this.#tags[i];
      json[STAT_NAMES[tag] ?? `tag${tag}`] = this.#values[i];
    }
    return json;
  }
}
