import {
  assert,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import { Arena } from "./arena.ts";
import { Errno, SystemError } from "./errno.ts";
import { isCloexec, isNonblocking, openFdCount } from "./fd.ts";
import { DataFile } from "./file.ts";
import { IovecTable } from "./iovec.ts";
import { TemporaryDirectory } from "../tests/support/temporary_directory.ts";
import { run, RUN_INPUT, runSource, source } from "./testing/run.ts";

const MIB = 1 << 20;

/** Runs `body` with the name of a file in a directory of its own. */
function withPath(body: (path: string) => void, dir?: string): void {
  const directory = Deno.makeTempDirSync({ dir });
  try {
    body(`${directory}/disk.img`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function withFile(
  size: number,
  body: (file: DataFile, path: string) => void,
  dir?: string,
): void {
  withPath((path) => {
    using file = DataFile.open(path, { create: true });
    assertEquals(file.truncate(size), 0);
    body(file, path);
  }, dir);
}

/** An iovec table with one slot over pieces of `lengths` bytes. */
class Pieces implements Disposable {
  readonly bytes: Uint8Array[] = [];
  readonly #arena = new Arena(MIB);
  readonly #table: IovecTable;

  constructor(lengths: number[]) {
    this.#table = new IovecTable(1, lengths.length);
    lengths.forEach((length, i) => {
      const { address, offset } = this.#arena.alloc(length);
      this.#table.words[4 * i] = address;
      this.#table.words[4 * i + 1] = address / 2 ** 32;
      this.#table.words[4 * i + 2] = length;
      this.bytes.push(this.#arena.u8.subarray(offset, offset + length));
    });
  }

  get address(): number {
    return this.#table.address(0);
  }

  [Symbol.dispose](): void {
    this.#arena[Symbol.dispose]();
    this.#table[Symbol.dispose]();
  }
}

Deno.test("a file is created on request only", () => {
  withPath((path) => {
    const error = assertThrows(
      () => DataFile.open(path),
      SystemError,
      `open "${path}": No such file or directory (ENOENT)`,
    );
    assertEquals(error.kind, "ENOENT");
    using file = DataFile.open(path, { create: true });
    assertEquals(file.path, path);
    assertEquals(file.kind, "file");
    assertEquals(file.size(), 0);
    assert(!file.readOnly && !file.direct && !file.closed);
    assert(isCloexec(file.fd));
    assert(!isNonblocking(file.fd));
    assert(file.logicalBlockSize >= 1 && file.memoryAlign >= 1);
  });
});

Deno.test("what is no disk is refused, without waiting and without a leak", () => {
  withPath((path) => {
    const { success } = new Deno.Command("mkfifo", { args: [path] })
      .outputSync();
    assert(success);
    const before = openFdCount();
    const kind = (name: string, readOnly: boolean): string =>
      assertThrows(() => DataFile.open(name, { readOnly }), SystemError).kind;
    assertEquals(kind(path, true), "EINVAL");
    assertEquals(kind(path, false), "EINVAL");
    assertEquals(kind("/dev/null", false), "EINVAL");
    assertEquals(kind("/", true), "EISDIR");
    assertEquals(kind("/", false), "EISDIR");
    assertEquals(openFdCount(), before);
    assertThrows(() => DataFile.open("a\0b"), RangeError, "NUL");
  });
});

Deno.test("data is scattered and gathered", () => {
  withFile(MIB, (file, path) => {
    using pieces = new Pieces([1000, 24, 512]);
    pieces.bytes.forEach((bytes, i) => bytes.fill(i + 1));
    assertEquals(file.writev(pieces.address, 3, 4096), 1536);
    const content = Deno.readFileSync(path).subarray(4096, 4096 + 1536);
    assertEquals(content[999], 1);
    assertEquals(content[1000], 2);
    assertEquals(content[1535], 3);
    for (const bytes of pieces.bytes) bytes.fill(0);
    assertEquals(file.readv(pieces.address, 2, 4097), 1024);
    assertEquals(pieces.bytes[0][998], 1);
    assertEquals(pieces.bytes[0][999], 2);
    assertEquals(pieces.bytes[2][0], 0);
  });
});

Deno.test("offsets go beyond 2^32, and reads end where the file ends", () => {
  const size = 2 ** 40 + 100;
  withFile(size, (file) => {
    assertEquals(file.size(), size);
    assert(file.blockBytes() < MIB);
    using pieces = new Pieces([64, 64]);
    pieces.bytes[0].fill(7);
    assertEquals(file.writev(pieces.address, 1, 2 ** 40), 64);
    pieces.bytes[0].fill(0);
    assertEquals(file.readv(pieces.address, 2, 2 ** 40), 100);
    assertEquals(pieces.bytes[0][63], 7);
    assertEquals(pieces.bytes[1][0], 0);
    assertEquals(file.readv(pieces.address, 2, size), 0);
    const low = new Uint8Array(64);
    assertEquals(file.read(low, 0), 64);
    assertEquals(low, new Uint8Array(64));
    const high = new Uint8Array(200);
    assertEquals(file.read(high, 2 ** 40), 100);
    assertEquals(high[63], 7);
  });
});

Deno.test("failures of requests are negative error numbers", () => {
  withFile(4096, (file, path) => {
    using pieces = new Pieces([512]);
    assertEquals(file.readv(pieces.address, 2000, 0), -Errno.EINVAL);
    assertEquals(file.readv(pieces.address, 1, -1), -Errno.EINVAL);
    assertEquals(file.readv(16, 1, 0), -Errno.EFAULT);
    assertEquals(file.writev(16, 1, 0), -Errno.EFAULT);
    assertEquals(
      file.writev(pieces.address, 1, Number.MAX_SAFE_INTEGER - 1),
      -Errno.EFBIG,
    );
    assertEquals(file.punchHole(0, 0), -Errno.EINVAL);
    assertEquals(file.truncate(-1), -Errno.EINVAL);
    using reader = DataFile.open(path, { readOnly: true });
    assert(reader.readOnly);
    assertEquals(reader.readv(pieces.address, 1, 0), 512);
    assertEquals(reader.writev(pieces.address, 1, 0), -Errno.EBADF);
    assertEquals(reader.punchHole(0, 512), -Errno.EBADF);
    assertEquals(reader.truncate(0), -Errno.EINVAL);
    assertThrows(() => reader.write(new Uint8Array(1), 0), SystemError);
    reader.close();
    reader.close();
    assert(reader.closed);
    assertEquals(reader.readv(pieces.address, 1, 0), -Errno.EBADF);
    assertEquals(reader.datasync(), -Errno.EBADF);
    assertThrows(() => reader.fd, SystemError, "after it was closed");
    assertThrows(() => reader.size(), SystemError);
    assertThrows(() => reader.read(new Uint8Array(1), 0), SystemError);
  });
});

Deno.test("a full file system is an error number", async () => {
  const program = source(`
    import { DataFile } from "./file.ts";
    import { IovecTable } from "./iovec.ts";
    using file = DataFile.open(Deno.args[0], { create: true });
    using table = new IovecTable(1, 256);
    for (let i = 0; i < 1024; i += 4) {
      table.words[i] = table.address(0);
      table.words[i + 1] = table.address(0) / 2 ** 32;
      table.words[i + 2] = 4096;
    }
    const full = file.writev(table.address(0), 256, 0);
    console.log(full, file.writev(table.address(0), 1, full));
  `);
  const directory = Deno.makeTempDirSync();
  try {
    // A file system of 16 pages, in a mount namespace of its own.
    const script = `mount -t tmpfs -o size=64k none "$0" || exit 9
      exec "$@" "$0/disk.img"`;
    const { code, stdout, stderr } = await run("unshare", [
      "-rm",
      "sh",
      "-c",
      script,
      directory,
      Deno.execPath(),
      ...RUN_INPUT,
    ], program);
    if (code !== 0 && stdout === "" && /unshare|mount/.test(stderr)) {
      console.log(`not tested: a full file system (${stderr.trim()})`);
      return;
    }
    assertEquals(stdout, `65536 -${Errno.ENOSPC}\n`, stderr);
  } finally {
    Deno.removeSync(directory);
  }
});

Deno.test("flat buffers are read and written whole", () => {
  withFile(0, (file, path) => {
    const data = Uint8Array.from({ length: 100_000 }, (_, i) => i % 241);
    assertEquals(file.write(data, 50), data.length);
    assertEquals(Deno.readFileSync(path).subarray(50), data);
    const copy = new Uint8Array(data.length);
    assertEquals(file.read(copy, 50), data.length);
    assertEquals(copy, data);
    assertEquals(file.read(copy, 100_000), 50);
    assertEquals(file.write(new Uint8Array(0), 0), 0);
    assertEquals(file.read(new Uint8Array(0), 0), 0);
    assertEquals(file.datasync(), 0);
  });
});

Deno.test("direct I/O reads at any offset and writes whole blocks", () => {
  withPath((path) => {
    Deno.writeFileSync(path, new Uint8Array(200_000));
    let opened;
    try {
      opened = DataFile.open(path, { direct: true });
    } catch (error) {
      console.log(`not tested: direct I/O (${error})`);
      return;
    }
    using file = opened;
    assert(file.direct);
    // O_DIRECT must have survived the end of O_NONBLOCK.
    const flags = Deno.readTextFileSync(`/proc/self/fdinfo/${file.fd}`);
    const octal = flags.match(/flags:\s+(\d+)/)?.[1] ?? "0";
    assertNotEquals(parseInt(octal, 8) & 0o40000, 0);
    const data = Uint8Array.from({ length: 131_072 }, (_, i) => i % 241);
    assertEquals(file.write(data, 8192), data.length);
    const part = new Uint8Array(70_001);
    assertEquals(file.read(part, 8193), part.length);
    assertEquals(part, data.slice(1, 1 + part.length));
    const tail = new Uint8Array(1000);
    assertEquals(file.read(tail, 199_900), 100);
    assertEquals(file.read(tail, 200_000), 0);
    if (file.logicalBlockSize > 1) {
      assertThrows(() => file.write(new Uint8Array(1), 0), SystemError);
    }
  });
});

Deno.test("holes give space back", () => {
  withFile(4 * MIB, (file) => {
    const data = new Uint8Array(4 * MIB).fill(5);
    const byte = (offset: number): number => {
      const one = new Uint8Array(1);
      file.read(one, offset);
      return one[0];
    };
    file.write(data, 0);
    file.datasync();
    const full = file.blockBytes();
    assert(full >= 4 * MIB);
    assertEquals(file.punchHole(MIB, MIB), 0);
    assert(file.blockBytes() <= full - MIB);
    assertEquals(
      [MIB - 1, MIB, 2 * MIB - 1, 2 * MIB].map(byte),
      [5, 0, 0, 5],
    );
  });
});

Deno.test("holes reach ranges beyond 2^32", () => {
  withFile(2 ** 40, (file) => {
    file.write(new Uint8Array(MIB).fill(1), 2 ** 39);
    file.write(new Uint8Array(MIB).fill(1), 0);
    file.datasync();
    const full = file.blockBytes();
    assertEquals(file.punchHole(2 ** 38, 2 ** 39), 0);
    assert(file.blockBytes() <= full - MIB);
    assert(file.blockBytes() >= MIB);
    const byte = new Uint8Array(1);
    assertEquals([file.read(byte, 0), byte[0]], [1, 1]);
    assertEquals([file.read(byte, 2 ** 39), byte[0]], [1, 0]);
  });
});

Deno.test("the file system has its usual name", () => {
  withFile(0, (file, path) => {
    const { stdout } = new Deno.Command("stat", {
      args: ["-f", "-c", "%T %t", path],
    }).outputSync();
    const [name, magic] = new TextDecoder().decode(stdout).trim().split(" ");
    const known = file.filesystem();
    assert(
      name.includes(known) || name.startsWith("ext") && known === "ext4" ||
        known === `0x${magic}`,
      `${known} is neither ${name} nor ${magic}`,
    );
  });
});

Deno.test("write locks exclude others, read locks exclude writers", () => {
  withFile(4096, (one, path) => {
    using two = DataFile.open(path);
    assert(one.tryLock("write", 100, 1));
    assert(one.testLock("write", 100, 1));
    assert(!two.testLock("write", 100, 1));
    assert(!two.tryLock("write", 100, 1));
    assert(!two.tryLock("read", 100, 1));
    assert(two.tryLock("write", 101, 1));
    assert(!two.tryLock("write", 50, 0));
    assert(one.tryLock("read", 100, 1));
    assert(two.testLock("read", 100, 1));
    assert(!two.testLock("write", 100, 1));
    assert(two.tryLock("read", 100, 1));
    assert(!one.tryLock("write", 100, 1));
    assert(two.tryLock("none", 0, 0));
    assert(two.testLock("none", 0, 0));
    assert(one.tryLock("write", 100, 1));
    one.close();
    assert(two.tryLock("write", 0, 0));
    assertThrows(() => one.tryLock("read", 0, 1), SystemError);
    const error = assertThrows(() => two.tryLock("read", -1, 1), SystemError);
    assertEquals(error.kind, "EINVAL");
  });
});

Deno.test("a lock beyond 2^32 is another one, and holds against processes", async () => {
  const path = Deno.makeTempFileSync();
  try {
    using one = DataFile.open(path);
    using two = DataFile.open(path);
    assert(one.tryLock("write", 2 ** 40, 1));
    assert(two.tryLock("write", 0, 2 ** 40));
    assert(!two.tryLock("write", 2 ** 40, 1));
    const { stdout, stderr } = await runSource(
      `
      import { DataFile } from "./file.ts";
      using file = DataFile.open(Deno.args[0]);
      console.log(file.tryLock("write", 2 ** 40, 1),
        file.tryLock("write", 2 ** 41, 1));
    `,
      [path],
    );
    assertEquals(stdout, "false true\n", stderr);
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("a file is the same under all its names", () => {
  withFile(0, (file, path) => {
    Deno.linkSync(path, `${path}.link`);
    using same = DataFile.open(`${path}.link`);
    using other = DataFile.open(`${path}.other`, { create: true });
    assertEquals(same.identity(), file.identity());
    assertNotEquals(other.identity(), file.identity());
    assertEquals(file.identity().ino, BigInt(Deno.statSync(path).ino ?? -1));
  });
});

Deno.test("a block device has the size of its medium", () => {
  withFile(8 * MIB, (backing, path) => {
    const losetup = (...args: string[]): string => {
      const { success, stdout, stderr } = new Deno.Command("losetup", { args })
        .outputSync();
      if (!success) throw new Error(new TextDecoder().decode(stderr));
      return new TextDecoder().decode(stdout).trim();
    };
    let device: string;
    try {
      device = losetup("--find", "--show", path);
    } catch (error) {
      console.log(`not tested: block devices (${error})`);
      return;
    }
    try {
      using disk = DataFile.open(device);
      assertEquals(disk.kind, "block");
      assertEquals(disk.size(), 8 * MIB);
      assertEquals(disk.logicalBlockSize, 512);
      assertEquals(disk.filesystem(), "block");
      using again = DataFile.open(device, { readOnly: true });
      assertEquals(again.identity(), disk.identity());
      assertNotEquals(disk.identity(), backing.identity());
      disk.write(new Uint8Array(MIB).fill(3), 4096);
      assertEquals(disk.datasync(), 0);
      assertEquals(disk.punchHole(16384, 4096), 0);
      const data = new Uint8Array(32768);
      assertEquals(disk.read(data, 0), data.length);
      assertEquals(
        [4095, 4096, 12288, 16384, 20480].map((at) => data[at]),
        [0, 3, 3, 0, 3],
      );
      assertEquals(disk.read(data, 8 * MIB - 512), 512);
    } finally {
      losetup("--detach", device);
    }
  });
});

Deno.test("DataFile finds data and holes", () => {
  using directory = TemporaryDirectory.make("seek");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(4 * MIB).fill(1));
  using file = DataFile.open(path);
  assertEquals(file.seek("data", 5), 5);
  assertEquals(file.seek("hole", 5), 4 * MIB);
  assertEquals(file.punchHole(MIB, MIB), 0);
  assertEquals(file.seek("hole", 5), MIB);
  assertEquals(file.seek("hole", MIB + 5), MIB + 5);
  assertEquals(file.seek("data", MIB + 5), 2 * MIB);
  assertEquals(file.seek("data", 4 * MIB), -Errno.ENXIO);
});
