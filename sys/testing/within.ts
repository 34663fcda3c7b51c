/**
 * Bounded waits for tests.
 *
 * @module
 */

/**
 * The result of `promise`, or an error that names `what` if it does not come
 * in time.
 *
 * @param ms milliseconds; long enough for a slow machine
 */
export async function within<T>(
  what: string,
  promise: Promise<T>,
  ms = 20_000,
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`${what}: nothing happened within ${ms} ms`)),
    ms,
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The next message of a Worker; an uncaught error of it rejects. */
export function nextMessage(worker: Worker): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  worker.onmessage = (event) => resolve(event.data);
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new Error(event.message));
  };
  return promise;
}

/** Resolves when `condition` holds; rejects if it does not in time. */
export async function until(
  what: string,
  condition: () => boolean,
  ms = 20_000,
): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) {
      throw new Error(`${what}: not so within ${ms} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
