import { assert, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { commandLine, runtimePath, v8Options } from "./command_line.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url)).replace(/\/$/, "");

Deno.test("the program is the one that runs", () => {
  assertEquals(
    Deno.realPathSync(runtimePath()),
    Deno.realPathSync(Deno.execPath()),
  );
});

Deno.test("a device process may use FFI and read code, nothing else", () => {
  const args = commandLine(
    ["a", "b"],
    [import.meta.url, "https://example.org/x.ts", "file:///srv/x/y.ts"],
  );
  assertEquals(args.slice(0, 2), ["deno", "run"]);
  assertEquals(args.slice(-2), ["a", "b"]);
  assert(args.includes("--no-prompt"));
  assert(args.includes(`--config=${ROOT}/deno.json`));
  const allowed = args.filter((arg) => arg.startsWith("--allow"));
  assertEquals(
    allowed,
    ["--allow-ffi", `--allow-read=${ROOT},/srv/x`],
  );
  assert(args.some((arg) => arg.startsWith("--v8-flags=")));
  const entry = args.at(-3)!;
  assert(Deno.statSync(entry).isFile, entry);
});

Deno.test("a folder that cannot be written as a list is not narrowed", () => {
  const module = "file:///srv/a,b/device.ts";
  const args = commandLine(["x"], [module]);
  assert(args.includes("--allow-read"), args.join(" "));
});

Deno.test("this V8 has the options for fast code; one that may not is not asked", () => {
  assertEquals(v8Options("14.9.207.1"), ["--max-old-space-size=256"]);
  const options = v8Options(Deno.version.v8);
  assert(options.length > 1, `V8 ${Deno.version.v8} has not been tried`);
  const { code, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["eval", `--v8-flags=${options.join(",")}`, "0"],
  }).outputSync();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
});
