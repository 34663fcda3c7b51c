import { assert, assertEquals } from "@std/assert";
import { LoopDevice, withPlainDevice } from "../tests/support/loop_device.ts";
import { skipRest } from "../tests/support/skip.ts";
import { TemporaryDirectory } from "../tests/support/temporary_directory.ts";
import { Errno } from "./errno.ts";
import { DataFile } from "./file.ts";
import { IoTable } from "./io_table.ts";

const MIB = 2 ** 20;
/** Beyond what 32 bits count. */
const FAR = 5 * 2 ** 30;

/** Bytes at some places of a file. */
function bytesAt(file: DataFile, ...places: number[]): number[] {
  const one = new Uint8Array(1);
  return places.map((place) => {
    assertEquals(file.read(one, place), 1);
    return one[0];
  });
}

const table = new IoTable(1, 1);

/** Discards what a slot says. */
function discard(file: DataFile, offset: number, length: number): number {
  table.offsets[0] = offset;
  table.lengths[0] = length;
  return file.discardSlot(table, 0);
}

for (const direct of [false, true]) {
  Deno.test(`DataFile.discardSlot() has a block device free a range, direct=${direct}`, async (t) => {
    using directory = TemporaryDirectory.make("discard");
    const path = directory.file("backing");
    using backing = DataFile.open(path, { create: true });
    assertEquals(backing.truncate(FAR + 4 * MIB), 0);
    const made = LoopDevice.make(path, 4096);
    if (typeof made === "string") {
      return await skipRest(t, "loop device", `no loop devices here (${made})`);
    }
    using device = made;
    using disk = DataFile.open(device.path, { direct });
    const data = new Uint8Array(4 * MIB).fill(5);
    for (const at of [0, FAR]) disk.write(data, at);
    assertEquals(disk.datasync(), 0);
    const full = backing.blockBytes();
    // The page cache knows the range: it must not go on telling what was there.
    assertEquals(bytesAt(disk, MIB, FAR + MIB), [5, 5]);

    assertEquals(discard(disk, FAR + MIB, 2 * MIB), 0);
    assertEquals(
      bytesAt(disk, FAR + MIB - 1, FAR + MIB, FAR + 3 * MIB - 1, FAR + 3 * MIB),
      [5, 0, 0, 5],
    );
    assert(backing.blockBytes() <= full - 2 * MIB);
    // What is as far below 2^32 is as it was.
    assertEquals(bytesAt(disk, 0, MIB, 2 * MIB, 4 * MIB - 1), [5, 5, 5, 5]);

    // A length beyond 2^32: all but the ends.
    assertEquals(discard(disk, MIB, FAR), 0);
    assertEquals(bytesAt(disk, MIB - 1, MIB, FAR + MIB - 1), [5, 0, 0]);
    assertEquals(bytesAt(disk, FAR + 3 * MIB), [5]);
    assert(backing.blockBytes() <= full - 6 * MIB);

    // What was written and not made durable goes as well, its neighbours do not.
    disk.write(data.subarray(0, 16384), MIB);
    assertEquals(discard(disk, MIB + 4096, 4096), 0);
    assertEquals(disk.datasync(), 0);
    const places = [MIB, MIB + 4095, MIB + 4096, MIB + 8191, MIB + 8192];
    assertEquals(bytesAt(disk, ...places), [5, 5, 0, 0, 5]);
    assertEquals(bytesAt(backing, ...places), [5, 5, 0, 0, 5]);

    assertEquals(discard(disk, 512, 4096), -Errno.EINVAL);
    assertEquals(discard(disk, 0, 512), -Errno.EINVAL);
    assertEquals(discard(disk, FAR + 4 * MIB, 4096), -Errno.EINVAL);
    assertEquals(bytesAt(disk, 0, 4095), [5, 5]);
    // Of a range with ends inside of blocks, the whole blocks between them.
    assertEquals(discard(disk, 512, 11264), 0);
    assertEquals(
      bytesAt(disk, 0, 4095, 4096, 8191, 8192, 12288),
      [5, 5, 0, 0, 5, 5],
    );
    using reader = DataFile.open(device.path, { readOnly: true });
    assertEquals(discard(reader, 0, 4096), -Errno.EBADF);
    assertEquals(bytesAt(disk, 0), [5]);
  });
}

Deno.test("DataFile.discardSlot() is for block devices that free space", async (t) => {
  using directory = TemporaryDirectory.make("discard");
  const path = directory.file("backing");
  using backing = DataFile.open(path, { create: true });
  assertEquals(backing.truncate(MIB), 0);
  assertEquals(discard(backing, 0, 4096), -Errno.ENOTTY);
  const folder = directory.file("mounted");
  Deno.mkdirSync(folder);
  const obstacle = withPlainDevice(folder, MIB, (path) => {
    using disk = DataFile.open(path);
    assertEquals(discard(disk, 0, 4096), -Errno.EOPNOTSUPP);
  });
  if (obstacle !== null) await skipRest(t, "no discards", obstacle);
});
