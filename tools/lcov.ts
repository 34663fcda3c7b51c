/** Lines of a file that hold code, and those of them that were reached. */
export interface FileLines {
  /** Path from the root. */
  readonly file: string;
  /** Lines with code. */
  readonly found: number;
  /** Lines that were reached. */
  readonly hit: number;
}

/**
 * Reads line counts from a report in the LCOV format.
 *
 * @param text The report: records of `SF:PATH`, `DA:LINE,COUNT` …
 * `end_of_record`.
 * @param root The root, with a slash at its end; files elsewhere are left out.
 */
export function readLcov(text: string, root: string): FileLines[] {
  const files: FileLines[] = [];
  for (const record of text.split("end_of_record")) {
    const path = /^SF:(.+)$/m.exec(record)?.[1];
    if (path === undefined || !path.startsWith(root)) continue;
    const counts = Array.from(
      record.matchAll(/^DA:\d+,(\d+)/gm),
      ([, count]) => Number(count),
    );
    files.push({
      file: path.slice(root.length),
      found: counts.length,
      hit: counts.filter((count) => count > 0).length,
    });
  }
  return files;
}
