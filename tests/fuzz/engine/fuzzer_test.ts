import { assert, assertEquals } from "@std/assert";
import { Coverage } from "./coverage.ts";
import { type Campaign, Fuzzer, replay } from "./fuzzer.ts";
import type { Target } from "./target.ts";

/** Loaded after the coverage was started. */
async function maze(guides: readonly string[]): Promise<Target> {
  const { walk } = await import("./maze_example.ts");
  return {
    name: "maze",
    header: 0,
    record: 4,
    maxRecords: 1,
    guides,
    seeds: [new Uint8Array(4)],
    run: (input) => void walk(input),
  };
}

async function campaign(
  guides: readonly string[],
  duration: number,
): Promise<Campaign> {
  const coverage = await Coverage.start();
  coverage.guide(guides);
  const target = await maze(guides);
  const options = { duration, seed: 1, inputs: [] };
  try {
    return await new Fuzzer(target, coverage, options).run();
  } finally {
    coverage.close();
  }
}

Deno.test("coverage leads through four bytes, one by one", async () => {
  const { found, executions } = await campaign(["/maze_example.ts"], 60_000);
  assert(found !== null, `${executions} runs found nothing`);
  assertEquals([...found.input], [41, 67, 12, 200]);
  const again = await replay(await maze([]), found.input);
  assertEquals(String(again?.error), "Error: The end of the maze");
});

Deno.test("without it they are not found", async () => {
  const { found, kept } = await campaign(["/nothing.ts"], 500);
  assertEquals([found, kept], [null, []]);
});

Deno.test("an audit that fails leads to the input", async () => {
  const coverage = await Coverage.start();
  let leaked = 0, counted = 0;
  const target: Target = {
    ...await maze([]),
    run(input) {
      if (input[0] === 1) leaked++;
    },
    audit() {
      const before = counted;
      counted = leaked;
      if (leaked > before) throw new Error("Leaked");
    },
  };
  const options = { duration: 60_000, seed: 1, inputs: [] };
  const { found, unexplained } = await new Fuzzer(target, coverage, options)
    .run();
  coverage.close();
  assertEquals([found?.input[0], unexplained], [1, []]);
});

Deno.test("an audit that fails for none of the inputs is told, with its reason", async () => {
  const coverage = await Coverage.start();
  let audits = 0;
  const target: Target = {
    ...await maze([]),
    run() {},
    audit() {
      if (++audits === 2) throw new Error("Two more descriptors");
    },
  };
  const options = { duration: 100, seed: 1, inputs: [] };
  const { found, unexplained } = await new Fuzzer(target, coverage, options)
    .run();
  coverage.close();
  assertEquals([found, unexplained], [null, ["Error: Two more descriptors"]]);
});
