import { stripVTControlCharacters } from "node:util";

/** Ends a message: the caller's own words after a colon, or a full stop. */
export function suffix(msg: string | undefined): string {
  return msg ? `: ${msg}` : ".";
}

/** Text without terminal escape sequences. */
export function plain(text: string): string {
  return stripVTControlCharacters(text);
}

/** A value as text: everything is shown, one entry a line, keys sorted. */
export function format(value: unknown): string {
  return Deno.inspect(value, {
    compact: false,
    depth: Infinity,
    getters: true,
    iterableLimit: Infinity,
    sorted: true,
    strAbbreviateSize: Infinity,
    trailingComma: true,
  });
}

const codes = { bold: [1, 22], red: [31, 39], green: [32, 39], gray: [90, 39] };

/** Colours text for a terminal, unless the user asked for none (NO_COLOR). */
export function paint(
  text: string,
  ...styles: readonly (keyof typeof codes)[]
): string {
  if (Deno.noColor) return text;
  let painted = text;
  for (const style of styles) {
    const [on, off] = codes[style];
    painted = `\x1b[${on}m${painted}\x1b[${off}m`;
  }
  return painted;
}
