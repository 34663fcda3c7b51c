/**
 * What goes wrong below a disk reaches its guest as an I/O error, is counted by
 * its name, and the disk goes on: a full file system, a limit on file sizes, an
 * image that shrinks or goes, and errors of the medium.
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { createMemfd } from "../../sys/memfd.ts";
import { FrontEndMessage } from "../../vhost/constants.ts";
import { encodeMemoryRegion } from "../../vhost/message.ts";
import { waitUntil } from "../support/deadline.ts";
import { runCommand } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { SharedRegion } from "../../vhost/testing/front_end.ts";
import { Guest, header, SECTOR, T_FLUSH, T_IN, T_OUT } from "./disk.ts";
import { findTracer, traced } from "./strace.ts";
import { VhostdProcess } from "./vhostd_process.ts";

const T_DISCARD = 11;
const OK = 0, IOERR = 1;
const KIB = 1024, MIB = 1024 * KIB;
/** A disk's name. */
const DISK = "disk";

/** Bytes that belong to a place. */
function contents(sector: number, length = 64 * KIB): Uint8Array {
  return new Uint8Array(length).fill(1 + sector % 251);
}

async function write(guest: Guest, at: number): Promise<number> {
  const sector = at / SECTOR;
  return (await guest.request(T_OUT, sector, contents(sector))).status;
}

/** Reads what {@linkcode write} wrote; its status. */
async function read(guest: Guest, at: number): Promise<number> {
  const sector = at / SECTOR;
  const { status, data } = await guest.request(T_IN, sector, 64 * KIB);
  if (status === OK) assertEquals(data, contents(sector));
  return status;
}

/** Errors that the disk has counted, by name. */
async function errors(
  server: VhostdProcess,
): Promise<Readonly<Record<string, number>>> {
  return (await server.status(DISK)).device.requests.errors;
}

/** A range of a discard request. */
function range(at: number, length: number): Uint8Array {
  const words = new Uint32Array([at / SECTOR, 0, length / SECTOR, 0]);
  return new Uint8Array(words.buffer);
}

const mounting = [
  "unshare",
  "-rm",
  "sh",
  "-c",
  'mount -t tmpfs -o size=256k none "$0" && truncate -s 1M "$0/disk.img" && ' +
  'exec "$@"',
];

/** Why no file system can be mounted here, or `null`. */
async function obstacleToMounting(): Promise<string | null> {
  using directory = TemporaryDirectory.make("mount");
  const [command, ...args] = [...mounting, directory.path, "true"];
  try {
    const { code, stderr } = await runCommand(command, { args, anyCode: true });
    return code === 0 ? null : `no private mounts here: ${stderr.trim()}`;
  } catch (error) {
    return `no private mounts here: ${error}`;
  }
}

const mountReason = await obstacleToMounting();
const mounts = skipUnless(mountReason === null, mountReason ?? "");

for (const engine of ["sync", "auto"]) {
  mounts.test(`a full file system (engine=${engine})`, async () => {
    using directory = TemporaryDirectory.make("full");
    const image = directory.file("disk.img");
    await using server = await VhostdProcess.start({
      wrapper: [...mounting, directory.path],
      disks: [{ name: DISK, image, keys: `engine=${engine}` }],
    });
    using guest = await Guest.run(server.socket(DISK));
    for (let at = 0; at < 192 * KIB; at += 64 * KIB) {
      assertEquals(await write(guest, at), OK);
    }
    // Of the fourth only a part has room, of the others nothing.
    let full = 0;
    for (let at = 256 * KIB; at < 768 * KIB; at += 64 * KIB) {
      if (await write(guest, at) === IOERR) full++;
    }
    assert(full >= 7, `${full} of 8 writes failed`);
    assertEquals(await errors(server), { ENOSPC: full });
    // The rest of the disk is as good as before, and room can be made.
    for (let at = 0; at < 192 * KIB; at += 64 * KIB) {
      assertEquals(await read(guest, at), OK);
    }
    assertEquals((await guest.request(T_FLUSH, 0)).status, OK);
    const discard = await guest.request(T_DISCARD, 0, range(0, 1 * MIB));
    assertEquals(discard.status, OK);
    assertEquals(await write(guest, 768 * KIB), OK);
    assertEquals(await read(guest, 768 * KIB), OK);
    assertEquals(await errors(server), { ENOSPC: full });
  });
}

