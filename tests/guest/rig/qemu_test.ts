import { assertEquals } from "@std/assert";
import { isNewEnough, parseVersion } from "./qemu.ts";

Deno.test("parseVersion reads what QEMU prints", () => {
  assertEquals(
    parseVersion("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)\nC"),
    "11.1.3",
  );
  assertEquals(parseVersion("QEMU emulator version 10.2\n"), "10.2");
  assertEquals(parseVersion("bash: no such program"), null);
});

Deno.test("isNewEnough: 10.2 and later", () => {
  for (const version of ["10.2", "10.2.0", "10.10.1", "11.0", "11.1.3"]) {
    assertEquals(isNewEnough(version), true, version);
  }
  for (const version of ["0", "7.2.22", "9.9", "10", "10.1.9"]) {
    assertEquals(isNewEnough(version), false, version);
  }
});
