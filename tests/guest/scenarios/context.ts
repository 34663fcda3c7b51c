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

/** What scenarios are run with. */
export interface Cast {
  readonly peer: Guest;
  readonly bench: Bench;
  /** Starts the guest: the first one, and another when it is lost. */
  start(): Promise<Guest>;
  /** Prints a line; the console does where it is absent. */
  readonly say?: (line: string) => void;
}

/** How often a guest that was lost is started again. */
export const RESTARTS = 3;

/**
 * Runs scenarios as steps of a test. One that needs a tool which the guest lacks
 * is skipped and says so. One that fails shows the last lines of the console, and
 * does not stop those after it: a guest that answers no more is started again, a
 * few times; what cannot be run then fails by name.
 */
export async function runScenarios(
  test: Deno.TestContext,
  cast: Cast,
  scenarios: readonly Scenario[],
): Promise<void> {
  let guest: Guest | null = await cast.start();
  let restarts = 0;
  try {
    for (const [i, scenario] of scenarios.entries()) {
      if (guest === null) {
        await test.step(scenario.name, () => {
          throw new Error("not run: there is no guest any more");
        });
        continue;
      }
      const good = await runScenario(test, { ...cast, guest }, scenario);
      // The step has failed the test; the others may still tell something.
      if (good || i === scenarios.length - 1) continue;
      if (await guest.answers()) continue;
      await guest[Symbol.asyncDispose]();
      guest = null;
      if (restarts++ < RESTARTS) guest = await startAgain(cast);
    }
  } finally {
    await guest?.[Symbol.asyncDispose]();
  }
}

type Skip = (
  test: Deno.TestContext,
  name: string,
  reason: string,
) => Promise<void>;

/** Runs one as a step; true when it was skipped, or held. */
async function runScenario(
  test: Deno.TestContext,
  context: Omit<Context, "skip"> & Cast,
  { name, subjects, run }: Scenario,
): Promise<boolean> {
  const { guest, peer, bench, say = console.log } = context;
  const skip: Skip = async (step, name, reason) => {
    say(`SKIP ${name}: ${reason}`);
    await step.step({ name: skippedName(name, reason), ignore: true, fn() {} });
  };
  let missing: string[] = [];
  let lost: unknown = null;
  try {
    missing = await missingTools(guest, subjects);
  } catch (error) {
    lost = error;
  }
  if (missing.length > 0) {
    await skip(test, name, `this guest has no ${missing.join(", no ")}`);
    return true;
  }
  return await test.step(name, async (step) => {
    try {
      if (lost !== null) throw lost;
      await run({
        guest,
        peer,
        bench,
        skip: (part, reason) => skip(step, part, reason),
      });
    } catch (error) {
      say(`FAILED ${name}; the console's last lines:\n${guest.lastLines}`);
      throw error;
    }
  });
}

async function startAgain(cast: Cast): Promise<Guest | null> {
  const { say = console.log } = cast;
  say("The guest does not answer any more: another one is started.");
  try {
    await cast.bench.vacated();
    const guest = await cast.start();
    // It is to have all of its memory, whatever the other had.
    await cast.bench.ctl("balloon", "set", "100%");
    return guest;
  } catch (error) {
    say(`It cannot be started again: ${(error as Error).message}`);
    return null;
  }
}
