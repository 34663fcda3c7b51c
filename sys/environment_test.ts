import { assertEquals } from "@std/assert";
import { environmentVariable, findProgram } from "./environment.ts";

Deno.test("variables are those of the process", () => {
  assertEquals(environmentVariable("PATH"), Deno.env.get("PATH") ?? null);
  assertEquals(environmentVariable("VHOSTD_NO_SUCH_VARIABLE"), null);
});

Deno.test("a program is a file that may be run", () => {
  const directory = Deno.makeTempDirSync();
  try {
    const path = (name: string) => `${directory}/${name}`;
    Deno.writeTextFileSync(path("program"), "", { mode: 0o755 });
    Deno.writeTextFileSync(path("text"), "", { mode: 0o644 });
    Deno.mkdirSync(path("folder"));
    Deno.symlinkSync("program", path("link"));
    assertEquals(findProgram(path("program")), path("program"));
    assertEquals(findProgram(path("link")), path("link"));
    assertEquals(findProgram(path("text")), null);
    assertEquals(findProgram(path("folder")), null);
    assertEquals(findProgram(path("missing")), null);
    assertEquals(findProgram("vhostd-no-such-program"), null);
    assertEquals(findProgram("sh")?.endsWith("/sh"), true);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
