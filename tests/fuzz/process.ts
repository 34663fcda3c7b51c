/**
 * The process that fuzzes: one target, one campaign. It is ended by what it
 * finds, be it a segmentation fault; `main.ts` starts it and looks after it.
 *
 * @module
 */

import {
  corpusFolder,
  nameOf,
  readInputs,
  regressionFolder,
  writeInput,
} from "./engine/corpus.ts";
import { Coverage } from "./engine/coverage.ts";
import { CurrentInput } from "./engine/current_input.ts";
import { type Campaign, type Found, Fuzzer, replay } from "./engine/fuzzer.ts";
import { minimize } from "./engine/minimize.ts";
import type { Target } from "./engine/target.ts";
import { targets } from "./targets.ts";

/** What the process is told, as JSON in its one argument. */
export interface ProcessOrder {
  readonly target: string;
  readonly seconds: number;
  readonly seed: number;
  readonly fresh: boolean;
  readonly keep: boolean;
  /** Path of the file for the input that runs now. */
  readonly current: string;
  /** Folder for findings. */
  readonly findings: string;
  /** Path of an input to run, and nothing else. */
  readonly replay?: string;
}

/** Exit code of a process that told what it found. */
export const REPORTED = 3;

/** What stays the same of an error when the input becomes smaller. */
function signature(error: unknown): string {
  return String(error).replaceAll(/0x[\da-f]+|\d+/g, "#").slice(0, 60);
}

function describe(error: unknown): string {
  return error instanceof Error ? error.stack ?? String(error) : String(error);
}

async function reportFinding(
  target: Target,
  found: Found,
  order: ProcessOrder,
  current: CurrentInput,
): Promise<void> {
  const wanted = signature(found.error);
  const holds = async (input: Uint8Array): Promise<boolean> => {
    current.note(input);
    const again = await replay(target, input);
    return again !== null && signature(again.error) === wanted;
  };
  const small = await holds(found.input)
    ? await minimize(found.input, target, holds)
    : found.input;
  const path = writeInput(order.findings, small);
  console.log(`${target.name}: FOUND ${describe(found.error)}`);
  await replay(target, small, (line) => console.log(`  ${line}`));
  console.log(
    `Replay: deno task fuzz --target ${target.name} --replay ${path}`,
  );
}

/** The smallest of the inputs that reach as much as all of them. */
async function reduce(
  target: Target,
  coverage: Coverage,
  inputs: readonly Uint8Array[],
  before: (input: Uint8Array) => void,
): Promise<readonly Uint8Array[]> {
  const unique = new Map(inputs.map((input) => [nameOf(input), input]));
  const sorted = [...unique.values()].sort((a, b) => a.length - b.length);
  const fuzzer = new Fuzzer(target, coverage, {
    duration: 0,
    seed: 1,
    inputs: sorted,
    codeOnly: true,
    before,
  });
  return (await fuzzer.run()).kept;
}

function writeCorpus(folder: string, inputs: readonly Uint8Array[]): void {
  const names = new Set(inputs.map(nameOf));
  for (const { name } of readInputs(folder)) {
    if (!names.has(name)) Deno.removeSync(`${folder}/${name}`);
  }
  for (const input of inputs) writeInput(folder, input);
}

function report(name: string, campaign: Campaign, seed: number): void {
  const { executions, duration, kept, functions, characters, states, found } =
    campaign;
  for (const reason of campaign.unexplained) {
    console.log(`${name}: an audit failed only once: ${reason}`);
  }
  const rate = Math.round(executions / duration * 1_000);
  console.log(
    `${name}: ${executions} runs in ${(duration / 1_000).toFixed(1)} s ` +
      `(${rate}/s, seed ${seed}), ${kept.length} inputs reach ${functions} ` +
      `functions, ${characters} characters of code and ${states} states, ` +
      (found === null ? "no findings" : "1 finding"),
  );
}

async function main(order: ProcessOrder): Promise<number> {
  const make = targets.get(order.target)!;
  using current = new CurrentInput(order.current);
  if (order.replay !== undefined) {
    const target = await make();
    const input = Deno.readFileSync(order.replay);
    current.note(input);
    const found = await replay(target, input, (line) => console.log(line));
    console.log(found === null ? "no finding" : describe(found.error));
    return found === null ? 0 : REPORTED;
  }
  // What the coverage guides by is not known before the target is there.
  const coverage = await Coverage.start();
  const target = await make();
  coverage.guide(target.guides);
  const folders = [corpusFolder(target.name), regressionFolder(target.name)];
  const inputs = order.fresh
    ? []
    : folders.flatMap(readInputs).map(({ input }) => input);
  const fuzzer = new Fuzzer(target, coverage, {
    duration: order.seconds * 1_000,
    seed: order.seed,
    inputs,
    before: (input) => current.note(input),
  });
  // What is made once is made before anything is counted.
  for (const seed of target.seeds) await replay(target, seed);
  const campaign = await fuzzer.run();
  report(target.name, campaign, order.seed);
  const { found } = campaign;
  if (found !== null) await reportFinding(target, found, order, current);
  else if (order.keep) {
    const note = (input: Uint8Array): void => current.note(input);
    const kept = await reduce(target, coverage, campaign.kept, note);
    writeCorpus(corpusFolder(target.name), kept);
    console.log(`${target.name}: the corpus has ${kept.length} inputs`);
  }
  await target.close?.();
  coverage.close();
  return found === null ? 0 : REPORTED;
}

if (import.meta.main) {
  Deno.exit(await main(JSON.parse(Deno.args[0])));
}
