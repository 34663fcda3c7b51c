/**
 * Text that arrives over time, and waiting for a pattern in it.
 *
 * Theory of operation: a buffer keeps all text it was given and a cursor. A
 * wait looks for its patterns from the cursor on; when one matches, the
 * cursor moves behind the match, so the next wait never sees the same text
 * twice. Whoever feeds the buffer calls `append` and, at the end of its
 * source, `end`; both wake the one or more waits that are pending.
 *
 * @module
 */

/** What to look for: a literal string or a regular expression. */
export type Pattern = string | RegExp;

/** A pattern that was found. */
export interface Match {
  /** Which of the patterns matched (index into the list given). */
  readonly index: number;
  /** The matched text. */
  readonly text: string;
  /** The groups of a regular expression; entry 0 is the matched text. */
  readonly groups: readonly string[];
  /** The text between the previous match and this one. */
  readonly before: string;
}

/** How a wait on an {@linkcode OutputBuffer} ended without a match. */
export type WaitFailure = "timeout" | "closed";

/** Text that arrives over time. */
export class OutputBuffer {
  #text = "";
  #cursor = 0;
  #ended = false;
  #wakers: Array<() => void> = [];

  /** Everything that has arrived. */
  get text(): string {
    return this.#text;
  }

  /** What has arrived since the last match. */
  get pending(): string {
    return this.#text.slice(this.#cursor);
  }

  /** True when the source has ended. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Adds text and wakes the waits. */
  append(text: string): void {
    if (text === "") return;
    this.#text += text;
    this.#wake();
  }

  /** Says that no more text comes. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Moves the cursor to the end of the text; returns what was skipped. */
  skip(): string {
    const skipped = this.pending;
    this.#cursor = this.#text.length;
    return skipped;
  }

  /**
   * The earliest match behind the cursor, or `null`. The cursor moves behind
   * it. Of two matches at the same place the pattern named first wins.
   */
  take(patterns: readonly Pattern[]): Match | null {
    let best: { index: number; at: number; groups: string[] } | null = null;
    for (let index = 0; index < patterns.length; index++) {
      const found = find(patterns[index], this.#text, this.#cursor);
      if (found !== null && (best === null || found.at < best.at)) {
        best = { index, ...found };
      }
    }
    if (best === null) return null;
    const before = this.#text.slice(this.#cursor, best.at);
    this.#cursor = best.at + best.groups[0].length;
    return {
      index: best.index,
      text: best.groups[0],
      groups: best.groups,
      before,
    };
  }

  /** True when one of `patterns` occurs behind the cursor, which stays. */
  peek(patterns: readonly Pattern[]): boolean {
    return patterns.some((p) => find(p, this.#text, this.#cursor) !== null);
  }

  /**
   * Waits for one of `patterns`, at most `timeout` milliseconds.
   *
   * @returns the match, or why there is none
   */
  async wait(
    patterns: readonly Pattern[],
    timeout: number,
  ): Promise<Match | WaitFailure> {
    let expired = false;
    const timer = setTimeout(() => {
      expired = true;
      this.#wake();
    }, timeout);
    try {
      while (true) {
        const match = this.take(patterns);
        if (match !== null) return match;
        if (this.#ended) return "closed";
        if (expired) return "timeout";
        await new Promise<void>((resolve) => this.#wakers.push(resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #wake(): void {
    const wakers = this.#wakers;
    this.#wakers = [];
    for (const wake of wakers) wake();
  }
}

function find(
  pattern: Pattern,
  text: string,
  from: number,
): { at: number; groups: string[] } | null {
  if (typeof pattern === "string") {
    const at = text.indexOf(pattern, from);
    return at < 0 ? null : { at, groups: [pattern] };
  }
  const flags = pattern.flags.replace("y", "");
  const search = new RegExp(
    pattern.source,
    flags.includes("g") ? flags : flags + "g",
  );
  search.lastIndex = from;
  const found = search.exec(text);
  return found === null
    ? null
    : { at: found.index, groups: Array.from(found, (group) => group ?? "") };
}
