/**
 * The command `serve` on a host that forbids io_uring, as containers do: the
 * system call fails for the supervisor, and for the device processes that it
 * starts.
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { WITHOUT_IO_URING } from "../../sys/testing/without_io_uring.ts";
import { Guest, SECTOR, T_FLUSH, T_IN, T_OUT } from "../protocol/disk.ts";
import { ScsiGuest } from "../protocol/scsi.ts";
import { canBypass } from "../protocol/slow_reads.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { stamp } from "./load.ts";
import { isGone, LIMIT, Server } from "./server.ts";

/** Sectors of a request: a block of any disk, also past the page cache. */
const BLOCK = 8;
/** Requests in flight, and how often so many. */
const DEPTH = 32, ROUNDS = 8;
const BLOCKS = DEPTH * ROUNDS, SECTORS = BLOCKS * BLOCK;
/** Bytes of a block. */
const SIZE = BLOCK * SECTOR;

/** What a block holds in the end. */
function contents(block: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SIZE);
  for (let i = 0; i < BLOCK; i++) bytes.set(stamp(block, i), i * SECTOR);
  return bytes;
}

/** The blocks of each round. */
const rounds: readonly (readonly number[])[] = Array.from(
  { length: ROUNDS },
  (_, round) => Array.from({ length: DEPTH }, (_, i) => i * ROUNDS + round),
);

/** Fills a disk, a round of requests at a time, and reads it back. */
async function useDisk(guest: Guest): Promise<void> {
  for (const blocks of rounds) {
    for (const block of blocks) {
      guest.submit(T_OUT, block * BLOCK, contents(block));
    }
    for (const { data } of await guest.complete(DEPTH)) {
      assertEquals([...data], [0]);
    }
  }
  assertEquals((await guest.request(T_FLUSH, 0)).status, 0);
  for (const blocks of rounds) {
    const asked = new Map(
      blocks.map((block) => [guest.submit(T_IN, block * BLOCK, SIZE), block]),
    );
    for (const { token, data } of await guest.complete(DEPTH)) {
      assertEquals(data.at(-1), 0);
      assertEquals(data.subarray(0, -1), contents(asked.get(token)!));
    }
  }
}

/** The same for a disk of a SCSI host. */
async function useUnit(guest: ScsiGuest): Promise<void> {
  await guest.settle();
  const command = (code: number, block: number): number[] => {
    const sector = block * BLOCK;
    return [code, 0, 0, 0, sector >> 8, sector & 255, 0, 0, BLOCK, 0];
  };
  const READ_10 = 0x28, WRITE_10 = 0x2a, SYNCHRONIZE_CACHE_10 = 0x35;
  for (const blocks of rounds) {
    for (const block of blocks) {
      guest.send(command(WRITE_10, block), { out: contents(block) });
    }
    for (const { status, response } of (await guest.answers(DEPTH)).values()) {
      assertEquals([response, status], [0, 0]);
    }
  }
  const flush = [SYNCHRONIZE_CACHE_10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  assertEquals((await guest.command(flush)).status, 0);
  for (const blocks of rounds) {
    const asked = new Map(
      blocks.map((block) =>
        [guest.send(command(READ_10, block), { room: SIZE }), block] as const
      ),
    );
    for (const [token, { status, data }] of await guest.answers(DEPTH)) {
      assertEquals(status, 0);
      assertEquals(data, contents(asked.get(token)!));
    }
  }
}

/** What is said of the storage of a device. */
interface StorageFacts {
  readonly engine: string;
  readonly direct: boolean;
}

/** The storage of a disk, and the process that serves it. */
async function storageOf(
  server: Server,
  name: string,
): Promise<StorageFacts & { readonly pid: number }> {
  const { pid, device } = await server.status(name) as unknown as {
    pid: number;
    device: {
      storage?: StorageFacts;
      luns?: readonly { storage: StorageFacts }[];
    };
  };
  const { engine, direct } = device.storage ?? device.luns![0].storage;
  return { engine, direct, pid };
}

const bypassing = skipUnless(
  canBypass(),
  "the temporary directory's file system has no direct I/O",
);

Deno.test("where io_uring is forbidden, disks are served by plain system calls", async (t) => {
  using directory = TemporaryDirectory.make("plain");
  const unit = directory.file("unit.img");
  Deno.writeFileSync(unit, new Uint8Array(SECTORS * SECTOR));
  const disks = {
    auto: "engine=auto",
    through: "wce=off",
    ...bypassing.met ? { direct: "direct=on" } : {},
  };
  await using server = await Server.start({
    disks,
    args: [`--scsi=path=${unit},id=unit,socket=${directory.file("unit.sock")}`],
    sectors: SECTORS,
    wrapper: WITHOUT_IO_URING,
    directory,
  });
  const pids = new Set([server.child.pid]);
  const images = [unit];
  using guests = new DisposableStack();
  const serves = async (name: string, direct = false): Promise<void> => {
    const { pid, ...facts } = await storageOf(server, name);
    assertEquals(facts, { engine: "sync", direct });
    pids.add(pid);
  };
  for (const name of ["auto", "through"]) {
    await t.step(name, async () => {
      const guest = guests.use(await Guest.run(server.socket(name)));
      await useDisk(guest);
      await serves(name);
      images.push(server.image(name));
    });
  }
  await bypassing.step(t, "direct", async () => {
    const guest = guests.use(await Guest.run(server.socket("direct")));
    await useDisk(guest);
    await serves("direct", true);
    images.push(server.image("direct"));
  });
  await t.step("scsi", async () => {
    const guest = guests.use(await ScsiGuest.run(server.socket("unit")));
    await useUnit(guest);
    await serves("unit");
  });
  // The supervisor, and a process for each.
  assertEquals(pids.size, 1 + images.length);
  for (const pid of pids) {
    const status = Deno.readTextFileSync(`/proc/${pid}/status`);
    assertStringIncludes(status, "\nSeccomp:\t2\n");
  }
  // The guests are still there.
  server.child.signal("SIGTERM");
  await server.ended();
  await waitUntil(() => [...pids].every(isGone), { what: "their end" });
  assertEquals(server.sockets(), []);
  for (const image of images) {
    const bytes = Deno.readFileSync(image);
    for (let block = 0; block < BLOCKS; block++) {
      const found = bytes.subarray(block * SIZE, (block + 1) * SIZE);
      assertEquals(found, contents(block), `block ${block} of ${image}`);
    }
  }
});

for (const type of ["blk", "scsi"]) {
  Deno.test(`where io_uring is forbidden, ${type} with engine=io_uring is refused`, async () => {
    using directory = TemporaryDirectory.make("plain");
    const image = directory.file("disk.img");
    Deno.writeFileSync(image, new Uint8Array(SECTORS * SECTOR));
    const socket = directory.file("disk.sock");
    const [command, ...before] = [...WITHOUT_IO_URING, Deno.execPath()];
    await using child = ChildProcess.start(command, {
      name: "vhostd",
      env: { NO_COLOR: "1" },
      args: [
        ...before,
        ...COMMAND_ARGUMENTS,
        ...["serve", "--management=off"],
        `--${type}=path=${image},socket=${socket},engine=io_uring`,
      ],
    });
    const { code, signal } = await child.wait(LIMIT);
    assertEquals({ code, signal }, { code: 1, signal: null });
    assertStringIncludes(
      child.stderr.text,
      `Cannot serve "${image}": there is no io_uring here (missing in the ` +
        "kernel, or forbidden); use engine=auto or engine=sync",
    );
    assertEquals([...Deno.readDirSync(directory.path)].length, 1);
  });
}
