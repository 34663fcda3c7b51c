/**
 * Scenarios: disks, by virtio-blk and behind a SCSI host.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { waitUntil } from "../../support/deadline.ts";
import { allocated } from "../disks.ts";
import { DISK_SIZE, SERIALS } from "./bench.ts";
import type { Context, Scenario } from "./context.ts";
import type { Guest } from "./guest.ts";

const MIB = 2 ** 20;
const ROLES = ["blk", "scsi"] as const;

/** The digest of a file, in hexadecimal. */
export async function digestOf(guest: Guest, file: string): Promise<string> {
  const printed = await guest.check(`${guest.system.digest} < ${file}`);
  const found = /\b[0-9a-f]{32}\b/.exec(printed);
  if (found === null) throw new Error(`No digest: "${printed}"`);
  return found[0];
}

/** Writes random bytes to a file. */
export function random(file: string, mib: number): string {
  // The suffix is what both dd(1) and busybox know.
  return `dd if=/dev/urandom of=${file} bs=65536 count=${mib * 16} 2>/dev/null`;
}

/** Nothing is mounted any more, should a scenario before have failed. */
function unmounted({ guest }: Context): string {
  return `umount ${guest.mountPoint} 2>/dev/null; true`;
}

async function filesAndCheck(
  context: Context,
  role: "blk" | "scsi",
): Promise<void> {
  const { guest } = context;
  const { system, work, mountPoint } = guest;
  const disk = await system.disk(guest, role);
  await guest.check(unmounted(context));
  await guest.check(system.makeFileSystem(disk));
  await guest.check(system.mount(disk, mountPoint));
  const sums: string[] = [];
  for (const file of ["one", "two", "three"]) {
    await guest.check(random(`${work}/${file}`, 8));
    await guest.check(`cp ${work}/${file} ${mountPoint}/${file}`);
    sums.push(await digestOf(guest, `${work}/${file}`));
    await guest.check(`rm ${work}/${file}`);
  }
  await guest.check(`umount ${mountPoint}`);
  await guest.check(system.checkFileSystem(disk));
  await guest.check(system.mount(disk, mountPoint));
  for (const [i, file] of ["one", "two", "three"].entries()) {
    assertEquals(await digestOf(guest, `${mountPoint}/${file}`), sums[i]);
  }
  await guest.check(`rm ${mountPoint}/two`);
  await guest.check(`umount ${mountPoint}`);
  await guest.check(system.checkFileSystem(disk));
}

async function trim(context: Context, role: "blk" | "scsi"): Promise<void> {
  const { guest, bench } = context;
  const { system, mountPoint, work } = guest;
  const image = bench.image(role);
  const disk = await system.disk(guest, role);
  const freed = (bytes: number, what: string) =>
    waitUntil(async () => {
      await guest.check("sync");
      return allocated(image) < bytes;
    }, { what, timeout: 300_000, interval: 500 });
  await guest.check(unmounted(context));
  await guest.check(random(`${work}/data`, 16));
  for (const at of [2, 4]) {
    await guest.check(
      `dd if=${work}/data of=${disk} bs=65536 seek=${at * 256} ` +
        `${system.direct[1]} 2>/dev/null`,
    );
  }
  assert(allocated(image) >= 32 * MIB, `${allocated(image)} bytes allocated`);
  await guest.check(await system.trimDisk(guest, disk));
  await freed(16 * MIB, `the blocks of "${role}" to be freed`);

  await guest.check(system.makeFileSystem(disk));
  await guest.check(system.mount(disk, mountPoint));
  for (const file of ["one", "two"]) {
    await guest.check(`cp ${work}/data ${mountPoint}/${file}`);
  }
  await guest.check("sync");
  await waitUntil(() => allocated(image) >= 32 * MIB, {
    what: `the files on "${role}" to be written`,
    timeout: 120_000,
  });
  const full = allocated(image);
  await guest.check(`rm ${mountPoint}/one ${mountPoint}/two`);
  await guest.check(system.trimFiles(mountPoint));
  await freed(full - 24 * MIB, `the files' blocks of "${role}" to be freed`);
  await guest.check(`umount ${mountPoint}; rm ${work}/data`);
  await guest.check(system.checkFileSystem(disk));
}

