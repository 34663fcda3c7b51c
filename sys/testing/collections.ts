/**
 * Garbage collections during a part of a program, as V8 reports them.
 *
 * @module
 */

import { run, RUN_INPUT, source } from "./run.ts";

/**
 * Has V8's own lines, which wait in a buffer of the C library, come out before
 * each line of the program.
 */
const IN_ORDER = `
const { symbols: { fflush } } = Deno.dlopen("libc.so.6", {
  fflush: { parameters: ["pointer"], result: "i32" },
});
const print = console.log;
console.log = (...words) => {
  fflush(null);
  print(...words);
};
`;

/** Tells names of packages apart, wherever the tests are started. */
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** What {@linkcode countCollections} found. */
export interface Collections {
  /** Number of collections during each part, by its name. */
  collections: Map<string, number>;
  /** All that the program printed. */
  output: string;
}

/**
 * Runs the text of a program in a process of its own, and counts collections
 * between the lines `begin NAME` and `end NAME` that it prints.
 *
 * @param text the program; `"./x.ts"` is a module of this layer
 * @param flags more flags for V8
 */
export async function countCollections(
  text: string,
  args: string[],
  flags: string[] = [],
): Promise<Collections> {
  const v8 = ["--trace-gc", ...flags].join(",");
  const [first, ...rest] = RUN_INPUT;
  const options = [`--config=${CONFIG}`, `--v8-flags=${v8}`];
  const command = [first, ...options, ...rest, ...args];
  const result = await run(Deno.execPath(), command, IN_ORDER + source(text));
  const collections = new Map<string, number>();
  let name: string | undefined;
  for (const line of result.stdout.split("\n")) {
    const [, edge, part] = line.match(/(begin|end) (\w+)/) ?? [];
    if (edge === "begin") collections.set(name = part, 0);
    else if (edge === "end") name = undefined;
    else if (name !== undefined && / ms: (Scav|Mark)/.test(line)) {
      collections.set(name, (collections.get(name) ?? 0) + 1);
    }
  }
  return { collections, output: result.stdout + result.stderr };
}
