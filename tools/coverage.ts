/**
 * Checks how many lines of the layers the unit tests reach.
 *
 * `deno test` has left its raw data in `coverage/raw`; this writes
 * `coverage/lcov.info`, prints a table and the files that are reached least, and
 * exits with 1 when less than 80 % of all lines are reached. Files that no test
 * loads count with all of their lines. Tests and their helpers do not count.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { codeLines } from "./code_lines.ts";
import { filesOf } from "./files.ts";
import { type FileLines, readLcov } from "./lcov.ts";

/** Percentage of lines that unit tests reach at least. */
const THRESHOLD = 80;
/** The end of each file of raw data: its other braces are indented. */
const END = "\n}";
/** Files to name, of those that are reached least. */
const LEAST = 10;

const layers = ["sys", "virtqueue", "vhost", "backends", "host"];

/** Whether a file counts: code of a layer, no test. */
export function isCounted(file: string): boolean {
  return layers.includes(file.split("/")[0]) && file.endsWith(".ts") &&
    !/_(?:test|bench)\.ts$/.test(file) && !file.includes("/testing/");
}

/** The percentage of lines reached; 100 of no lines. */
export function percentage(files: readonly FileLines[]): number {
  const found = files.reduce((sum, file) => sum + file.found, 0);
  const hit = files.reduce((sum, file) => sum + file.hit, 0);
  return found === 0 ? 100 : 100 * hit / found;
}

/** The table and the list, as text. */
export function describe(files: readonly FileLines[]): string {
  const row = (name: string, of: readonly FileLines[]): string =>
    `${name.padEnd(10)} ${percentage(of).toFixed(1).padStart(5)} %`;
  const inLayer = (layer: string): FileLines[] =>
    files.filter(({ file }) => file.startsWith(`${layer}/`));
  const least = files
    .filter((file) => percentage([file]) < THRESHOLD)
    .toSorted((a, b) => percentage([a]) - percentage([b]))
    .slice(0, LEAST)
    .map((file) =>
      `  ${percentage([file]).toFixed(1).padStart(5)} % ${file.file}`
    );
  return [
    ...layers.map((layer) => row(layer, inLayer(layer))),
    row("all", files),
    ...(least.length > 0 ? ["Reached least:", ...least] : []),
  ].join("\n");
}

/**
 * Takes away what processes left that were killed while they wrote it, as tests
 * do: the report fails for one that is torn.
 *
 * @returns how many
 */
export function removeTorn(directory: string): number {
  let torn = 0;
  const last = new Uint8Array(END.length), decoder = new TextDecoder();
  for (const { name } of Deno.readDirSync(directory)) {
    if (!name.endsWith(".json")) continue;
    const path = join(directory, name);
    using file = Deno.openSync(path);
    const { size } = file.statSync();
    if (size >= last.length) {
      file.seekSync(size - last.length, Deno.SeekMode.Start);
      file.readSync(last);
      if (decoder.decode(last) === END) continue;
    }
    Deno.removeSync(path);
    torn++;
  }
  return torn;
}

async function writeReport(root: string): Promise<string> {
  const torn = removeTorn(join(root, "coverage/raw"));
  if (torn > 0) console.log(`${torn} processes were killed before they told`);
  const path = join(root, "coverage/lcov.info");
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["coverage", "--lcov", `--output=${path}`, "coverage/raw"],
    cwd: root,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (code !== 0) {
    throw new Error(
      `deno coverage ended with code ${code}: ${
        new TextDecoder().decode(stderr).trim()
      }`,
    );
  }
  return await Deno.readTextFile(path);
}

/** The lines of every file that counts, loaded or not. */
async function measure(root: string): Promise<FileLines[]> {
  const loaded = readLcov(await writeReport(root), root)
    .filter(({ file }) => isCounted(file));
  const known = new Set(loaded.map(({ file }) => file));
  const unloaded: FileLines[] = [];
  for (const layer of layers) {
    for await (const file of filesOf(root, layer)) {
      if (!isCounted(file) || known.has(file)) continue;
      const found = codeLines(await Deno.readTextFile(join(root, file)));
      unloaded.push({ file, found, hit: 0 });
    }
  }
  return [...loaded, ...unloaded];
}

if (import.meta.main) {
  const root = fromFileUrl(new URL("../", import.meta.url));
  const files = await measure(root);
  console.log(describe(files));
  if (percentage(files) < THRESHOLD) {
    console.error(
      `The unit tests reach ${percentage(files).toFixed(1)} % of the lines: ` +
        `at least ${THRESHOLD} % would be right`,
    );
    Deno.exit(1);
  }
}
