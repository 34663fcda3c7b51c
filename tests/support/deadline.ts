/**
 * Bounded waiting. Nothing in the tests waits without a limit: a wait that
 * can only end well hides the very defect it waits for.
 *
 * @module
 */

/** A bounded wait that ran out. `kind` is always `"timeout"`. */
export class DeadlineError extends Error {
  /** What class of failure this is; stable. */
  readonly kind = "timeout";

  /**
   * @param what what was waited for, as it completes "Waited for …"
   * @param milliseconds the limit that ran out
   */
  constructor(what: string, milliseconds: number) {
    super(`Waited ${milliseconds} ms for ${what}`);
    this.name = "DeadlineError";
  }
}

/**
 * The result of `promise`, or a {@linkcode DeadlineError} after
 * `milliseconds`. The promise itself goes on; the caller ends its cause.
 *
 * @param what what is waited for, for the message
 */
export async function withDeadline<T>(
  promise: Promise<T>,
  milliseconds: number,
  what: string,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new DeadlineError(what, milliseconds)),
      milliseconds,
    );
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Limits of {@linkcode waitUntil}. */
export interface WaitOptions {
  /** What is waited for, for the message. */
  what: string;
  /** The limit in milliseconds (10,000 when absent). */
  timeout?: number;
  /** The pause between two looks, in milliseconds (10 when absent). */
  interval?: number;
}

/**
 * Waits until `condition` holds, for states of other processes that announce
 * no change (a file, a line of /proc). An exception of the condition ends
 * the wait.
 *
 * @throws {DeadlineError} when the limit runs out first
 */
export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  options: WaitOptions,
): Promise<void> {
  const timeout = options.timeout ?? 10_000;
  const end = performance.now() + timeout;
  while (!await condition()) {
    if (performance.now() >= end) {
      throw new DeadlineError(options.what, timeout);
    }
    await new Promise((resolve) => setTimeout(resolve, options.interval ?? 10));
  }
}