for (const signal of ["ignored", "not ignored"]) {
  for (const engine of ["sync", "auto"]) {
    Deno.test(`a limit on file sizes, SIGXFSZ ${signal} (engine=${engine})`, async () => {
      // Beyond what Deno's own caches grow to, which the limit is for as well.
      const limit = 1024 * MIB;
      const trap = signal === "ignored" ? "trap '' XFSZ; " : "";
      await using server = await VhostdProcess.start({
        // The unit of dash and of POSIX is 512 bytes.
        wrapper: [
          "sh",
          "-c",
          `${trap}ulimit -f ${limit / 512} && exec "$@"`,
          "sh",
        ],
        disks: [{
          name: DISK,
          sectors: 2 * limit / SECTOR,
          keys: `engine=${engine}`,
        }],
      });
      using guest = await Guest.run(server.socket(DISK));
      const below = limit - 64 * KIB;
      assertEquals(await write(guest, below), OK);
      assertEquals(await write(guest, limit), IOERR);
      assertEquals(await write(guest, limit + MIB), IOERR);
      assertEquals(await read(guest, below), OK);
      assertEquals(await write(guest, below), OK);
      assertEquals((await guest.request(T_FLUSH, 0)).status, OK);
      assertEquals(await errors(server), { EFBIG: 2 });
      assertEquals((await server.status(DISK)).restarts, 0);
    });
  }
}

