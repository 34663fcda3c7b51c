/**
 * Steps of a test about tests: how each ended is kept.
 *
 * @module
 */

/** How a step ended. */
export interface Outcome {
  readonly name: string;
  readonly how: "ok" | "failed" | "skipped";
  readonly error?: string;
}

/** Steps that may fail without failing the test that looks at them. */
export class RecordedSteps {
  readonly outcomes: Outcome[] = [];

  /** As scenarios take it. */
  get context(): Deno.TestContext {
    return this as unknown as Deno.TestContext;
  }

  /** As `Deno.TestContext.step`. */
  async step(
    what: string | { name: string; ignore: boolean },
    body?: (step: RecordedSteps) => unknown,
  ): Promise<boolean> {
    if (typeof what !== "string") {
      this.outcomes.push({ name: what.name, how: "skipped" });
      return false;
    }
    try {
      await body?.(this);
      this.outcomes.push({ name: what, how: "ok" });
      return true;
    } catch (error) {
      const { message } = error as Error;
      this.outcomes.push({ name: what, how: "failed", error: message });
      return false;
    }
  }
}
