/**
 * Which code ran: V8's own block coverage, without any instrumentation of ours.
 *
 * Theory of operation. V8 counts how often each block of a function runs, once
 * it was asked to, in every module that is loaded from then on. A look takes
 * and clears the counts of the functions that ran since the last look; it takes
 * half a millisecond, more than most inputs, so the fuzzer looks once for many
 * inputs and repeats those among which one reached something new.
 *
 * V8 joins neighbouring blocks with equal counts, so blocks have no identity.
 * What is remembered is therefore the text of each function, character by
 * character: covered at any time, or never.
 *
 * @module
 */

import { Session } from "node:inspector";

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly { readonly ranges: readonly Range[] }[];
}

/** Characters of functions that ran: 1 for each, by function. */
export type Covered = ReadonlyMap<string, Uint8Array>;

/** Places in functions: the first characters of what ran. */
export type Places = readonly (readonly [key: string, offset: number])[];

/** Looks at which code ran. */
export class Coverage {
  readonly #session = new Session();
  #guides: readonly string[] = [];

  /** Starts to count, in modules that are loaded from now on. */
  static async start(): Promise<Coverage> {
    const coverage = new Coverage();
    await coverage.#post("Profiler.enable");
    const parameters = { callCount: true, detailed: true };
    await coverage.#post("Profiler.startPreciseCoverage", parameters);
    return coverage;
  }

  private constructor() {
    this.#session.connect();
  }

  /** Looks at modules whose paths have one of these parts. */
  guide(guides: readonly string[]): void {
    this.#guides = guides;
  }

  #post(method: string, parameters?: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#session.post(
        method,
        parameters,
        (error: Error | null, result?: object) => {
          if (error) reject(error);
          else resolve(result);
        },
      );
    });
  }

  /** What ran since the last look. */
  async take(): Promise<Covered> {
    const { result } = await this.#post("Profiler.takePreciseCoverage") as {
      result: readonly ScriptCoverage[];
    };
    const covered = new Map<string, Uint8Array>();
    for (const { url, functions } of result) {
      if (!this.#guides.some((part) => url.includes(part))) continue;
      if (/\/testing\/|_test\.ts$/.test(url)) continue;
      for (const { ranges } of functions) {
        const [{ startOffset, endOffset, count }] = ranges;
        if (count === 0) continue;
        const text = new Uint8Array(endOffset - startOffset);
        // Inner blocks follow outer ones.
        for (const range of ranges) {
          text.fill(
            range.count > 0 ? 1 : 0,
            range.startOffset - startOffset,
            range.endOffset - startOffset,
          );
        }
        covered.set(`${url}:${startOffset}:${endOffset}`, text);
      }
    }
    return covered;
  }

  /** Stops to count. */
  close(): void {
    this.#session.disconnect();
  }
}

/** All that was covered so far. */
export class CoverageMap {
  readonly #seen = new Map<string, Uint8Array>();

  /** Functions of which something was covered. */
  get functions(): number {
    return this.#seen.size;
  }

  /** Characters of code that were covered. */
  get characters(): number {
    let sum = 0;
    for (const text of this.#seen.values()) {
      for (const covered of text) sum += covered;
    }
    return sum;
  }

  /** Where something was covered that never was before. */
  novel(covered: Covered): Places {
    const places: [string, number][] = [];
    for (const [key, text] of covered) {
      const seen = this.#seen.get(key);
      let before = false;
      for (let i = 0; i < text.length; i++) {
        const fresh = text[i] === 1 && seen?.[i] !== 1;
        if (fresh && !before) places.push([key, i]);
        before = fresh;
      }
    }
    return places;
  }

  /** Remembers what was covered. */
  add(covered: Covered): void {
    for (const [key, text] of covered) {
      const seen = this.#seen.get(key);
      if (seen === undefined) {
        this.#seen.set(key, text.slice());
        continue;
      }
      for (let i = 0; i < text.length; i++) seen[i] |= text[i];
    }
  }
}

/** Whether all places were covered. */
export function coversAll(covered: Covered, places: Places): boolean {
  return places.every(([key, offset]) => covered.get(key)?.[offset] === 1);
}
