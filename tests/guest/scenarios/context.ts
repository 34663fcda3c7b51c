/**
 * What a scenario gets and what it says of itself.
 *
 * @module
 */

import { skippedName } from "../../support/skip.ts";
import type { Bench } from "./bench.ts";
import type { Guest, Subject } from "./guest.ts";

/** What a scenario works with. */
export interface Context {
  readonly guest: Guest;
  /** Another guest on the same switch, with every tool. */
  readonly peer: Guest;
  readonly bench: Bench;
  /** Leaves a part of the scenario out, by name and reason. */
  skip(name: string, reason: string): Promise<void>;
}

/** Something that must work. */
export interface Scenario {
  readonly name: string;
  /** Short enough for every run of the tests. */
  readonly quick?: boolean;
  /** What the guest must have tools for. */
  readonly subjects: readonly Subject[];
  readonly run: (context: Context) => Promise<void>;
}

/** Addresses of the guest and of its peer. */
export const ADDRESS = { guest: "10.8.0.1", peer: "10.8.0.2" } as const;

/** The tools of `subjects` that a guest lacks. */
export async function missingTools(
  guest: Guest,
  subjects: readonly Subject[],
): Promise<string[]> {
  const tools = new Set(
    subjects.flatMap((subject) => guest.system.tools[subject]),
  );
  const missing: string[] = [];
  for (const tool of tools) if (!await guest.has(tool)) missing.push(tool);
  return missing;
}

/**
 * Runs scenarios as steps of a test. One that needs a tool which the guest lacks
 * is skipped and says so. One that fails does not stop those after it, as long as
 * the guest answers.
 */
export async function runScenarios(
  test: Deno.TestContext,
  context: Omit<Context, "skip">,
  scenarios: readonly Scenario[],
): Promise<void> {
  const { guest } = context;
  for (const { name, subjects, run } of scenarios) {
    const missing = await missingTools(guest, subjects);
    if (missing.length > 0) {
      const reason = `this guest has no ${missing.join(", no ")}`;
      await skip(test, name, reason);
      continue;
    }
    const good = await test.step(name, async (step) => {
      await run({
        ...context,
        skip: (part, reason) => skip(step, part, reason),
      });
    });
    // The step has failed the test; the others may still tell something.
    if (!good && (await guest.run("true")).status !== 0) return;
  }
}

async function skip(
  test: Deno.TestContext,
  name: string,
  reason: string,
): Promise<void> {
  console.log(`SKIP ${name}: ${reason}`);
  await test.step({ name: skippedName(name, reason), ignore: true, fn() {} });
}
