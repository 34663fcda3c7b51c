/**
 * Checks the documents: what they point to exists, and no file names a package
 * registry.
 *
 * - A relative link of a Markdown file leads to a file or folder, and its
 *   fragment to a heading.
 * - Inline code that is a path from the root (`sys/fd.ts`) names a file or
 *   folder.
 * - No text file names a registry or a mirror. The lint rules say so for
 *   TypeScript; this says it for the rest.
 *
 * Run with `deno run --allow-read tools/check_docs.ts`; it prints each problem
 * with its file and line, and exits with 1 when there is any.
 *
 * @module
 */
import { dirname, fromFileUrl, join } from "@std/path";
import { filesOf } from "./files.ts";
import { findRegistryHosts } from "./registry_hosts.ts";

/** Something wrong in a file. */
export interface Problem {
  /** Path from the root. */
  readonly file: string;
  /** Line, from 1. */
  readonly line: number;
  /** What is wrong. */
  readonly message: string;
}

/** What exists in the repository. */
export interface Tree {
  /** Paths of all files and folders, from the root. */
  readonly paths: ReadonlySet<string>;
  /** Fragments of the headings of each Markdown file. */
  readonly fragments: ReadonlyMap<string, ReadonlySet<string>>;
}

const ROOT_PATH =
  /^(?:sys|virtqueue|vhost|backends|host|std|tests|tools|docs)\/(?:[\w-]+\/)*(?:[\w-]+(?:\.(?:ts|md|json))?)?$/;

/** Text with its fenced code blanked, so that line numbers stay. */
function withoutFences(text: string): string {
  return text.replaceAll(
    /^( *)(`{3,}|~{3,})[^\n]*\n[\s\S]*?^\1\2[^\n]*$/gm,
    (fenced) => fenced.replaceAll(/[^\n]/g, ""),
  );
}

/** The fragments under which headings can be linked to. */
export function headingFragments(text: string): Set<string> {
  const found = new Set<string>();
  for (const [, title] of withoutFences(text).matchAll(/^#{1,6} +(.+)$/gm)) {
    const slug = title
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replaceAll(/\s/g, "-");
    let fragment = slug;
    for (let n = 1; found.has(fragment); n++) fragment = `${slug}-${n}`;
    found.add(fragment);
  }
  return found;
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

/** Why a link leads nowhere, or undefined where it arrives. */
function brokenLink(
  file: string,
  link: string,
  tree: Tree,
): string | undefined {
  if (/^(?:[a-z][a-z\d+.-]*:|\/\/)/i.test(link)) return undefined;
  const [path, fragment] = link.split("#", 2);
  const target = path === ""
    ? file
    : join(dirname(file), decodeURIComponent(path)).replace(/\/$/, "");
  if (target !== "." && !tree.paths.has(target)) {
    return `The link "${link}" leads to "${target}", which does not exist`;
  }
  if (fragment === undefined) return undefined;
  const fragments = tree.fragments.get(target);
  if (fragments === undefined || fragments.has(fragment)) return undefined;
  return `The link "${link}" leads to no heading of "${target}"`;
}

/**
 * Checks one Markdown file.
 *
 * @param file Its path from the root.
 * @param text Its text.
 * @param tree What exists.
 */
export function checkMarkdown(
  file: string,
  text: string,
  tree: Tree,
): Problem[] {
  const problems: Problem[] = [];
  const prose = withoutFences(text);
  const report = (index: number, message: string | undefined): void => {
    if (message === undefined) return;
    problems.push({ file, line: lineAt(text, index), message });
  };
  const linked = prose.replaceAll(
    /`[^`\n]*`/g,
    (code) => " ".repeat(code.length),
  );
  const inline = /\]\(\s*<?([^)<>\s]+)>?(?:\s+"[^"]*")?\s*\)/g;
  const definition = /^ {0,3}\[[^\]]+\]:\s*<?([^\s<>]+)>?/gm;
  for (const pattern of [inline, definition]) {
    for (const match of linked.matchAll(pattern)) {
      report(match.index, brokenLink(file, match[1], tree));
    }
  }
  for (const match of prose.matchAll(/`([^`\n]+)`/g)) {
    const [, code] = match;
    if (!ROOT_PATH.test(code)) continue;
    const path = code.replace(/\/$/, "");
    if (tree.paths.has(path)) continue;
    report(match.index, `"${code}" does not exist`);
  }
  return problems;
}

/** The names of registries in a text file. */
export function checkHosts(file: string, text: string): Problem[] {
  return findRegistryHosts(text).map(({ name, start }) => ({
    file,
    line: lineAt(text, start),
    message: `"${name}" names a registry`,
  }));
}

/** Whether a file is a text that the lint rules do not read. */
function isOtherText(file: string): boolean {
  return /\.(?:md|json|jsonc|ya?ml|sh|txt|service|toml)$/.test(file) ||
    file.startsWith(".ci/");
}

/**
 * Checks a repository.
 *
 * @param root Its root.
 */
export async function checkRepository(root: string): Promise<Problem[]> {
  const paths = new Set<string>();
  const fragments = new Map<string, Set<string>>();
  const texts = new Map<string, string>();
  for await (const file of filesOf(root)) {
    for (let path = file; path !== "."; path = dirname(path)) paths.add(path);
    if (!isOtherText(file)) continue;
    const text = await Deno.readTextFile(join(root, file));
    texts.set(file, text);
    if (file.endsWith(".md")) fragments.set(file, headingFragments(text));
  }
  const tree = { paths, fragments };
  return Array.from(texts).flatMap(([file, text]) => [
    ...checkHosts(file, text),
    ...(file.endsWith(".md") ? checkMarkdown(file, text, tree) : []),
  ]);
}

if (import.meta.main) {
  const root = fromFileUrl(new URL("../", import.meta.url));
  const problems = await checkRepository(root);
  for (const { file, line, message } of problems) {
    console.error(`${file}:${line}: ${message}`);
  }
  if (problems.length > 0) Deno.exit(1);
}
