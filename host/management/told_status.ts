/**
 * What a device tells of itself, if it does.
 *
 * @module
 */

import { messageOf } from "../error.ts";
import type { SharedQuestion } from "../shared_question.ts";

/** How long (ms) a device may take to tell its status. */
export const STATUS_LIMIT = 5_000;

/** What is told of a device that tells nothing. */
export const UNTOLD: Readonly<Record<string, unknown>> = {
  connected: false,
  connections: 0,
  refusedConnections: 0,
  session: null,
  rings: [],
  device: {},
  problem: null,
};

/**
 * The status of a device; never rejects.
 *
 * @param question its answer is a JSON object
 * @param limit how long (ms) the device may take
 */
export async function toldStatus(
  question: SharedQuestion<unknown>,
  limit: number = STATUS_LIMIT,
): Promise<Record<string, unknown>> {
  try {
    return { ...UNTOLD, ...await question.ask(limit) as object };
  } catch (error) {
    return { ...UNTOLD, problem: messageOf(error) };
  }
}
