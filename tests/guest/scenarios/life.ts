/**
 * Scenarios: the balloon, back-ends that are killed, reboots, and the end.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { waitUntil } from "../../support/deadline.ts";
import type { Context, Scenario } from "./context.ts";
import { digestOf, random } from "./disk.ts";
import { KILLS, killUnderLoad } from "./load.ts";
import { addressed, pingBoth } from "./network.ts";
import { rootFileSystem } from "./root.ts";

const MIB = 2 ** 20;
const REBOOTS = 3;

/** What the balloon says of itself. */
interface BalloonStatus {
  readonly actual: number;
  readonly reclaimed: number;
  readonly progress: number;
}

async function balloon({ guest, bench }: Context): Promise<void> {
  const status = async () =>
    (await bench.status("balloon")).device as unknown as BalloonStatus;
  const move = async (change: string): Promise<BalloonStatus> => {
    await bench.ctl("balloon", "set", change);
    await waitUntil(async () => (await status()).progress === 1, {
      what: `the balloon to be moved by ${change}`,
      timeout: 300_000,
      interval: 200,
    });
    return await status();
  };
  assertEquals((await status()).actual, 0);
  const inflated = await move("-96M");
  assertEquals(inflated.actual, 96 * MIB);
  assertEquals(inflated.reclaimed, 96 * MIB);
  const pages = await guest.system.balloonPages(guest);
  if (pages !== null) assertEquals(pages, 96 * 256);
  // The guest lives with what it has left.
  await guest.check(random(`${guest.work}/data`, 8));
  await guest.check(`rm ${guest.work}/data`);
  assertEquals((await move("-32M")).actual, 128 * MIB);
  assertEquals((await move("100%")).actual, 0);
  assertEquals((await status()).reclaimed, 0);
  const deflated = await guest.system.balloonPages(guest);
  if (deflated !== null) assertEquals(deflated, 0);
  await guest.check(random(`${guest.work}/data`, 32));
  await guest.check(`rm ${guest.work}/data`);
}

async function kills(
  context: Context,
  role: "blk" | "scsi",
): Promise<void> {
  const { guest } = context;
  await guest.check(`umount ${guest.mountPoint} 2>/dev/null; true`);
  const disk = await guest.system.disk(guest, role);
  await killUnderLoad(context, role, role, disk);
}

async function reboots(context: Context): Promise<void> {
  const { guest, bench } = context;
  const { system, mountPoint, work } = guest;
  const disks = [
    await system.disk(guest, "blk"),
    await system.disk(guest, "scsi"),
  ];
  await guest.check(`umount ${mountPoint} 2>/dev/null; true`);
  const sums: string[] = [];
  for (const disk of disks) {
    await guest.check(system.makeFileSystem(disk));
    await guest.check(system.mount(disk, mountPoint));
    await guest.check(random(`${work}/data`, 2));
    await guest.check(`cp ${work}/data ${mountPoint}/data`);
    sums.push(await digestOf(guest, `${mountPoint}/data`));
    await guest.check(`umount ${mountPoint}`);
  }
  for (let i = 0; i < REBOOTS; i++) {
    await guest.reboot();
    for (const [i, role] of (["blk", "scsi"] as const).entries()) {
      const disk = await system.disk(guest, role);
      await guest.check(system.mount(disk, mountPoint));
      assertEquals(await digestOf(guest, `${mountPoint}/data`), sums[i]);
      await guest.check(`umount ${mountPoint}`);
    }
  }
  const kinds = (await system.attached(guest)).map(({ kind }) => kind);
  for (const kind of ["net", "blk", "scsi", "balloon"] as const) {
    assert(kinds.includes(kind), `${kind} after ${REBOOTS} reboots`);
    assertEquals((await bench.status(kind)).state, "running");
  }
}

/** Scenarios about time: what moves, dies, and ends. */
export const LIFE: readonly Scenario[] = [
  {
    name: "the balloon takes memory and gives it back",
    quick: true,
    subjects: [],
    run: balloon,
  },
  {
    name: "the disk's server is killed under I/O (blk)",
    quick: true,
    subjects: ["checksum"],
    run: (context) => kills(context, "blk"),
  },
  {
    name: "the disk's server is killed under I/O (scsi)",
    subjects: ["checksum"],
    run: (context) => kills(context, "scsi"),
  },
  {
    name: "the network's server is killed, and packets pass again",
    subjects: ["interface", "ping"],
    async run(context) {
      await addressed(context);
      await pingBoth(context, [56]);
      for (let i = 0; i < KILLS; i++) {
        await context.bench.kill("net");
        await pingBoth(context, [56, 1400]);
      }
    },
  },
  {
    name: `${REBOOTS} reboots`,
    subjects: ["reboot", "file system", "checksum", "features"],
    run: reboots,
  },
  {
    name: "the root file system is on the served disk",
    quick: true,
    subjects: ["root"],
    run: rootFileSystem,
  },
  {
    name: "a clean power off",
    quick: true,
    subjects: [],
    async run({ guest, bench, skip }) {
      const { switchedOff, code } = await guest.powerOff();
      assertEquals(code, 0);
      if (!switchedOff) {
        const reason =
          "this kernel has no ACPI: it halted, and waits for a key";
        await skip("switching the power off", reason);
      }
      for (const name of ["blk", "scsi", "net", "balloon"]) {
        await waitUntil(async () => !(await bench.status(name)).connected, {
          what: `the front-end of "${name}" to leave`,
          timeout: 30_000,
          interval: 100,
        });
        assertEquals((await bench.status(name)).state, "running");
      }
      if (bench.rootImage === null) return;
      const root = await guest.system.rootState(bench.rootImage);
      if (root.state === "unknown") {
        await skip(
          "a look at the root disk",
          "it has no file system known here",
        );
      } else {
        assertEquals(root, { state: "clean" });
      }
    },
  },
];
