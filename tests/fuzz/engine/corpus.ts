/**
 * Inputs on disk: a folder for each target, a file for each input, named by its
 * contents.
 *
 * @module
 */

import { fromFileUrl, join } from "@std/path";

const here = fromFileUrl(new URL("../", import.meta.url));

/** The folder of the inputs that lead to much code. */
export function corpusFolder(target: string): string {
  return join(here, "corpus", target);
}

/** The folder of the inputs that once were findings. */
export function regressionFolder(target: string): string {
  return join(here, "regressions", target);
}

/** An input and the name of its file. */
export interface NamedInput {
  readonly name: string;
  readonly input: Uint8Array<ArrayBuffer>;
}

/** The inputs of a folder, by name; none where there is no folder. */
export function readInputs(folder: string): NamedInput[] {
  let entries: Deno.DirEntry[];
  try {
    entries = Array.from(Deno.readDirSync(folder));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return entries.filter(({ isFile }) => isFile)
    .map(({ name }) => name).sort()
    .map((name) => ({ name, input: Deno.readFileSync(join(folder, name)) }));
}

/** A name for an input: 64 bits of a hash (FNV-1a) in hexadecimal digits. */
export function nameOf(input: Uint8Array): string {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (const byte of input) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100_0000_01b3n);
  }
  return hash.toString(16).padStart(16, "0");
}

/** Writes an input into a folder, which is made; the path. */
export function writeInput(folder: string, input: Uint8Array): string {
  Deno.mkdirSync(folder, { recursive: true });
  const path = join(folder, nameOf(input));
  Deno.writeFileSync(path, input);
  return path;
}
