import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { kernelVersion, requirePlatform } from "./platform.ts";

Deno.test("this platform is accepted, others are refused by name", () => {
  requirePlatform();
  const error = assertThrows(
    () => requirePlatform({ os: "linux", arch: "aarch64" }),
    SystemError,
    "Cannot run on linux aarch64: only linux x86_64 is supported",
  );
  assertEquals(error.kind, "EOPNOTSUPP");
  assertThrows(
    () => requirePlatform({ os: "freebsd", arch: "x86_64" }),
    SystemError,
    "freebsd x86_64",
  );
});

Deno.test("the kernel's release is what the runtime says", () => {
  const version = kernelVersion();
  assertEquals(version.release, Deno.osRelease());
  assert(version.release.startsWith(`${version.major}.${version.minor}`));
  assert(version.major >= 4);
});
