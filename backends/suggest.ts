/**
 * "Did you mean …": the nearest of a set of names.
 *
 * @module
 */

/**
 * Edit distance between two short strings: insertions, deletions,
 * substitutions and swaps of neighbours count 1 each.
 */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(
        previous[j] + 1,
        row[j - 1] + 1,
        previous[j - 1] + changed,
      );
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] &&
        a[i - 2] === b[j - 1];
      if (swapped) best = Math.min(best, before[j - 2] + 1);
      row.push(best);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length];
}

/**
 * The name that was probably meant.
 *
 * @returns the nearest of `names` where at most a third of the letters differ,
 * else the only one that begins with `given` or that `given` begins with, else
 * `null`
 *
 * @example Usage
 * ```ts
 * import { nearest } from "./suggest.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(nearest("raed-only", ["path", "read-only"]), "read-only");
 * assertEquals(nearest("colour", ["path", "read-only"]), null);
 * ```
 */
export function nearest(
  given: string,
  names: readonly string[],
): string | null {
  // What was typed may be arbitrarily long; no name is.
  if (given.length > 64) return null;
  const squeezed = squeeze(given);
  let best: string | null = null;
  let least = Infinity;
  for (const name of names) {
    const away = squeeze(name) === squeezed ? 0 : distance(given, name);
    if (away < least) [best, least] = [name, away];
  }
  if (best === null) return null;
  if (least <= Math.max(given.length, best.length) / 3) return best;
  const longer = names.filter((name) =>
    given.length >= 3 && (name.startsWith(given) || given.startsWith(name))
  );
  return longer.length === 1 ? longer[0] : null;
}

/** Whether two names are the same word: `readOnly`, `read_only`, `readonly`. */
export function areSame(one: string, two: string): boolean {
  return squeeze(one) === squeeze(two);
}

function squeeze(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, "");
}

/** ` (did you mean …?)` with a leading space, or the empty string. */
export function didYouMean(given: string, names: readonly string[]): string {
  const name = nearest(given, names);
  return name === null ? "" : ` (did you mean "${name}"?)`;
}
