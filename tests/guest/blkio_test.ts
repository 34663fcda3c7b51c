/**
 * libblkio as a front-end and driver of the disk: a region of memory is added
 * while the ring runs whenever a larger request needs more of it, guest
 * addresses are those of its process, and no device status is ever sent.
 * QEMU's block layer gives it one queue, however many the disk has.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Report } from "../bench/report.ts";
import { waitUntil } from "../support/deadline.ts";
import { type ChildProcess, runCommand } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { ctl, startVhostd } from "../support/vhostd.ts";
import { allocated, makeImage, readImage } from "./disks.ts";
import {
  type Blkio,
  blkioImage,
  findBlkio,
  QemuIo,
  type QemuIoOptions,
  runBlkio,
} from "./rig/blkio.ts";
import { RigError } from "./rig/error.ts";

/** libblkio in QEMU, or why it is not to be had. */
async function blkioOrReason(): Promise<Blkio | string> {
  try {
    return await findBlkio({ progress: (line) => console.log(line) });
  } catch (error) {
    if (error instanceof RigError && error.kind === "platform") {
      return error.message;
    }
    throw error;
  }
}

const found = await blkioOrReason();
const tests = skipUnless(
  typeof found !== "string",
  typeof found === "string" ? found : "",
);

const BENCH = new URL("../bench/blk.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

const KIB = 1 << 10, MIB = 1 << 20;
const SIZE = 16 * MIB;

/** What a file system may take to remember where a file has holes. */
const EXTENTS = 64 * KIB;

/** What `ctl status --json` says of the one disk. */
interface DiskStatus {
  readonly connected: boolean;
  readonly connections: number;
  readonly session: {
    readonly featureNames: readonly string[];
    readonly regions: readonly { readonly size: number }[];
    readonly messages: Readonly<Record<string, number>>;
    readonly refused: number;
    readonly lastError: string | null;
  };
  readonly rings: readonly {
    readonly index: number;
    readonly completed: number;
    readonly badChains: number;
  }[];
  readonly device: {
    readonly requests: {
      readonly reads: number;
      readonly writes: number;
      readonly flushes: number;
      readonly discards: number;
      readonly writeZeroes: number;
      readonly bytesDiscarded: number;
      readonly bytesZeroed: number;
      readonly refused: Readonly<Record<string, number>>;
      readonly errors: Readonly<Record<string, number>>;
    };
  };
}

/** A served image, and a copy of what it should contain. */
class ServedDisk implements AsyncDisposable {
  readonly image: string;
  readonly content: Uint8Array<ArrayBuffer>;
  readonly #directory: TemporaryDirectory;
  readonly #server: ChildProcess;

  private constructor(
    directory: TemporaryDirectory,
    image: string,
    content: Uint8Array<ArrayBuffer>,
    server: ChildProcess,
  ) {
    this.#directory = directory;
    this.image = image;
    this.content = content;
    this.#server = server;
  }

  /** Makes and serves an image that starts with `random` random bytes. */
  static async serve(keys = "", random = 0): Promise<ServedDisk> {
    const directory = TemporaryDirectory.make("blkio");
    try {
      const image = directory.file("disk.img");
      const content = new Uint8Array(SIZE);
      content.set(makeImage(image, SIZE, random));
      const server = await startVhostd({
        image,
        socket: directory.file("blk.sock"),
        management: directory.file("ctl.sock"),
        keys,
      });
      return new ServedDisk(directory, image, content, server);
    } catch (error) {
      directory[Symbol.dispose]();
      throw error;
    }
  }

  get socket(): string {
    return this.#directory.file("blk.sock");
  }

  open(options?: QemuIoOptions): Promise<QemuIo> {
    return QemuIo.open(found as Blkio, this.socket, options);
  }

  async status(): Promise<DiskStatus> {
    const management = this.#directory.file("ctl.sock");
    return JSON.parse(await ctl(management, "status", "--json")).devices[0];
  }

  /** Waits until no front-end is connected. */
  free(): Promise<void> {
    return waitUntil(async () => !(await this.status()).connected, {
      what: "the disk to be free",
      timeout: 10_000,
    });
  }

  async requests(): Promise<DiskStatus["device"]["requests"]> {
    return (await this.status()).device.requests;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
    this.#directory[Symbol.dispose]();
  }
}

/** Writes a pattern, and to the copy. */
async function write(
  disk: ServedDisk,
  io: QemuIo,
  pattern: number,
  offset: number,
  length: number,
): Promise<void> {
  const said = await io.run(`write -P ${pattern} ${offset} ${length}`);
  assert(said.startsWith(`wrote ${length}/${length} bytes`), said);
  disk.content.fill(pattern, offset, offset + length);
}

/** Reads bytes, which are all `pattern`. */
async function verify(
  io: QemuIo,
  pattern: number,
  offset: number,
  length: number,
): Promise<void> {
  const said = await io.run(`read -P ${pattern} ${offset} ${length}`);
  assert(said.startsWith(`read ${length}/${length} bytes`), said);
}

/** Nothing went wrong on the device's side. */
function assertClean({ session, rings, device }: DiskStatus): void {
  assertEquals([session.refused, session.lastError], [0, null]);
  assertEquals([device.requests.refused, device.requests.errors], [{}, {}]);
  assert(rings.every(({ badChains }) => badChains === 0));
}

/** Writes: pattern, offset, bytes; none overlaps another. */
const WRITES: readonly (readonly [number, number, number])[] = [
  [0x11, 0, 512],
  [0x22, 1536, 4 * KIB],
  [0x33, 64 * KIB, 64 * KIB],
  [0x44, 200 * KIB + 512, 3 * 512],
  [0x55, MIB, MIB],
  [0x66, SIZE - 4 * MIB, 4 * MIB],
];

/** How many requests are under way at once. */
const PARALLEL = 64;

const DISKS = [
  { keys: "queues=4", queues: 4 },
  { keys: "event-idx=off,indirect=off", queues: 1 },
  { keys: "block-size=4096,wce=off", queues: 1 },
  { keys: "engine=sync", queues: 1 },
];

for (const { keys, queues } of DISKS) {
  tests.test(`libblkio reads what it wrote, ${keys}`, async () => {
    await using disk = await ServedDisk.serve(keys, 8 * MIB);
    await using io = await disk.open();
    assertEquals(await io.run("length"), "16 MiB\n");
    for (const one of WRITES) await write(disk, io, ...one);
    for (const one of WRITES) await verify(io, ...one);
    const wrong = await io.run(`read -P ${0x23} 1536 4k`);
    assert(wrong.startsWith("Pattern verification failed at offset 1536"));

    // In several pieces of memory.
    const scattered = 3 * MIB;
    const pieces = await io.run(`writev -P 7 ${scattered} 512 4k 64k 1k`);
    const length = 512 + 69 * KIB;
    assert(pieces.startsWith(`wrote ${length}/${length} bytes`), pieces);
    disk.content.fill(7, scattered, scattered + length);
    await verify(io, 7, scattered, length);

    // Many at once.
    const start = 4 * MIB, bytes = 32 * KIB;
    for (let i = 0; i < PARALLEL; i++) {
      const offset = start + i * bytes;
      await io.run(`aio_write -q -P ${i + 1} ${offset} ${bytes}`);
      disk.content.fill(i + 1, offset, offset + bytes);
    }
    assertEquals(await io.run("aio_flush"), "");
    for (let i = 0; i < PARALLEL; i++) {
      await io.run(`aio_read -P ${i + 1} ${start + i * bytes} ${bytes}`);
    }
    const answers = await io.run("aio_flush");
    assert(!/failed/.test(answers), answers);

    assertEquals(readImage(disk.image, 0, SIZE), disk.content);
    const status = await disk.status();
    assertClean(status);
    assertEquals(status.rings.map(({ index }) => index), [0]);
    const { featureNames } = status.session;
    assertEquals(featureNames.includes("MQ"), queues > 1);
    assertEquals(
      featureNames.includes("EVENT_IDX"),
      !keys.includes("event-idx=off"),
    );
    await io.close();
  });
}

tests.test("libblkio changes its memory while its ring runs", async () => {
  await using disk = await ServedDisk.serve();
  await using io = await disk.open();
  const sizes: number[] = [];
  for (const [i, bytes] of [4 * KIB, 256 * KIB, MIB, 3 * MIB].entries()) {
    await write(disk, io, 0x80 + i, i * 4 * MIB, bytes);
    const { session } = await disk.status();
    const { messages, regions } = session;
    // One region for the ring; the one for data is replaced.
    assertEquals(messages.VHOST_USER_ADD_MEM_REG, 2 + i);
    assertEquals(messages.VHOST_USER_REM_MEM_REG ?? 0, i);
    assertEquals(regions.length, 2);
    sizes.push(Math.max(...regions.map(({ size }) => size)));
    await verify(io, 0x80 + i, i * 4 * MIB, bytes);
  }
  assertEquals(sizes, sizes.toSorted((a, b) => a - b));
  assertEquals(readImage(disk.image, 0, SIZE), disk.content);
  assertClean(await disk.status());
});

tests.test("libblkio flushes when it is told to", async () => {
  await using disk = await ServedDisk.serve();
  const flushes = async () => (await disk.requests()).flushes;
  {
    await using io = await disk.open();
    await write(disk, io, 1, 0, MIB);
    assertEquals(await flushes(), 0);
    assertEquals(await io.run("flush"), "");
    assertEquals(await flushes(), 1);
    await io.run("write -f -P 2 0 4k");
    assertEquals(await flushes(), 2);
    await verify(io, 2, 0, 4 * KIB);
    await io.close();
  }
  await disk.free();
  await using io = await disk.open({ durable: true });
  const before = await flushes();
  await write(disk, io, 3, 8 * KIB, 4 * KIB);
  assertEquals(await flushes(), before + 1);
});

tests.test("libblkio discards and writes zeroes", async () => {
  await using disk = await ServedDisk.serve();
  await using io = await disk.open();
  await write(disk, io, 9, 0, 8 * MIB);
  await io.run("flush");
  const full = allocated(disk.image);
  assert(full >= 8 * MIB, `${full} bytes are allocated`);

  assertEquals((await io.run("discard 1M 2M")).startsWith("discard"), true);
  disk.content.fill(0, MIB, 3 * MIB);
  assert(allocated(disk.image) <= full - 2 * MIB + EXTENTS);
  const { discards, bytesDiscarded } = await disk.requests();
  assert(discards > 0);
  assertEquals(bytesDiscarded, 2 * MIB);

  // Space is kept, then given back.
  const kept = allocated(disk.image);
  await io.run("write -z 4M 1M");
  assert(Math.abs(allocated(disk.image) - kept) <= EXTENTS);
  await io.run("write -z -u 5M 1M");
  assert(allocated(disk.image) <= kept - MIB + EXTENTS);
  disk.content.fill(0, 4 * MIB, 6 * MIB);
  const { writeZeroes, bytesZeroed } = await disk.requests();
  assert(writeZeroes >= 2);
  assertEquals(bytesZeroed, 2 * MIB);

  await verify(io, 9, 0, MIB);
  await verify(io, 0, MIB, 2 * MIB);
  await verify(io, 9, 3 * MIB, MIB);
  await verify(io, 0, 4 * MIB, 2 * MIB);
  await verify(io, 9, 6 * MIB, 2 * MIB);
  assertEquals(readImage(disk.image, 0, SIZE), disk.content);
  assertClean(await disk.status());
});

tests.test("libblkio reads a read-only disk and cannot write it", async () => {
  await using disk = await ServedDisk.serve("readonly", MIB);
  await assertRejects(() => disk.open(), RigError, "read-only");
  await disk.free();
  using directory = TemporaryDirectory.make("blkio");
  const copy = directory.file("copy.img");
  await runBlkio(found as Blkio, "qemu-img", [
    ...["convert", "--image-opts", blkioImage(disk.socket), copy],
  ]);
  assertEquals(Deno.readFileSync(copy), disk.content);
  await disk.free();
  await using io = await disk.open({ readonly: true });
  await verify(io, 0, MIB, MIB);
  const { device, session } = await disk.status();
  assert(session.featureNames.includes("RO"));
  assertEquals(device.requests.writes, 0);
  assertEquals(readImage(disk.image, 0, SIZE), disk.content);
});

tests.test("qemu-img copies an image over libblkio", async () => {
  await using disk = await ServedDisk.serve();
  using directory = TemporaryDirectory.make("blkio");
  const source = directory.file("source.img");
  const content = makeImage(source, SIZE, 6 * MIB);
  const raw = `driver=raw,file.driver=file,file.filename=${source}`;
  const blkio = found as Blkio;
  await runBlkio(blkio, "qemu-img", [
    ...["convert", "-n", "-W", "-m", "8", "-t", "none", "--image-opts", raw],
    ...["--target-image-opts", blkioImage(disk.socket)],
  ]);
  assertEquals(readImage(disk.image, 0, 6 * MIB), content);
  assertEquals(
    readImage(disk.image, 6 * MIB, SIZE - 6 * MIB),
    new Uint8Array(SIZE - 6 * MIB),
  );
  const { requests } = (await disk.status()).device;
  assertEquals([requests.refused, requests.errors], [{}, {}]);
});

tests.test("a client of libblkio that is killed leaves the disk to the next", async () => {
  await using disk = await ServedDisk.serve();
  for (let i = 0; i < 3; i++) {
    {
      await using io = await disk.open();
      await write(disk, io, 0x31 + i, i * MIB, MIB);
      for (let k = 0; k < 16; k++) {
        await io.run(`aio_write -q -P 5 ${8 * MIB + k * 64 * KIB} 64k`);
      }
    }
    await disk.free();
    await using io = await disk.open();
    for (let k = 0; k <= i; k++) await verify(io, 0x31 + k, k * MIB, MIB);
    await io.close();
    await disk.free();
  }
  assertEquals((await disk.status()).connections, 6);
});

tests.test("bench:blk measures over libblkio", async () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("report.json");
  const names = [
    "null 4k strided read QD32, sleeping client",
    "memory 4k strided write QD32",
  ];
  await runCommand(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-all", `--config=${CONFIG}`, BENCH],
      ...["--client=blkio", "--rounds=2", "--seconds=0.1", "--no-polling"],
      ...[...names.map((name) => `--case=${name}`), `--json=${path}`],
    ],
    timeout: 60_000,
  });
  const report = JSON.parse(Deno.readTextFileSync(path)) as Report;
  assertEquals(report.client, "blkio");
  assertEquals(report.cases.map(({ name }) => name).toSorted(), names.sort());
  for (const { runs } of report.cases) {
    assertEquals(Object.keys(runs), [
      "vhostd",
      "qemu-storage-daemon",
      "qsd iothread",
    ]);
    for (const run of Object.values(runs).flat()) {
      assert(run.requests > 0 && run.iops > 0 && run.total >= run.requests);
      assertEquals([run.errors, run.p50], [0, undefined]);
    }
  }
});