for (const engine of ["sync", "auto"]) {
  Deno.test(`an image that is made smaller, and larger again (engine=${engine})`, async () => {
    await using server = await VhostdProcess.start({
      disks: [{ name: DISK, sectors: MIB / SECTOR, keys: `engine=${engine}` }],
    });
    using guest = await Guest.run(server.socket(DISK));
    const image = server.image(DISK);
    for (let at = 0; at < MIB; at += 64 * KIB) {
      assertEquals(await write(guest, at), OK);
    }
    Deno.truncateSync(image, 512 * KIB);
    for (let at = 0; at < MIB; at += 64 * KIB) {
      assertEquals(await read(guest, at), at < 512 * KIB ? OK : IOERR);
    }
    assertEquals(await errors(server), { EIO: 8 });
    // A write makes it as large as it has to be.
    assertEquals(await write(guest, 768 * KIB), OK);
    assertEquals(Deno.statSync(image).size, 832 * KIB);
    assertEquals(await read(guest, 768 * KIB), OK);
    assertEquals((await guest.request(T_IN, 1536 - 128, SECTOR)).status, OK);
    assertEquals(await read(guest, 960 * KIB), IOERR);
    Deno.truncateSync(image, MIB);
    assertEquals((await guest.request(T_IN, 1920, SECTOR)).status, OK);
    assertEquals((await guest.request(T_FLUSH, 0)).status, OK);
    assertEquals(await errors(server), { EIO: 9 });
  });

  Deno.test(`on-error=stop: the guest waits until the image is mended (engine=${engine})`, async () => {
    await using server = await VhostdProcess.start({
      disks: [{
        name: DISK,
        sectors: MIB / SECTOR,
        keys: `engine=${engine},on-error=stop`,
      }],
    });
    using guest = await Guest.run(server.socket(DISK));
    const image = server.image(DISK);
    for (let at = 0; at < MIB; at += 64 * KIB) {
      assertEquals(await write(guest, at), OK);
    }
    Deno.truncateSync(image, 512 * KIB);
    const tokens = [768, 832].map((at) =>
      guest.submit(T_IN, at * KIB / SECTOR, 64 * KIB)
    );
    await waitUntil(
      async () => (await server.status(DISK)).device.heldRequests > 0,
      {
        what: "the requests to be held",
      },
    );
    const late = guest.submit(T_IN, 0, SECTOR);
    assertEquals(guest.drivers[0].reap(), []);
    assertEquals(Object.keys(await errors(server)), ["EIO"]);
    Deno.truncateSync(image, MIB);
    await server.resume(DISK);
    const done = await guest.complete(3);
    assertEquals(
      done.map(({ token }) => token).sort((a, b) => a - b),
      [...tokens, late],
    );
    for (const { data } of done) assertEquals(data.at(-1), OK);
    // A ring that stops takes what is held along.
    Deno.truncateSync(image, 512 * KIB);
    guest.submit(T_IN, 768 * KIB / SECTOR, 64 * KIB);
    await waitUntil(
      async () => (await server.status(DISK)).device.heldRequests === 1,
      {
        what: "the request to be held",
      },
    );
    await guest.frontEnd.stop();
    const [{ data }] = guest.drivers[0].reap();
    assertEquals(data.at(-1), IOERR);
  });

  Deno.test(`an image that is made smaller again and again under load (engine=${engine})`, async () => {
    await using server = await VhostdProcess.start({
      disks: [{ name: DISK, sectors: MIB / SECTOR, keys: `engine=${engine}` }],
    });
    using guest = await Guest.run(server.socket(DISK));
    const image = server.image(DISK);
    let failed = 0;
    for (let round = 0; round < 60; round++) {
      for (let i = 0; i < 32; i++) {
        const sector = (i * 64) % (MIB / SECTOR);
        if (i % 4 === 0) guest.submit(T_OUT, sector, contents(sector, 4096));
        else guest.submit(T_IN, sector, 4096);
      }
      Deno.truncateSync(image, round % 2 === 0 ? 4096 : MIB);
      for (const { data } of await guest.complete(32)) {
        const status = data[data.length - 1];
        assert(status === OK || status === IOERR);
        if (status === IOERR) failed++;
      }
    }
    assert(failed > 0);
    assertEquals(await errors(server), { EIO: failed });
    Deno.truncateSync(image, MIB);
    assertEquals(await write(guest, 0), OK);
    assertEquals(await read(guest, 0), OK);
  });

  Deno.test(`an image that is deleted (engine=${engine})`, async () => {
    await using server = await VhostdProcess.start({
      disks: [{ name: DISK, sectors: MIB / SECTOR, keys: `engine=${engine}` }],
    });
    using guest = await Guest.run(server.socket(DISK));
    assertEquals(await write(guest, 0), OK);
    Deno.removeSync(server.image(DISK));
    assertEquals(await read(guest, 0), OK);
    assertEquals(await write(guest, 512 * KIB), OK);
    assertEquals(await read(guest, 512 * KIB), OK);
    assertEquals((await guest.request(T_FLUSH, 0)).status, OK);
    assertEquals(await errors(server), {});
  });
}

const tracer = await findTracer();
const tracing = skipUnless(
  typeof tracer !== "string",
  typeof tracer === "string" ? tracer : "",
);

