/**
 * The recipes of the documents: what they serve is served, and QEMU takes the
 * devices as they stand there, with as many processors as they say. A machine
 * that is not started finds out: QEMU negotiates numbers of queues before.
 *
 * A recipe is a `qemu-system-x86_64 …` in a block of shell commands, with the
 * `vhostd serve` before it on its page. `…` stands for what any machine has.
 */

import { assert, assertEquals } from "@std/assert";
import { ChildProcess } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { writeSparseFile } from "../support/sparse_file.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS, untilServing } from "../support/vhostd.ts";
import { passtOrReason, wrapper } from "./rig/network.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { startQemu } from "./rig/qemu.ts";

const ROOT = new URL("../../", import.meta.url);
/** The pages, and how many recipes each has at least. */
const PAGES: readonly (readonly [string, number])[] = [
  ["README.md", 5],
  ["docs/linux.md", 1],
  ["docs/freebsd.md", 2],
];
const EMULATOR = "qemu-system-x86_64";
/** Bytes of an image: enough for any partition table. */
const IMAGE_SIZE = 16 << 20;
/** QEMU's options without a value. */
const FLAGS = ["-nographic"];

/** Two commands that belong together. */
interface Recipe {
  /** Page and line. */
  readonly place: string;
  /** The arguments of `vhostd`. */
  readonly serve: readonly string[];
  /** Those of QEMU. */
  readonly qemu: readonly string[];
}

/** The commands of a page's shell blocks, with their lines. */
function* commands(text: string): Generator<readonly [number, string[]]> {
  for (const block of text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
    let line = text.slice(0, block.index).split("\n").length + 1;
    const joined = block[1].replaceAll("\\\n", "\0");
    for (const command of joined.split("\n")) {
      const words = command.replace(/\s#.*$/, "").split(/[\s\0]+/);
      yield [line, words.filter((word) => word !== "" && word !== "…")];
      line += command.split("\0").length;
    }
  }
}

function recipesOf(page: string): Recipe[] {
  const found: Recipe[] = [];
  let serve: string[] = [];
  for (
    const [line, words] of commands(Deno.readTextFileSync(new URL(page, ROOT)))
  ) {
    const [program, ...rest] = words;
    if (program === "vhostd" && rest[0] === "serve") serve = rest;
    if (program !== EMULATOR) continue;
    found.push({ place: `${page}:${line}`, serve, qemu: rest });
  }
  return found;
}

/** A word with its files and sockets in a directory of the test's. */
function moved(word: string, directory: TemporaryDirectory): string {
  return word.replaceAll(
    /\b(path|socket)=(?:\/run\/vhostd\/)?([^/,]+)/g,
    (_, key, name) => `${key}=${directory.file(name)}`,
  );
}

function valuesOf(key: string, words: readonly string[]): string[] {
  const pattern = new RegExp(`\\b${key}=([^,]+)`, "g");
  return words.flatMap((word) =>
    Array.from(word.matchAll(pattern), ([, value]) => value)
  );
}

/** What is said of processors and memory, and the arguments that remain. */
function machineOf(
  words: readonly string[],
): { smp: number; memory: string[]; devices: string[] } {
  const memory: string[] = [];
  const devices: string[] = [];
  let smp = 2; // where a recipe leaves it to the reader: more than one
  for (let i = 0; i < words.length; i++) {
    const option = words[i];
    if (FLAGS.includes(option)) continue;
    const value = words[++i];
    if (option === "-accel") continue;
    if (option === "-smp") smp = Number(value);
    else if (["-m", "-object", "-machine"].includes(option)) {
      memory.push(option, value);
    } else devices.push(option, value);
  }
  return { smp, memory, devices };
}

const missing = await prepareOrReason(["qemu"]);
const { passt, reason } = await passtOrReason();

async function follow(recipe: Recipe): Promise<void> {
  using directory = TemporaryDirectory.make("recipe");
  const serve = recipe.serve.map((word) => moved(word, directory));
  for (const path of valuesOf("path", serve)) {
    writeSparseFile(path, IMAGE_SIZE, []);
  }
  if (passt !== null) wrapper(directory, "passt", passt);
  await using vhostd = ChildProcess.start(Deno.execPath(), {
    name: "vhostd",
    args: [...COMMAND_ARGUMENTS, ...serve, "--management=off"],
    env: { PATH: `${directory.path}:${Deno.env.get("PATH")}` },
  });
  await untilServing(vhostd);
  await attach(recipe.qemu.map((word) => moved(word, directory)));
  assertEquals(vhostd.ended, false, vhostd.stderr.text);
}

/** Has QEMU make a machine of a recipe's arguments. */
async function attach(words: readonly string[]): Promise<void> {
  const { smp, memory, devices } = machineOf(words);
  if (memory.length > 0) {
    const size = memory[memory.indexOf("-m") + 1];
    assertEquals(
      memory.slice().sort(),
      [
        ...["-m", size],
        ...["-machine", "q35,memory-backend=mem"],
        ...["-object", `memory-backend-memfd,id=mem,size=${size},share=on`],
      ].sort(),
    );
  }
  await using qemu = await startQemu({ smp, devices: [...devices, "-S"] });
  const { status } = await qemu.qmp.execute("query-status") as {
    status: string;
  };
  assertEquals(status, "prelaunch");
}

for (const [page, least] of PAGES) {
  const recipes = recipesOf(page);
  Deno.test(`${page} has recipes`, () => assert(recipes.length >= least));
  for (const recipe of recipes) {
    const usesPasst = recipe.serve.some((word) => word.includes("=passt"));
    skipUnless(
      missing === null && (!usesPasst || passt !== null),
      missing ?? reason,
    ).test(`a recipe is taken by QEMU: ${recipe.place}`, () => follow(recipe));
  }
}

skipUnless(missing === null, missing ?? "").test(
  "what `serve` prints is taken by QEMU",
  async () => {
    using directory = TemporaryDirectory.make("recipe");
    await using vhostd = ChildProcess.start(Deno.execPath(), {
      name: "vhostd",
      args: [...COMMAND_ARGUMENTS, "serve", "--management=off"],
      cwd: directory.path,
    });
    await untilServing(vhostd);
    const [, printed] =
      /^qemu-system-x86_64 ((?:.*\\\n)*.*)$/m.exec(vhostd.stdout.text) ?? [];
    const words = printed.split(/[\s\\]+/).filter((word) => word !== "");
    assertEquals(words.filter((word) => word === "-device").length, 4);
    await attach(words);
  },
);
