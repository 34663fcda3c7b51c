/**
 * Waiting for a balloon, with a line that tells how far it is.
 *
 * @module
 */

import { HostError } from "../error.ts";
import { Balloon } from "../management/type_methods.ts";
import { describeSize } from "../options/parse.ts";

/** How often to look, in ms. */
const INTERVAL = 200;
const BAR = 30;

/** Where progress is shown. */
export interface ProgressOutput {
  /** Whether a line can be written over. */
  readonly terminal: boolean;
  /** Takes text. */
  write(text: string): void;
}

const STDERR: ProgressOutput = {
  terminal: Deno.stderr.isTerminal(),
  write: (text) => void Deno.stderr.writeSync(new TextEncoder().encode(text)),
};

/**
 * Waits until a balloon has its target.
 *
 * @param ask the status of the balloon
 * @returns the last status
 * @throws {HostError} of kind `device` when the guest has left
 */
export async function watchBalloon(
  ask: () => Promise<unknown>,
  output: ProgressOutput = STDERR,
): Promise<unknown> {
  let shown = "";
  for (;;) {
    const result = await ask();
    const { name, memory, actual, target, progress } = Balloon.parse(result);
    const done = actual === target;
    if (!done && memory === 0) {
      if (output.terminal) output.write("\n");
      throw new HostError(
        "device",
        `Cannot wait for "${name}" any longer: its guest left before it had ${
          describeSize(target)
        } in the balloon`,
      );
    }
    const line = bar(done ? 1 : progress, actual, target);
    if (output.terminal && line !== shown) output.write(`\r${line}`);
    shown = line;
    if (done) {
      if (output.terminal) output.write("\n");
      return result;
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}

function bar(progress: number, actual: number, target: number): string {
  const full = Math.round(BAR * progress);
  return `[${"#".repeat(full)}${"-".repeat(BAR - full)}] ${
    describeSize(actual)
  } of ${describeSize(target)}`.padEnd(76);
}
