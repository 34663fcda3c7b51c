import { join } from "@std/path";

/** Folders that hold nothing of the repository's own. */
const skipped = new Set([".git", "node_modules", "coverage", "vhostd-data"]);

/**
 * Lists the files of a folder and of those in it, in order.
 *
 * @param root The folder.
 * @param prefix Where to begin, a path from the root.
 * @returns Paths from the root.
 */
export async function* filesOf(
  root: string,
  prefix = "",
): AsyncGenerator<string> {
  const entries = await Array.fromAsync(Deno.readDir(join(root, prefix)));
  entries.sort((a, b) => a.name < b.name ? -1 : 1);
  for (const { name, isDirectory, isFile } of entries) {
    const path = prefix === "" ? name : `${prefix}/${name}`;
    if (isDirectory && !skipped.has(name)) yield* filesOf(root, path);
    else if (isFile) yield path;
  }
}
