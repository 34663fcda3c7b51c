/**
 * Waiting for a condition, for tests.
 *
 * @module
 */

const PATIENCE = 10_000;

/**
 * Lets everything else run until a condition holds.
 *
 * @param what is waited for, for the error
 * @throws {Error} when it does not hold after 10 s
 */
export async function until(
  condition: () => boolean,
  what: string,
): Promise<void> {
  const end = performance.now() + PATIENCE;
  while (!condition()) {
    if (performance.now() > end) {
      throw new Error(`Gave up waiting after ${PATIENCE} ms: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}
