import { assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { AT_FDCWD, FileType, statAt, statFd } from "./statx.ts";
import { DataFile } from "./file.ts";

Deno.test("metadata agrees with the runtime's stat", () => {
  const path = Deno.makeTempFileSync();
  try {
    Deno.writeFileSync(path, new Uint8Array(10_000));
    Deno.chmodSync(path, 0o640);
    const expected = Deno.statSync(path);
    using file = DataFile.open(path);
    for (const metadata of [statFd(file.fd), statAt(AT_FDCWD, path)]) {
      assertEquals(metadata?.type, FileType.REGULAR);
      assertEquals(metadata?.mode, 0o640);
      assertEquals(metadata?.size, 10_000);
      assertEquals(metadata?.ino, BigInt(expected.ino ?? -1));
      assertEquals(metadata?.nlink, 1);
      assertEquals(metadata?.uid, expected.uid);
      assertEquals(metadata?.gid, expected.gid);
      assertEquals(metadata?.blocks, expected.blocks);
      const { dev = 0n } = metadata ?? {};
      const major = Number(dev >> 32n), minor = Number(dev & 0xffff_ffffn);
      // dev_t packs them as gnu_dev_makedev(3) does, for small numbers.
      assertEquals((major << 8) | (minor & 0xff), expected.dev & 0xfffff);
    }
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("a missing name is null, a link is not followed", () => {
  const directory = Deno.makeTempDirSync();
  try {
    assertEquals(statAt(AT_FDCWD, `${directory}/none`), null);
    Deno.symlinkSync("/nowhere", `${directory}/link`);
    assertEquals(statAt(AT_FDCWD, `${directory}/link`)?.type, FileType.SYMLINK);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("a closed descriptor has no metadata", () => {
  const error = assertThrows(() => statFd(-1), SystemError);
  assertEquals(error.kind, "EBADF");
});