tracing.test("errors of the medium", async () => {
  using directory = TemporaryDirectory.make("inject");
  await using server = await VhostdProcess.start({
    disks: [{ name: DISK, sectors: MIB / SECTOR, keys: "engine=sync" }],
    wrapper: traced(
      tracer as readonly string[],
      directory.file("trace"),
      ["preadv", "pwritev", "fdatasync", "fallocate"],
      [
        "preadv:error=EIO:when=2",
        "pwritev:error=EDQUOT:when=3",
        "fdatasync:error=EIO:when=2",
        "fallocate:error=ENOSPC:when=3",
      ],
    ),
  });
  using guest = await Guest.run(server.socket(DISK));
  const statuses = async (
    request: () => Promise<number>,
  ): Promise<number[]> => {
    const seen: number[] = [];
    for (let i = 0; i < 4; i++) seen.push(await request());
    return seen;
  };
  // Two pieces are moved by preadv and pwritev, which nothing else calls.
  const [driver] = guest.drivers;
  const inTwo = async (writing: boolean): Promise<number> => {
    const half = 4 * KIB;
    const piece = writing
      ? { readable: new Uint8Array(half) }
      : { writable: half };
    driver.submit(
      [
        { readable: header(writing ? T_OUT : T_IN, 0) },
        ...[piece, piece],
        { writable: 1 },
      ],
      { indirect: true },
    );
    if (driver.kickNeeded()) guest.frontEnd.kick(0);
    const [{ data }] = await guest.complete(1);
    return data[data.length - 1];
  };
  const one = (index: number): number[] =>
    [0, 1, 2, 3].map((i) => i === index ? IOERR : OK);
  assertEquals(await statuses(() => inTwo(true)), one(2));
  assertEquals(await statuses(() => inTwo(false)), one(1));
  const flush = async (): Promise<number> =>
    (await guest.request(T_FLUSH, 0)).status;
  assertEquals(await statuses(flush), one(1));
  const discard = async (): Promise<number> =>
    (await guest.request(T_DISCARD, 0, range(512 * KIB, 4096))).status;
  // The first was made when the image was opened.
  assertEquals(await statuses(discard), one(1));
  assertEquals(await errors(server), { EIO: 2, ENOSPC: 1, EDQUOT: 1 });
});

Deno.test("no descriptor is free: nobody else notices, and all is well when there is one", async () => {
  await using server = await VhostdProcess.start({
    disks: [{ name: DISK }, { name: "other" }],
    wrapper: ["sh", "-c", 'ulimit -n 96 && exec "$@"', "sh"],
  });
  using other = await Guest.run(server.socket("other"));
  const regions: SharedRegion[] = [];
  try {
    using greedy = await Guest.run(server.socket(DISK));
    // Each region keeps a descriptor.
    const dropped = await assertRejects(async () => {
      for (let i = 0; i < 200; i++) {
        const region = SharedRegion.create(0x4000_0000 + i * 0x10000, 4096);
        regions.push(region);
        await greedy.frontEnd.addMemReg(region);
      }
    });
    assert(regions.length < 96, String(dropped));
    // There is no room for whoever comes now, as long as there is none.
    assertEquals((await other.request(T_IN, 1, SECTOR)).status, OK);
  } finally {
    for (const region of regions) region[Symbol.dispose]();
  }
  using guest = await Guest.run(server.socket(DISK));
  assertEquals((await guest.request(T_IN, 1, SECTOR)).status, OK);
  assertEquals((await other.request(T_IN, 1, SECTOR)).status, OK);
  const { restarts, lastDrop } = await server.status(DISK);
  assertEquals(restarts, 0);
  assert(lastDrop?.includes("the limit on open descriptors"), `${lastDrop}`);
});

Deno.test("memory that finds no room: the guest goes on, and all is well when there is some", async () => {
  const SIZE = 16 * 2 ** 40;
  await using server = await VhostdProcess.start({ disks: [{ name: DISK }] });
  using guest = await Guest.run(server.socket(DISK));
  const { frontEnd } = guest;
  using memfd = createMemfd("vhost-test", SIZE);
  const regionAt = (number: number) =>
    encodeMemoryRegion({
      guestAddress: number * SIZE,
      size: SIZE,
      userAddress: number * SIZE,
      mmapOffset: 0,
    });
  const add = (number: number) =>
    frontEnd.set(FrontEndMessage.ADD_MEM_REG, regionAt(number), [memfd.fd]);
  let number = 1;
  // A process has 128 TiB of addresses, of which much is taken already.
  const refused = await assertRejects(async () => {
    for (; number <= 8; number++) await add(number);
  });
  assert(number > 1 && number <= 8, String(refused));
  const { session, restarts } = await server.status(DISK);
  assertStringIncludes(`${session?.lastError}`, "ENOMEM");
  assertEquals(restarts, 0);
  assertEquals((await guest.request(T_IN, 1, SECTOR)).status, OK);
  await frontEnd.set(FrontEndMessage.REM_MEM_REG, regionAt(1));
  await add(number);
  assertEquals((await guest.request(T_IN, 1, SECTOR)).status, OK);
});
