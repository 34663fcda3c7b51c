import { assertEquals, assertThrows } from "@std/assert";
import { FreeBsdErrno, KernelPanic } from "../freebsd/kernel.ts";
import { type Bio, Disk } from "./disk.ts";

function make(): { disk: Disk; started: Bio[] } {
  const started: Bio[] = [];
  const disk = new Disk((bio) => {
    started.push(bio);
    bio.finish(0);
  });
  disk.mediaSize = 2 ** 20;
  disk.sectorSize = 512;
  disk.maxSize = 4096;
  return { disk, started };
}

Deno.test("start() splits an I/O at the largest transfer", () => {
  const { disk, started } = make();
  const parts = disk.start({ command: "read", offset: 512, length: 9216 });
  assertEquals(started, parts);
  assertEquals(
    parts.map(({ offset, length, dataOffset }) => [offset, length, dataOffset]),
    [[512, 4096, 0], [4608, 4096, 4096], [8704, 1024, 8192]],
  );
});

Deno.test("start() refuses what the disk cannot do", () => {
  const { disk, started } = make();
  const { EINVAL, EIO, EOPNOTSUPP } = FreeBsdErrno;
  const error = (
    command: "read" | "flush" | "delete",
    offset: number,
  ): number => disk.start({ command, offset, length: 512 })[0].error!;
  assertEquals(error("flush", 0), EOPNOTSUPP);
  assertEquals(error("delete", 0), EOPNOTSUPP);
  assertEquals(error("read", 100), EINVAL);
  assertEquals(error("read", 2 ** 20), EIO);
  assertEquals(started, []);
});

Deno.test("a limit of 0 never ends, one inside of a sector panics", () => {
  const { disk } = make();
  disk.flags.canDelete = true;
  const trim = (): unknown =>
    disk.start({ command: "delete", offset: 0, length: 8192 });
  assertThrows(trim, KernelPanic, "its limit is 0");
  disk.deleteMaxSize = 4000;
  assertThrows(trim, KernelPanic, "begins inside of a sector");
});

Deno.test("setIdent() ends at a NUL and escapes what is unprintable", () => {
  const { disk } = make();
  disk.setIdent(new Uint8Array([65, 66, 7, 67, 0, 68]));
  assertEquals(disk.ident, "ABx07C");
  disk.setIdent(new Uint8Array(20).fill(65));
  assertEquals(disk.ident, "A".repeat(20));
});
