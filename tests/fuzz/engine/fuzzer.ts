/**
 * The loop: make inputs, run them, keep those that reach something new.
 *
 * Theory of operation. Inputs run in batches. After a batch the coverage is
 * looked at once; when something new was covered, the inputs of the batch run
 * again one by one, and those that cover it are made smaller and kept. An input
 * that reaches a new state of the target is kept as well. New inputs are made
 * of kept ones, younger ones more often, and a few of nothing.
 *
 * The state of the code under test must not matter: what a target keeps between
 * runs is not seen by the next one. A run that ends with an exception is a
 * finding; it ends the loop.
 *
 * @module
 */

import { type Coverage, CoverageMap, coversAll } from "./coverage.ts";
import { minimize } from "./minimize.ts";
import { Mutator } from "./mutator.ts";
import { Random } from "./random.ts";
import type { Target } from "./target.ts";

/** Inputs between two looks at the coverage. */
const BATCH = 48;
/** Runs that make a kept input smaller. */
const TRIM_RUNS = 60;

/** What a finding is. */
export interface Found {
  readonly input: Uint8Array;
  readonly error: unknown;
}

/** What a campaign came to. */
export interface Campaign {
  /** Runs. */
  readonly executions: number;
  /** Inputs that reached something new, those that were given included. */
  readonly kept: readonly Uint8Array[];
  /** States reached. */
  readonly states: number;
  /** Functions of which something was covered, and characters of code. */
  readonly functions: number;
  readonly characters: number;
  /** Why audits failed that did not fail when the inputs ran again. */
  readonly unexplained: readonly string[];
  /** Milliseconds. */
  readonly duration: number;
  readonly found: Found | null;
}

/** How to fuzz. */
export interface CampaignOptions {
  /** Milliseconds. */
  readonly duration: number;
  readonly seed: number;
  /** Inputs to begin with. */
  readonly inputs: readonly Uint8Array[];
  /** Inputs that reach new states alone are not kept. */
  readonly codeOnly?: boolean;
  /** Told of each input before it runs. */
  readonly before?: (input: Uint8Array) => void;
}

/** Fuzzes a target. */
export class Fuzzer {
  readonly #target: Target;
  readonly #coverage: Coverage;
  readonly #options: CampaignOptions;
  readonly #random: Random;
  readonly #mutator: Mutator;
  readonly #map = new CoverageMap();
  readonly #states = new Set<number>();
  readonly #kept: Uint8Array[] = [];
  #fresh = false;
  #executions = 0;
  readonly #unexplained: string[] = [];
  #found: Found | null = null;
  readonly #observer = {
    reached: (state: number): void => {
      if (this.#states.has(state)) return;
      this.#states.add(state);
      this.#fresh = true;
    },
    say: null,
  };

  /** @param coverage started before the target was loaded */
  constructor(target: Target, coverage: Coverage, options: CampaignOptions) {
    this.#target = target;
    this.#coverage = coverage;
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#mutator = new Mutator(target, this.#random);
  }

  /** Fuzzes until the time is over or something is found. */
  async run(): Promise<Campaign> {
    const start = performance.now();
    const end = start + this.#options.duration;
    await this.#coverage.take();
    const given = [...this.#target.seeds, ...this.#options.inputs];
    for (let i = 0; i < given.length && this.#found === null; i++) {
      await this.#judge(given[i], false);
    }
    await this.#audit(given);
    while (this.#found === null && performance.now() < end) {
      await this.#batch();
    }
    return {
      executions: this.#executions,
      kept: this.#kept,
      states: this.#states.size,
      functions: this.#map.functions,
      characters: this.#map.characters,
      unexplained: this.#unexplained,
      duration: performance.now() - start,
      found: this.#found,
    };
  }

  async #batch(): Promise<void> {
    const inputs: Uint8Array[] = [];
    await this.#coverage.take();
    for (let i = 0; i < BATCH && this.#found === null; i++) {
      const input = this.#next();
      inputs.push(input);
      this.#fresh = false;
      await this.#execute(input);
      if (this.#fresh) this.#kept.push(input);
    }
    if (this.#found !== null) return;
    await this.#audit(inputs);
    const covered = await this.#coverage.take();
    if (this.#map.novel(covered).length === 0) return;
    for (const input of inputs) {
      if (this.#found === null) await this.#judge(input, true);
    }
    // What was only covered by the batch as a whole is not looked for again.
    this.#map.add(covered);
  }

  #next(): Uint8Array {
    const random = this.#random;
    const kept = this.#kept;
    if (kept.length === 0 || random.oneIn(20)) return this.#mutator.generate();
    const recent = Math.min(kept.length, 16);
    const which = random.oneIn(2)
      ? random.below(kept.length)
      : kept.length - 1 - random.below(recent);
    return this.#mutator.mutate(kept[which], random.pick(kept));
  }

  /** Runs an input by itself and keeps it when it covers something new. */
  async #judge(input: Uint8Array, trim: boolean): Promise<void> {
    await this.#coverage.take();
    this.#fresh = false;
    await this.#execute(input);
    if (this.#found !== null) return;
    const covered = await this.#coverage.take();
    const places = this.#map.novel(covered);
    if (places.length === 0) {
      if (this.#fresh && !this.#options.codeOnly) this.#kept.push(input);
      return;
    }
    this.#map.add(covered);
    const small = !trim ? input : await minimize(
      input,
      this.#target,
      async (candidate) => {
        await this.#coverage.take();
        await this.#execute(candidate);
        return this.#found === null &&
          coversAll(await this.#coverage.take(), places);
      },
      TRIM_RUNS,
    );
    this.#kept.push(small);
  }

  async #execute(input: Uint8Array): Promise<void> {
    this.#executions++;
    this.#options.before?.(input);
    try {
      const result = this.#target.run(input, this.#observer);
      if (result !== undefined) await result;
    } catch (error) {
      this.#found = { input, error };
    }
  }

  /** Audits; when that fails, looks for the input that brought it about. */
  async #audit(inputs: readonly Uint8Array[]): Promise<void> {
    const { audit } = this.#target;
    if (audit === undefined || this.#found !== null) return;
    let reason: string;
    try {
      await audit.call(this.#target);
      return;
    } catch (error) {
      // Which input was it?
      reason = String(error);
    }
    for (const input of inputs) {
      try {
        await this.#execute(input);
        if (this.#found !== null) return;
        await audit.call(this.#target);
      } catch (error) {
        this.#found = { input, error };
        return;
      }
    }
    // None of them: nothing that comes again, as a leak of ours would.
    this.#unexplained.push(reason);
  }
}

/**
 * Runs one input, audit included.
 *
 * @returns what was found; `null` when nothing was
 */
export async function replay(
  target: Target,
  input: Uint8Array,
  say: ((line: string) => void) | null = null,
): Promise<{ error: unknown } | null> {
  try {
    await target.run(input, { reached() {}, say });
    await target.audit?.();
    return null;
  } catch (error) {
    return { error };
  }
}
