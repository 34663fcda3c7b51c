/**
 * Files that are large and mostly empty.
 *
 * @module
 */

/** Writes a sparse file with bytes, or text, at places. */
export function writeSparseFile(
  path: string,
  size: number,
  pieces: readonly (readonly [number, Uint8Array | string])[],
): void {
  Deno.writeFileSync(path, new Uint8Array());
  Deno.truncateSync(path, size);
  using file = Deno.openSync(path, { write: true });
  for (const [at, content] of pieces) {
    const bytes = typeof content === "string"
      ? new TextEncoder().encode(content)
      : content;
    file.seekSync(at, Deno.SeekMode.Start);
    file.writeSync(bytes);
  }
}
