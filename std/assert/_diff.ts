/**
 * A line difference for the messages of failed comparisons.
 *
 * The common head and tail are set aside; what is left goes through a table of
 * longest common subsequences. Two middles whose table would be too large are
 * shown one after the other, without a search for what they share.
 */
import { format, paint } from "./_message.ts";

type Line = { readonly sign: " " | "-" | "+"; readonly text: string };

/** Cells of the largest table (4 bytes each). */
const MAX_CELLS = 4_000_000;

/** Lengths of the longest common subsequence of every pair of tails. */
function tailLengths(a: readonly string[], b: readonly string[]): Uint32Array {
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      table[at] = a[i] === b[j]
        ? table[at + width + 1] + 1
        : Math.max(table[at + width], table[at + 1]);
    }
  }
  return table;
}

function middleLines(a: readonly string[], b: readonly string[]): Line[] {
  const lines: Line[] = [];
  let removed: Line[] = [];
  let added: Line[] = [];
  const longerFirst = b.length > a.length;
  const endHunk = (): void => {
    // Not by spreading: there may be more lines than a call takes arguments.
    for (const line of longerFirst ? added : removed) lines.push(line);
    for (const line of longerFirst ? removed : added) lines.push(line);
    removed = [];
    added = [];
  };
  const searched = (a.length + 1) * (b.length + 1) <= MAX_CELLS;
  const table = searched ? tailLengths(a, b) : new Uint32Array(0);
  const width = b.length + 1;
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (searched && i < a.length && j < b.length && a[i] === b[j]) {
      endHunk();
      lines.push({ sign: " ", text: a[i] });
      i++;
      j++;
    } else if (
      j === b.length ||
      (i < a.length && searched &&
        table[(i + 1) * width + j] >= table[i * width + j + 1]) ||
      (i < a.length && !searched)
    ) {
      removed.push({ sign: "-", text: a[i++] });
    } else {
      added.push({ sign: "+", text: b[j++] });
    }
  }
  endHunk();
  return lines;
}

function diffLines(a: readonly string[], b: readonly string[]): Line[] {
  const shorter = Math.min(a.length, b.length);
  let head = 0;
  while (head < shorter && a[head] === b[head]) head++;
  let tail = 0;
  while (
    tail < shorter - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]
  ) tail++;
  const common = (text: string): Line => ({ sign: " ", text });
  return [
    ...a.slice(0, head).map(common),
    ...middleLines(
      a.slice(head, a.length - tail),
      b.slice(head, b.length - tail),
    ),
    ...a.slice(a.length - tail).map(common),
  ];
}

/** The lines of a string, with its invisible characters made visible. */
function visibleLines(text: string): string[] {
  const marks: Record<string, string> = {
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\t": "\\t",
    "\v": "\\v",
    "\r": "\\r",
  };
  const lines = text.replaceAll(/[\\\f\t\v\r]|[\b]/g, (c) => marks[c]).split(
    "\n",
  );
  return lines.map((line, at) => at < lines.length - 1 ? `${line}\\n` : line);
}

/** The difference of two values, as the message of a failed assertion shows it. */
export function describeDifference(actual: unknown, expected: unknown): string {
  const strings = typeof actual === "string" && typeof expected === "string";
  const lines = strings
    ? diffLines(visibleLines(actual), visibleLines(expected))
    : diffLines(format(actual).split("\n"), format(expected).split("\n"));
  const header = `    ${paint("[Diff]", "bold", "gray")} ${
    paint("Actual", "bold", "red")
  } / ${paint("Expected", "bold", "green")}`;
  const body = lines.map(({ sign, text }) => {
    const line = `${sign}   ${text}`;
    if (sign === " ") return line;
    return paint(line, "bold", sign === "-" ? "red" : "green");
  });
  // Lines of strings end each in a line feed of their own.
  const end = strings ? ["", ""] : [""];
  return ["", "", header, "", "", ...body, ...end].join("\n");
}
