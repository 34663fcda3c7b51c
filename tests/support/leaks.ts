/**
 * Leak checks for what the sanitizers of `deno test` do not see: descriptors
 * and shared mappings that were made by system calls.
 *
 * The numbers come from /proc/self/fd and /proc/self/maps. Only shared mappings
 * count: those are guest memory, memfds and files, while V8 maps and unmaps
 * private memory as it likes.
 *
 * The runtime has a pair of sockets for signals, which it makes when it first needs
 * them: some hundred milliseconds after the start of a process, whatever that does.
 * They are made when this module is loaded, before anybody counts.
 *
 * @module
 */
import { openFdCount } from "../../sys/fd.ts";
import { mappingsOf } from "../../sys/mapping.ts";
import { DeadlineError, waitUntil } from "./deadline.ts";

const ignore = (): void => {};
Deno.addSignalListener("SIGUSR2", ignore);
Deno.removeSignalListener("SIGUSR2", ignore);

/** What a process holds. */
export interface Resources {
  /** Open descriptors. */
  readonly descriptors: number;
  /** Mappings with MAP_SHARED. */
  readonly mappings: number;
}

/** Counts what this process holds now, over all of its threads. */
export function resources(): Resources {
  const shared = [" rw-s ", " r--s ", " -w-s ", " ---s "];
  return {
    descriptors: openFdCount(),
    mappings: shared.reduce((sum, flags) => sum + mappingsOf(flags), 0),
  };
}

/** How {@linkcode assertNoLeaks} measures. */
export interface LeakOptions {
  /** How often the body runs between the two counts; 3 by default. */
  readonly times?: number;
  /** Milliseconds for what is released later, in other threads; 2,000. */
  readonly settle?: number;
}

/**
 * Runs a body and asserts that it releases all that it takes. It runs once
 * before the first count, for what is made once and kept.
 *
 * @param body What to run.
 * @param options How to measure.
 * @throws {Error} When more is held at the end than before.
 */
export async function assertNoLeaks(
  body: () => void | Promise<void>,
  options: LeakOptions = {},
): Promise<void> {
  const { times = 3, settle = 2_000 } = options;
  await body();
  const before = await settled(settle);
  for (let i = 0; i < times; i++) await body();
  let after = before;
  const released = (): boolean => {
    after = resources();
    return after.descriptors <= before.descriptors &&
      after.mappings <= before.mappings;
  };
  try {
    await waitUntil(released, { what: "descriptors", timeout: settle });
  } catch (error) {
    if (!(error instanceof DeadlineError)) throw error;
    throw new Error(
      `Leaked in ${times} runs: ${before.descriptors} → ${after.descriptors} ` +
        `descriptors, ${before.mappings} → ${after.mappings} shared mappings`,
    );
  }
}

/** The counts once they are the same in two looks, 20 ms apart. */
async function settled(timeout: number): Promise<Resources> {
  let last = resources();
  await waitUntil(() => {
    const now = resources();
    const same = now.descriptors === last.descriptors &&
      now.mappings === last.mappings;
    last = now;
    return same;
  }, { what: "descriptors to settle", timeout, interval: 20 });
  return last;
}
