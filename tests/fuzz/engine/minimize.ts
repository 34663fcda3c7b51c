/**
 * Makes an input small, as long as something holds of it.
 *
 * @module
 */

import { recordCount, type Shape, withoutRecords } from "./mutator.ts";

/** Whether what matters holds of an input. */
export type Property = (input: Uint8Array) => boolean | Promise<boolean>;

/**
 * Takes out records, half of them first and one at a time last, then sets
 * bytes to zero, then cuts off zeroes.
 *
 * @param holds is true of the input; most often it is a run
 * @param most runs at most
 */
export async function minimize(
  input: Uint8Array,
  shape: Shape,
  holds: Property,
  most: number = 2_000,
): Promise<Uint8Array> {
  let best = input;
  let left = most;
  const attempt = async (candidate: Uint8Array): Promise<boolean> => {
    if (left-- <= 0 || !await holds(candidate)) return false;
    best = candidate;
    return true;
  };
  let shorter = true;
  while (shorter && left > 0) {
    shorter = false;
    const size = recordCount(best, shape);
    for (let count = Math.ceil(size / 2); count >= 1; count >>= 1) {
      let first = recordCount(best, shape) - count;
      for (; first >= 0; first -= count) {
        if (await attempt(withoutRecords(best, shape, first, count))) {
          shorter = true;
        }
      }
    }
  }
  for (let i = 0; i < best.length; i++) {
    if (best[i] === 0) continue;
    const candidate = best.slice();
    candidate[i] = 0;
    await attempt(candidate);
  }
  const end = best.findLastIndex((byte) => byte !== 0) + 1;
  if (end < best.length) await attempt(best.slice(0, end));
  return best;
}
