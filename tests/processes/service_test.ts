/**
 * The unit for systemd: its command serves, with no permission and no variable
 * but those that it says.
 */

import { assert, assertEquals } from "@std/assert";
import { ChildProcess } from "../support/process.ts";
import { writeSparseFile } from "../support/sparse_file.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { ctl, untilServing } from "../support/vhostd.ts";

const ROOT = new URL("../../", import.meta.url);

/** The values of a key of the unit. */
function valuesOf(unit: string, key: string): string[] {
  return Array.from(
    unit.matchAll(new RegExp(`^${key}=(.*)$`, "gm")),
    ([, value]) => value,
  );
}

Deno.test("the unit of docs/examples serves what the page says", async () => {
  using directory = TemporaryDirectory.make("service");
  const here = (text: string) =>
    text.replaceAll("/var/lib/vhostd", directory.path)
      .replaceAll("/run/vhostd", directory.path)
      .replaceAll("/etc/vhostd.json", directory.file("vhostd.json"))
      .replaceAll("/opt/vhostd/", ROOT.pathname);
  const unit = Deno.readTextFileSync(
    new URL("docs/examples/vhostd.service", ROOT),
  );
  const page = Deno.readTextFileSync(new URL("docs/systemd.md", ROOT));
  const [, config] = /^```json\n([\s\S]*?)^```$/m.exec(page) ?? [];
  Deno.writeTextFileSync(directory.file("vhostd.json"), here(config));
  writeSparseFile(directory.file("system.img"), 1 << 20, []);
  const [command] = valuesOf(unit, "ExecStart");
  const [program, ...args] = here(command).split(" ");
  assertEquals(program, "/usr/local/bin/deno");
  const variables = valuesOf(unit, "Environment").join(" ").split(" ")
    .map((pair) => pair.split("=") as [string, string]);
  const env = Object.fromEntries(variables);
  assertEquals(env.DENO_DIR, "/var/cache/vhostd");
  // The packages are where the tests have them.
  env.DENO_DIR = await denoDirectory();
  await using service = ChildProcess.start(Deno.execPath(), {
    name: "the service",
    args,
    cwd: "/",
    env,
    clearEnv: true,
  });
  await untilServing(service);
  const status = await ctl(directory.file("control.sock"), "status");
  for (const name of ["system", "lan"]) assert(status.includes(name), status);
  assertEquals((await service.stop("SIGTERM")).code, 0, service.stderr.text);
});

async function denoDirectory(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json"],
  }).output();
  return JSON.parse(new TextDecoder().decode(stdout)).denoDir;
}
