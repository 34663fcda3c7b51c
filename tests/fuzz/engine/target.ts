/**
 * What can be fuzzed: the contract between the fuzzer and a target.
 *
 * @module
 */

/** What a run of a target tells, beside that it ended well. */
export interface Observer {
  /**
   * Notes that a state was reached: a number that stands for it, below 2^32.
   * An input that reaches a new one is kept, as one that reaches new code is.
   */
  reached(state: number): void;
  /** Where a replay prints what is done; `null` while nobody reads it. */
  readonly say: ((line: string) => void) | null;
}

/**
 * A target turns bytes into operations, does them to the code under test and
 * compares what happens with a model. It is deterministic: the same bytes do
 * the same, whatever ran before.
 *
 * Its input is a header and then records of one length, each an operation. A
 * record that is cut off is completed with zeroes, and every byte has a
 * meaning, so that any mutation of an input is an input.
 */
export interface Target {
  /** Name on the command line and of the folder of its corpus. */
  readonly name: string;
  /** Bytes of the header. */
  readonly header: number;
  /** Bytes of a record. */
  readonly record: number;
  /** Most records of an input. */
  readonly maxRecords: number;
  /**
   * Parts of the paths of modules whose coverage guides, each with a slash
   * before and after a folder.
   */
  readonly guides: readonly string[];
  /** Inputs to begin with, beside those of the corpus. */
  readonly seeds: readonly Uint8Array[];
  /**
   * Runs an input.
   *
   * @throws what was found: any exception is a finding
   */
  run(input: Uint8Array, observer: Observer): void | Promise<void>;
  /**
   * Checks what is too slow to be checked after each run. When it throws, the
   * runs since the last audit are repeated with an audit after each.
   */
  audit?(): void | Promise<void>;
  /** Gives everything back. */
  close?(): void | Promise<void>;
}

/** The code under test did not do what it should. */
export class Finding extends Error {
  /** Stable reason. */
  readonly kind = "finding";

  /** Makes a finding: what was expected, and what happened. */
  constructor(message: string) {
    super(message);
    this.name = "Finding";
  }
}

/** Throws a {@linkcode Finding} unless a condition holds. */
export function expect(
  condition: boolean,
  message: () => string,
): asserts condition {
  if (!condition) throw new Finding(message());
}

/** An observer that notes nothing. */
export const NOBODY: Observer = { reached() {}, say: null };
