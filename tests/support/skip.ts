/**
 * Tests that need something which not every machine has.
 *
 * `deno test` knows no reason for a skipped test, so the reason goes into the
 * test's name, in square brackets at its end. `tests/run.ts` prints it, and
 * fails a run in which a test was skipped without one.
 *
 * @module
 */

/** Body of a test or of a step. */
export type TestBody = (t: Deno.TestContext) => void | Promise<void>;

/** Declares tests and steps that are skipped where something is missing. */
export interface Requirement {
  /** Whether the tests are run. */
  readonly met: boolean;
  /** Declares a test, like `Deno.test(name, body)`. */
  test(name: string, body: TestBody): void;
  /** Runs a step, like `t.step(name, body)`; true when it was run and held. */
  step(t: Deno.TestContext, name: string, body: TestBody): Promise<boolean>;
}

/**
 * The name of a skipped test, with its reason.
 *
 * @param name Name of the test.
 * @param reason Why it is skipped.
 */
export function skippedName(name: string, reason: string): string {
  return `${name} [skipped: ${reason}]`;
}

/**
 * Declares tests that are skipped unless a condition holds.
 *
 * @param condition What the tests need.
 * @param reason What is missing where it does not hold, for example
 * `needs /dev/kvm`.
 *
 * @example
 * ```ts ignore
 * const kvm = skipUnless(await hasKvm(), "needs /dev/kvm");
 * kvm.test("a guest boots with KVM", async () => { … });
 * ```
 */
export function skipUnless(condition: boolean, reason: string): Requirement {
  const named = (name: string): string =>
    condition ? name : skippedName(name, reason);
  return {
    met: condition,
    test(name, body) {
      Deno.test({ name: named(name), ignore: !condition, fn: body });
    },
    step(t, name, body) {
      return t.step({ name: named(name), ignore: !condition, fn: body });
    },
  };
}

/**
 * Says why a test that has begun goes no further, where what it needs shows
 * only while it runs. The test returns after it.
 *
 * @param t The test.
 * @param name What is left out.
 * @param reason What is missing, for example `needs loop devices`.
 */
export async function skipRest(
  t: Deno.TestContext,
  name: string,
  reason: string,
): Promise<void> {
  await t.step({ name: skippedName(name, reason), ignore: true, fn() {} });
}

/** Name of the variable that tells tests of a run with `--long`. */
export const LONG_VARIABLE = "VHOSTD_LONG";

/** Requirement of tests that take too long for every run. */
export function longOnly(): Requirement {
  return skipUnless(
    Deno.env.get(LONG_VARIABLE) === "1",
    "takes long, run by `deno task test:long`",
  );
}
