import { assert, assertEquals, assertThrows } from "@std/assert";
import { skipUnless } from "../tests/support/skip.ts";
import { Arena } from "./arena.ts";
import { Errno, errno, SystemError } from "./errno.ts";
import { DataFile, type OpenOptions } from "./file.ts";
import { libc } from "./libc.ts";
import { probeNowait } from "./nowait.ts";

const RWF_NOWAIT = 8;
const SIZE = 1 << 20;

/** Runs `body` with the path of a file that does not exist yet. */
function withPath(dir: string | undefined, body: (path: string) => void): void {
  const directory = Deno.makeTempDirSync({ dir });
  try {
    body(`${directory}/disk.img`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** What the kernel answers when a block is really moved. */
function reallyWithoutWaiting(
  file: DataFile,
  call: "preadv2" | "pwritev2",
): boolean {
  using arena = new Arena(65536);
  const block = file.logicalBlockSize;
  const data = arena.alloc(block, 4096), iovec = arena.alloc(16);
  arena.u8.fill(0xee, data.offset, data.offset + block);
  const at = iovec.offset / 4;
  arena.u32[at] = data.address;
  arena.u32[at + 1] = data.address / 2 ** 32;
  arena.u32[at + 2] = block;
  const iov = BigInt(iovec.address);
  const result = libc()[call](file.fd, iov, 1, 0n, RWF_NOWAIT);
  return result >= 0 || errno() !== Errno.EOPNOTSUPP;
}

/** Compares the probe with the kernel, and the file with what it was. */
function probeSafely(path: string, options: OpenOptions): void {
  const content = new Uint8Array(SIZE);
  for (let i = 0; i < content.length; i++) content[i] = i * 31 >> 3;
  // Full, with a hole at the start, and empty.
  for (const size of [SIZE, 0, -1]) {
    Deno.writeFileSync(path, content);
    if (size <= 0) Deno.truncateSync(path, 0);
    if (size === 0) Deno.truncateSync(path, SIZE);
    const before = Deno.readFileSync(path);
    const { size: length, mtime, ctime, blocks } = Deno.statSync(path);
    using file = DataFile.open(path, options);
    for (let i = 0; i < 3; i++) {
      const support = probeNowait(file);
      assertEquals(probeNowait(file), support);
      const after = Deno.statSync(path);
      assertEquals(after.size, length);
      assertEquals(after.blocks, blocks);
      assertEquals(after.mtime, mtime);
      assertEquals(after.ctime, ctime);
      assertEquals(Deno.readFileSync(path), before);
    }
    const support = probeNowait(file);
    assertEquals(support.read, reallyWithoutWaiting(file, "preadv2"));
    assertEquals(support.write, reallyWithoutWaiting(file, "pwritev2"));
    Deno.removeSync(path);
  }
}

Deno.test("the probe says what the kernel does, and changes nothing", () => {
  withPath(undefined, (path) => probeSafely(path, {}));
});

const directIo = skipUnless(canOpenDirectly(), "needs O_DIRECT");
directIo.test("the probe says what direct I/O does, and changes nothing", () => {
  withPath(undefined, (path) => probeSafely(path, { direct: true }));
});

function canOpenDirectly(): boolean {
  let can = true;
  withPath(undefined, (path) => {
    try {
      DataFile.open(path, { create: true, direct: true }).close();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      can = false;
    }
  });
  return can;
}

const tmpfs = skipUnless(isTmpfs("/dev/shm"), "needs tmpfs at /dev/shm");
tmpfs.test("the probe says what tmpfs does, and changes nothing", () => {
  withPath("/dev/shm", (path) => probeSafely(path, {}));
});

function isTmpfs(dir: string): boolean {
  try {
    let found = false;
    withPath(dir, (path) => {
      using file = DataFile.open(path, { create: true });
      found = file.filesystem() === "tmpfs";
    });
    return found;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("what was opened for reading cannot be written", () => {
  withPath(undefined, (path) => {
    DataFile.open(path, { create: true }).close();
    using writable = DataFile.open(path);
    using file = DataFile.open(path, { readOnly: true });
    const { read, write } = probeNowait(file);
    assertEquals(read, probeNowait(writable).read);
    assertEquals(write, false);
  });
});

Deno.test("a closed file cannot be probed", () => {
  withPath(undefined, (path) => {
    const file = DataFile.open(path, { create: true });
    file.close();
    const error = assertThrows(() => probeNowait(file), SystemError);
    assert(error.kind === "EBADF");
  });
});
