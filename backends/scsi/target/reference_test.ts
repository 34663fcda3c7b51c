/**
 * The table of commands in `docs/scsi.md`, compared with the commands, the files
 * that implement them and the tests there are. Run as a program with
 * `--update`, it writes the table anew.
 */

import { assert, assertEquals } from "@std/assert";
import type { CommandSpec } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { commandRows } from "./reference.ts";

const ROOT = new URL("../../../", import.meta.url);
const PAGE = new URL("docs/scsi.md", ROOT);
const BEGIN = "<!-- commands -->", END = "<!-- end of commands -->";
const HEAD = [
  ...["Code", "Command", "Logical units", "Source", "Implementation"],
  ...["Good test", "Bad-field test", "Independent check"],
];

/** Names and texts of the files of this folder. */
const files = new Map(
  Array.from(Deno.readDirSync(new URL(".", import.meta.url)))
    .filter(({ name }) => name.endsWith(".ts"))
    .map(({ name }): [string, string] => [
      name,
      Deno.readTextFileSync(new URL(name, import.meta.url)),
    ]),
);
const tests = new Map(
  [...files].filter(([name]) => name.endsWith("_test.ts")),
);

/** The file whose list of commands has a command. */
async function implementations(): Promise<Map<CommandSpec, string>> {
  const found = new Map<CommandSpec, string>();
  for (const name of files.keys()) {
    if (!/^(?:spc|sbc|mmc)_\w+(?<!_test)\.ts$/.test(name)) continue;
    const module = await import(new URL(name, import.meta.url).href);
    for (const value of Object.values(module)) {
      if (!Array.isArray(value)) continue;
      for (const command of value as CommandSpec[]) found.set(command, name);
    }
  }
  return found;
}

/** How `good` and `bad` are called for a command, with its length or without. */
function calls(kind: "good" | "bad", { name }: CommandSpec): RegExp {
  const [, base, length] = /^(.*?)(?: \((\d+)\))?$/.exec(name)!;
  const escape = (text: string) => text.replace(/[^\w ]/g, "\\$&");
  const lengths = length === undefined
    ? ""
    : ` \\((?:${length}|\\$\\{length\\})\\)`;
  return new RegExp(`\\b${kind}\\(\\s*["\`]${escape(base)}${lengths}["\`]`);
}

function testFile(command: CommandSpec): string {
  const found = [...tests].filter(([, text]) =>
    calls("good", command).test(text) && calls("bad", command).test(text)
  ).map(([name]) => name);
  return found.join(", ");
}

function link(name: string): string {
  return `[${name}](../backends/scsi/target/${name})`;
}

async function table(): Promise<string> {
  const files = await implementations();
  const rows = commandRows(
    (command) => link(files.get(command)!),
    (command) => link(testFile(command)),
  );
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(HEAD), line(HEAD.map(() => "---")), ...rows.map(line)]
    .join("\n");
}

/** A table without the spaces that make its columns even. */
function plain(text: string): string {
  return text.replace(/ +/g, " ").replace(/-{2,}/g, "---").trim();
}

Deno.test("every command has a file, a good test and a test of bad fields", async () => {
  const known = await implementations();
  for (const command of COMMANDS) {
    assert(known.has(command), `${command.name} is in no file`);
    const file = testFile(command);
    assert(tests.has(file), `${command.name} has tests in "${file}"`);
  }
  assertEquals(known.size, COMMANDS.length);
});

Deno.test("every independent check is run in a Linux guest", () => {
  const folder = new URL("tests/guest/", ROOT);
  const lines = Array.from(Deno.readDirSync(folder))
    .filter(({ name }) => /^scsi_\w+_test\.ts$/.test(name))
    .flatMap(({ name }) =>
      Deno.readTextFileSync(new URL(name, folder)).split("\n")
    )
    .map((line) => line.trim().split(/[ ;="`$()]+/));
  for (const { name, tool } of COMMANDS) {
    if (tool === undefined) continue;
    const words = tool.split(/[ =]/);
    assert(
      lines.some((line) => words.every((word) => line.includes(word))),
      `${name} is not checked by ${tool}`,
    );
  }
});

Deno.test("docs/scsi.md has a row for every command", async () => {
  const page = Deno.readTextFileSync(PAGE);
  const [, rest] = page.split(BEGIN);
  assert(rest !== undefined, `"${BEGIN}" is missing`);
  assertEquals(plain(rest.split(END)[0]), plain(await table()));
});

if (import.meta.main && Deno.args.includes("--update")) {
  const page = Deno.readTextFileSync(PAGE);
  const before = page.split(BEGIN)[0], after = page.split(END)[1];
  Deno.writeTextFileSync(
    PAGE,
    `${before}${BEGIN}\n\n${await table()}\n\n${END}${after}`,
  );
}
