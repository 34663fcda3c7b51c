/**
 * Calls of the device while a word of memory changes, and what may come of
 * them.
 *
 * Theory of operation: the word changes at one moment. Whoever reads it `n`
 * times may see the old value the first `k` times and the new one after, with
 * `k` from 0 to `n`. The model is run for each `k`; what the device did is right
 * when it is what one of these runs did. The `k` that the device itself has seen
 * is tried first, since another may look the same now and not later.
 *
 * @module
 */

import type { FuzzMemory, RacingWord } from "./fuzz_memory.ts";
import { lengthOf } from "../ring/program.ts";
import { readsOf, watchReads } from "./racing_reads.ts";

/** When which word changes to what. */
export interface RacePlan {
  /** Number of the read before which it changes. */
  readonly moment: number;
  /** It is the word that was read as many reads before. */
  readonly back: number;
  /** How the new value is made. */
  readonly kind: number;
  readonly value: number;
}

/** What a race came to. */
export interface Race<T> {
  /** What the device returned. */
  readonly result: T;
  /** The word that changed; `null` when the moment did not come. */
  readonly word: RacingWord | null;
  /** Reads of the word before it changed. */
  readonly seen: number;
}

function newValue({ kind, value }: RacePlan, old: number): number {
  switch (kind % 4) {
    case 0:
      return value;
    case 1:
      return lengthOf(value >>> 16, value & 0xffff);
    case 2:
      return old + (value << 24 >> 24) >>> 0;
    default:
      return (old ^ 1 << value % 32) >>> 0;
  }
}

/** Calls the device and changes a word meanwhile. */
export function runRace<T>(
  memory: FuzzMemory,
  plan: RacePlan,
  limit: number,
  device: () => T,
): Race<T> {
  const { moment, back } = plan;
  let word: RacingWord | null = null;
  const result = watchReads({
    limit,
    moment,
    back,
    change(place) {
      const address = memory.addressOf(place);
      if (address === null) return;
      const value = newValue(plan, memory.wordAt(address));
      word = { address, value };
      memory.changeReal(word);
    },
  }, device);
  const changed = word as RacingWord | null;
  const seen = changed === null ? 0 : readsOf(memory.placeOf(changed), moment);
  return { result, word: changed, seen };
}

/** What the model needs for a race. */
export interface Explanation {
  /** Runs the model; what differs from what the device did, or `null`. */
  attempt(): string | null;
  /** Undoes a run of the model, but for memory. */
  restore(): void;
}

/**
 * Looks for a moment that explains what the device did.
 *
 * @returns `null` when there is one, `"unknown"` when the model wrote to the
 * word itself, else what differs
 */
export function explainRace(
  memory: FuzzMemory,
  word: RacingWord,
  seen: number,
  { attempt, restore }: Explanation,
): string | null {
  const shadow = memory.snapshot();
  let most = 0;
  let difference: string | null = null;
  for (let i = 0; i <= most + 1; i++) {
    memory.race(word, i === 0 ? seen : i - 1);
    const found = attempt();
    if (memory.disturbed) {
      memory.settle();
      return "unknown";
    }
    if (found === null) {
      memory.settle();
      return null;
    }
    if (i === 0) difference = found;
    most = Math.max(most, memory.visits);
    restore();
    memory.restore(shadow);
  }
  return difference;
}