async function resize(context: Context, role: "blk" | "scsi"): Promise<void> {
  const { guest, bench } = context;
  const { system } = guest;
  const disk = await system.disk(guest, role);
  await guest.check(unmounted(context));
  const before = await system.diskSize(guest, disk);
  const size = before + 64 * MIB;
  Deno.truncateSync(bench.image(role), size);
  if (role === "blk") await bench.ctl("resize", "blk");
  else {
    const target = bench.rootOn === "scsi" ? 1 : 0;
    await bench.ctl("lun", "resize", `target=${target}`);
  }
  await waitUntil(async () => {
    await guest.run(system.look(disk));
    return await system.diskSize(guest, disk) === size;
  }, {
    what: `the guest to see ${size} bytes of "${role}"`,
    timeout: 180_000,
    interval: 200,
  });
  // What is new can be used.
  const last = size / 65536 - 1;
  await guest.check(random(`${guest.work}/end`, 1));
  await guest.check(
    `dd if=${guest.work}/end of=${disk} bs=65536 count=1 seek=${last} ` +
      `${system.direct[1]} 2>/dev/null`,
  );
  await guest.check(`rm ${guest.work}/end`);
}

function forBoth(
  what: string,
  subjects: Scenario["subjects"],
  quick: readonly ("blk" | "scsi")[],
  run: (context: Context, role: "blk" | "scsi") => Promise<void>,
): Scenario[] {
  return ROLES.map((role) => ({
    name: `${what} (${role})`,
    quick: quick.includes(role),
    subjects,
    run: (context) => run(context, role),
  }));
}

/** Scenarios about disks. */
export const DISKS: readonly Scenario[] = [
  ...forBoth(
    "a file system, checksums of its files, and its check",
    ["file system", "checksum"],
    ["blk"],
    filesAndCheck,
  ),
  ...forBoth(
    "what the disk is",
    ["disk facts"],
    ROLES,
    async ({ guest, bench }, role) => {
      const disk = await guest.system.disk(guest, role);
      const facts = await guest.system.diskFacts(guest, disk);
      assertEquals(facts.size, Deno.statSync(bench.image(role)).size);
      assert(facts.size >= DISK_SIZE);
      assertEquals(facts.sectorSize, 512);
      if (facts.serial !== null) assertEquals(facts.serial, SERIALS[role]);
      assertEquals(facts.trim, true);
    },
  ),
  {
    name: "the SCSI disk answers about itself",
    quick: true,
    subjects: ["scsi"],
    async run({ guest }) {
      const disk = await guest.system.disk(guest, "scsi");
      for (const { command, answer } of guest.system.scsi(disk)) {
        const { output, status } = await guest.run(command);
        assertEquals(status, 0, `${command}: ${output}`);
        assertMatch(output, answer, command);
      }
    },
  },
  ...forBoth(
    "blocks that the guest gives back are freed on the host",
    ["trim", "file system"],
    ["scsi"],
    trim,
  ),
  ...forBoth(
    "partitions come, hold a file system, and go",
    ["partition", "file system", "checksum"],
    [],
    async (context, role) => {
      const { guest } = context;
      const { system, work, mountPoint } = guest;
      const disk = await system.disk(guest, role);
      await guest.check(unmounted(context));
      const partition = await system.partition(guest, disk);
      await guest.check(system.makeFileSystem(partition));
      await guest.check(system.mount(partition, mountPoint));
      await guest.check(random(`${work}/data`, 4));
      await guest.check(`cp ${work}/data ${mountPoint}/data`);
      await guest.check(`umount ${mountPoint}`);
      await guest.check(system.mount(partition, mountPoint));
      assertEquals(
        await digestOf(guest, `${mountPoint}/data`),
        await digestOf(guest, `${work}/data`),
      );
      await guest.check(`umount ${mountPoint}; rm ${work}/data`);
      await guest.check(system.checkFileSystem(partition));
      await guest.check(system.unpartition(disk));
    },
  ),
  ...forBoth("the disk grows while it is in use", ["features"], [], resize),
];
