/** How scenarios are run: what is skipped, what goes on, what is given up. */

import { assert, assertEquals } from "@std/assert";
import type { Bench } from "./bench.ts";
import { RESTARTS, runScenarios, type Scenario } from "./context.ts";
import type { Guest, Subject } from "./guest.ts";
import { type Outcome, RecordedSteps } from "./recorded_steps.ts";

/** A guest whose life the tests decide. */
class FakeGuest {
  alive = true;
  disposed = false;
  readonly lastLines = "panic: of a test";
  readonly system = { tools: { bus: ["pciconf"], root: [] } };

  has(tool: string): Promise<boolean> {
    if (!this.alive) return Promise.reject(new Error("the guest is lost"));
    return Promise.resolve(tool !== "pciconf");
  }

  answers(): Promise<boolean> {
    return Promise.resolve(this.alive);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.disposed = true;
    return Promise.resolve();
  }
}

interface Run {
  readonly outcomes: readonly Outcome[];
  readonly guests: readonly FakeGuest[];
  readonly resets: number;
  readonly said: string;
}

async function run(
  scenarios: readonly Scenario[],
  startsBefore = Infinity,
): Promise<Run> {
  const steps = new RecordedSteps();
  const guests: FakeGuest[] = [];
  const said: string[] = [];
  let resets = 0;
  const bench = {
    vacated: () => Promise.resolve(),
    ctl: (...args: string[]) => {
      if (args.join(" ") === "balloon set 100%") resets++;
      return Promise.resolve("");
    },
  };
  await runScenarios(steps.context, {
    peer: new FakeGuest() as unknown as Guest,
    bench: bench as unknown as Bench,
    say: (line) => said.push(line),
    start: () => {
      if (guests.length >= startsBefore) {
        return Promise.reject(new Error("no more guests"));
      }
      const guest = new FakeGuest();
      guests.push(guest);
      return Promise.resolve(guest as unknown as Guest);
    },
  }, scenarios);
  const { outcomes } = steps;
  return { outcomes, guests, resets, said: said.join("\n") };
}

function scenario(
  name: string,
  body: (guest: FakeGuest) => void = () => {},
  subjects: readonly Subject[] = ["root"],
): Scenario {
  return {
    name,
    subjects,
    run: ({ guest }) => {
      body(guest as unknown as FakeGuest);
      return Promise.resolve();
    },
  };
}

const fails = (name: string) =>
  scenario(name, () => {
    throw new Error("wrong");
  });

const panics = (name: string) =>
  scenario(name, (guest) => {
    guest.alive = false;
    throw new Error("panicked");
  });

const shape = ({ outcomes }: Run) =>
  outcomes.map(({ name, how }) => `${name}: ${how}`);

Deno.test("scenarios: one that fails does not stop the others", async () => {
  const result = await run([scenario("a"), fails("b"), scenario("c")]);
  assertEquals(shape(result), ["a: ok", "b: failed", "c: ok"]);
  assertEquals(result.guests.length, 1);
  assertEquals(result.guests[0].disposed, true);
  assertEquals(
    result.said,
    "FAILED b; the console's last lines:\npanic: of a test",
  );
});

Deno.test("scenarios: a guest that is lost is started again", async () => {
  const result = await run([panics("a"), scenario("b"), scenario("c")]);
  assertEquals(shape(result), ["a: failed", "b: ok", "c: ok"]);
  assertEquals(result.guests.map(({ disposed }) => disposed), [true, true]);
  assertEquals(result.resets, 1);
});

Deno.test("scenarios: a guest that dies unseen fails the next, by its own words", async () => {
  const dies = scenario("a", (guest) => guest.alive = false);
  const result = await run([dies, scenario("b", () => {}, ["bus"])]);
  assertEquals(shape(result), ["a: ok", "b: failed"]);
  assertEquals(result.outcomes[1].error, "the guest is lost");
});

Deno.test("scenarios: guests are not started for ever", async () => {
  const all = Array.from("abcdefg", (name) => panics(name));
  const result = await run(all);
  assertEquals(result.guests.length, 1 + RESTARTS);
  assert(result.guests.every(({ disposed }) => disposed));
  assertEquals(result.outcomes.map(({ how }) => how), all.map(() => "failed"));
  const { error } = result.outcomes.at(-1)!;
  assertEquals(error, "not run: there is no guest any more");
});

Deno.test("scenarios: what cannot run without a guest fails by name", async () => {
  const result = await run([panics("a"), scenario("b"), scenario("c")], 1);
  assertEquals(shape(result), ["a: failed", "b: failed", "c: failed"]);
  assert(result.said.endsWith("cannot be started again: no more guests"));
});

Deno.test("scenarios: after the last one nothing is started", async () => {
  const result = await run([scenario("a"), panics("b")]);
  assertEquals(result.guests.length, 1);
});

Deno.test("scenarios: a tool that is missing skips by name", async () => {
  const result = await run([scenario("a", () => {}, ["bus"]), scenario("b")]);
  assertEquals(shape(result), [
    "a [skipped: this guest has no pciconf]: skipped",
    "b: ok",
  ]);
  assertEquals(result.said, "SKIP a: this guest has no pciconf");
});
