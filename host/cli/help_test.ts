import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCommand } from "../../tests/support/process.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { DEVICE_TYPES } from "../device_types.ts";
import { COMMON_OPTIONS } from "../options/device_specs.ts";
import { CTL } from "./ctl_command.ts";
import { commandHelp, deviceHelp } from "./help.ts";
import { programSpec } from "./program_command.ts";
import { SERVE } from "./serve_command.ts";
import { vhostd } from "./testing/vhostd.ts";

Deno.test("commandHelp() names every option and fits 80 columns", () => {
  for (const spec of [SERVE, ...DEVICE_TYPES.map(programSpec), CTL]) {
    const help = commandHelp(spec);
    for (const { name, help: text } of spec.flags) {
      assertStringIncludes(help, `  --${name}`);
      assertStringIncludes(help.replace(/\s+/g, " "), text);
    }
    for (const line of help.split("\n")) {
      assert(line.length <= 80, `${line.length} columns: ${line}`);
      assertEquals(line, line.trimEnd());
    }
  }
});

Deno.test("deviceHelp() names every key of every type", () => {
  const help = deviceHelp().join("\n");
  for (const { options, parts } of DEVICE_TYPES) {
    const all = [...options, ...parts?.options ?? [], ...COMMON_OPTIONS];
    for (const { name, help: text } of all) {
      assertStringIncludes(help, `\n  ${name}=`);
      assertStringIncludes(help.replace(/\s+/g, " "), text);
    }
  }
});

Deno.test("docs/options.md is what the command prints", async () => {
  const page = new URL("../../docs/options.md", import.meta.url);
  const { stdout } = await vhostd(["options", "--markdown"]);
  // Names which line differs first; the fix is to print the page again.
  assertEquals(
    (await Deno.readTextFile(page)).split("\n"),
    stdout.split("\n"),
    "print it again: main.ts options --markdown > docs/options.md",
  );
});

Deno.test("docs/options.md is formatted", async () => {
  const { stdout } = await vhostd(["options", "--markdown"]);
  using directory = TemporaryDirectory.make("help");
  const file = directory.file("page.md");
  Deno.writeTextFileSync(file, stdout);
  await runCommand(Deno.execPath(), { args: ["fmt", "--check", file] });
});
