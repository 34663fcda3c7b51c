import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { isCloexec, openFdCount } from "./fd.ts";
import { libc } from "./libc.ts";
import {
  addSeals,
  createMemfd,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  getSeals,
} from "./memfd.ts";
import { statFd } from "./statx.ts";

Deno.test("a memfd has its size and is close-on-exec", () => {
  using memfd = createMemfd("size", 12_345);
  assertEquals(statFd(memfd.fd).size, 12_345);
  assert(isCloexec(memfd.fd));
});

Deno.test("a file that is sealed against it cannot shrink", () => {
  using memfd = createMemfd("sealed", 8192);
  assertEquals(getSeals(memfd.fd), 0);
  addSeals(memfd.fd, F_SEAL_SHRINK);
  assertEquals(getSeals(memfd.fd), F_SEAL_SHRINK);
  assertEquals(libc().ftruncate(memfd.fd, 4096n), -1);
  assertEquals(libc().ftruncate(memfd.fd, 16384n), 0);
  addSeals(memfd.fd, F_SEAL_GROW | F_SEAL_SEAL);
  assertEquals(libc().ftruncate(memfd.fd, 32768n), -1);
  const error = assertThrows(() => addSeals(memfd.fd, 1), SystemError);
  assertEquals(error.kind, "EPERM");
});

Deno.test("without seals there is only the seal against seals", () => {
  using memfd = createMemfd("unsealed", 4096, { seals: false });
  assertEquals(getSeals(memfd.fd), F_SEAL_SEAL);
  assertThrows(() => addSeals(memfd.fd, F_SEAL_SHRINK), SystemError, "EPERM");
});

Deno.test("other descriptors have no seals", () => {
  using event = EventFd.create();
  const error = assertThrows(() => getSeals(event.fd), SystemError);
  assertEquals(error.kind, "EINVAL");
});

Deno.test("an impossible size leaves no descriptor behind", () => {
  const before = openFdCount();
  const error = assertThrows(() => createMemfd("bad", -1), SystemError);
  assertEquals(error.kind, "EINVAL");
  assertEquals(openFdCount(), before);
});
