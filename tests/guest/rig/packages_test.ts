import { assertEquals, assertThrows } from "@std/assert";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { RigError } from "./error.ts";
import { findInSysroot, inSysroot, libraryDirectories } from "./packages.ts";

function fill(root: string, ...files: string[]): void {
  for (const file of files) {
    const path = `${root}/${file}`;
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(path, "");
  }
}

Deno.test("a program is found in a merged and in a split /usr", () => {
  using root = TemporaryDirectory.make("sysroot");
  fill(root.path, "usr/bin/new", "sbin/old");
  assertEquals(findInSysroot(root.path, "new"), root.file("usr/bin/new"));
  assertEquals(findInSysroot(root.path, "old"), root.file("sbin/old"));
  const error = assertThrows(
    () => findInSysroot(root.path, "none"),
    RigError,
    "usr/bin/none",
  );
  assertEquals(error.kind, "missing-file");
});

Deno.test("a program runs through the sysroot's own loader", () => {
  using root = TemporaryDirectory.make("sysroot");
  fill(root.path, "usr/bin/tool", "lib64/ld-linux-x86-64.so.2");
  assertEquals(inSysroot(root.path, "tool"), {
    command: root.file("lib64/ld-linux-x86-64.so.2"),
    args: [
      "--library-path",
      libraryDirectories(root.path).join(":"),
      "--argv0",
      "tool",
      root.file("usr/bin/tool"),
    ],
    env: {},
  });
});
