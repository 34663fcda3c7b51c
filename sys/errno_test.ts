import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  check,
  Errno,
  errno,
  errnoName,
  errnoText,
  SystemError,
  systemError,
} from "./errno.ts";
import { ERRNO_TABLE } from "./errno_table.ts";
import { cString, libc } from "./libc.ts";

Deno.test("errno is that of the call before", () => {
  assertEquals(libc().open(cString("/nowhere/at/all"), 0, 0), -1);
  assertEquals(errno(), Errno.ENOENT);
  assertEquals(libc().close(-1), -1);
  assertEquals(errno(), Errno.EBADF);
});

Deno.test("errno survives what the runtime does between two calls", () => {
  let waited = 0;
  for (let i = 0; i < 20_000; i++) {
    const bad = (i & 1) === 0;
    const result = bad
      ? libc().close(-1)
      : libc().open(cString("/nowhere"), 0, 0);
    assertEquals(result, -1);
    const found = errno();
    // A lock of the runtime may come between, and leaves this and no other.
    if (found === Errno.EAGAIN) waited++;
    else assertEquals(found, bad ? Errno.EBADF : Errno.ENOENT);
  }
  assert(waited <= 2, `EAGAIN in place of ${waited} error numbers of 20,000`);
});

Deno.test("the named error numbers agree with the table", () => {
  for (const [name, n] of Object.entries(Errno)) {
    assertEquals(errnoName(n), name);
  }
  assertEquals(new Set(ERRNO_TABLE.map(([n]) => n)).size, ERRNO_TABLE.length);
});

Deno.test("unknown error numbers have a name and a text", () => {
  assertEquals(errnoName(4095), "E4095");
  assertEquals(errnoText(4095), "Unknown error 4095");
});

Deno.test("check passes results on and throws what errno says", () => {
  assertEquals(check(0, "close"), 0);
  assertEquals(check(7, "open"), 7);
  const error = assertThrows(
    () => check(libc().open(cString("/no/x.img"), 0, 0), "open", "/no/x.img"),
    SystemError,
    'open "/no/x.img": No such file or directory (ENOENT)',
  );
  assertEquals(error.kind, "ENOENT");
  assertEquals(error.errno, 2);
  assertEquals(error.syscall, "open");
  assertEquals(error.name, "SystemError");
  assert(error instanceof Error);
});

Deno.test("system errors have a text without a thing, and a text of their own", () => {
  assertEquals(
    systemError(Errno.EIO, "fdatasync").message,
    "fdatasync: Input/output error (EIO)",
  );
  const error = new SystemError(Errno.ERANGE, "mmap", "Cannot map it");
  assertEquals(error.message, "Cannot map it");
  assertEquals(error.kind, "ERANGE");
});
