import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { countOpenFds, openFds, readLink, readTextFile } from "./proc.ts";

Deno.test("files longer than one read are whole", () => {
  const path = Deno.makeTempFileSync();
  try {
    const text = "é line\n".repeat(30_000);
    Deno.writeTextFileSync(path, text);
    assertEquals(readTextFile(path), text);
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("missing names are system errors", () => {
  const error = assertThrows(() => readTextFile("/nowhere"), SystemError);
  assertEquals(error.kind, "ENOENT");
  assertThrows(() => readLink("/proc/self/maps"), SystemError, "EINVAL");
});

Deno.test("a link's target is its text", () => {
  assertEquals(readLink("/proc/self"), String(Deno.pid));
});

Deno.test("descriptors are counted without the one that counts", () => {
  const before = countOpenFds();
  assertEquals(before, [...Deno.readDirSync("/proc/self/fd")].length - 1);
  const files = Array.from({ length: 40 }, () => Deno.openSync("/dev/null"));
  assertEquals(countOpenFds(), before + 40);
  for (const file of files) file.close();
  assertEquals(countOpenFds(), before);
  assert(before > 2);
});

Deno.test("descriptors are listed by number", () => {
  using file = Deno.openSync("/proc/self/statm");
  const before = openFds();
  assert(before.includes(0) && before.includes(1) && before.includes(2));
  assertEquals(new Set(before).size, before.length);
  const found = before.filter((fd) =>
    readLink(`/proc/self/fd/${fd}`).endsWith("/statm")
  );
  assertEquals(found.length, 1);
  file.close();
  assertEquals(openFds().includes(found[0]), false);
});
