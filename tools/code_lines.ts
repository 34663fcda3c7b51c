import { stripTypeScriptTypes } from "node:module";

/**
 * The number of lines of a TypeScript file that hold code: no blank lines, no
 * comments, no types.
 *
 * @param source Its text.
 */
export function codeLines(source: string): number {
  const code = stripTypeScriptTypes(source, { mode: "strip" })
    .replaceAll(
      /\/\*[\s\S]*?\*\//g,
      (comment) => comment.replaceAll(/[^\n]/g, ""),
    )
    .replaceAll(/^\s*\/\/.*$/gm, "");
  return code.split("\n").filter((line) => /[^\s;]/.test(line)).length;
}
