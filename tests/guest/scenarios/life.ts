/**
 * Scenarios: the balloon, back-ends that are killed, reboots, and the end.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { waitUntil } from "../../support/deadline.ts";
import type { Context, Scenario } from "./context.ts";
import { digestOf, random } from "./disk.ts";
import type { Guest } from "./guest.ts";
import { addressed, pingBoth } from "./network.ts";

const MIB = 2 ** 20;
const REBOOTS = 3;
const KILLS = 3;

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

/** Writes to a disk and reads it back, past every cache, until told to stop. */
async function startLoad(
  guest: Guest,
  name: string,
  disk: string,
): Promise<void> {
  const { work, system: { digest, direct } } = guest;
  const file = (what: string) => `${work}/${name}-${what}`;
  await guest.check(
    `rm -f ${file("stop")} ${file("end")} ${file("bad")}; ` +
      `echo 0 > ${file("count")}`,
  );
  const dd = (way: string, at: string) =>
    `dd ${way} bs=65536 count=16 ${at} 2>> ${file("log")}`;
  await guest.check(
    `(i=0; while [ ! -e ${file("stop")} ]; do i=$((i+1)); ` +
      `${dd(`if=/dev/urandom of=${file("data")}`, "")}; ` +
      `a=$(${digest} < ${file("data")}); ` +
      dd(`if=${file("data")} of=${disk}`, `seek=$((i % 8 * 16)) ${direct[1]}`) +
      ` || echo write $i >> ${file("bad")}; ` +
      `b=$(${dd(`if=${disk}`, `skip=$((i % 8 * 16)) ${direct[0]}`)} | ` +
      `${digest}); ` +
      `[ "$a" = "$b" ] || echo differs $i >> ${file("bad")}; ` +
      `echo $i > ${file("count")}; done; echo > ${file("end")}) ` +
      "> /dev/null 2>&1 &",
  );
}

/** How often the load went round; 0 while the file is being written. */
async function rounds(guest: Guest, name: string): Promise<number> {
  const printed = await guest.check(
    `cat ${guest.work}/${name}-count 2>/dev/null || true`,
  );
  return Number(/^\d+$/m.exec(printed)?.[0] ?? 0);
}

async function kills(
  context: Context,
  role: "blk" | "scsi",
): Promise<void> {
  const { guest, bench } = context;
  const { work } = guest;
  await guest.check(`umount ${guest.mountPoint} 2>/dev/null; true`);
  const disk = await guest.system.disk(guest, role);
  await startLoad(guest, role, disk);
  const goesOn = async (beyond: number): Promise<number> => {
    let now = 0;
    await waitUntil(async () => (now = await rounds(guest, role)) > beyond, {
      what: `I/O on "${role}" to go on`,
      timeout: 180_000,
      interval: 200,
    });
    return now;
  };
  let done = await goesOn(1);
  for (let i = 0; i < KILLS; i++) {
    await bench.kill(role);
    done = await goesOn(done + 1);
  }
  if (role === bench.rootOn && role === "blk") {
    await bench.kill("root");
    await guest.check("sync; ls / > /dev/null");
    await goesOn(done);
  }
  await guest.check(`echo > ${work}/${role}-stop`);
  await guest.until(`[ -e ${work}/${role}-end ]`, 120);
  const bad = await guest.check(`cat ${work}/${role}-bad 2>/dev/null || true`);
  assertEquals(bad.match(/^(?:write|differs) \d+$/gm), null, role);
  await guest.check(`rm -f ${work}/${role}-*`);
  assertEquals(await guest.system.complaints(guest), []);
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
    subjects: [],
    async run({ bench, guest, skip }) {
      if (bench.rootOn === null) {
        await skip("the root disk", "this guest has its root in memory");
        return;
      }
      const name = bench.rootOn === "blk" ? "root" : "scsi";
      const total = async () =>
        (await bench.status(name)).rings
          .reduce((sum, { completed }) => sum + completed, 0);
      assert(await total() > 100, "the root disk was hardly read");
      await guest.check("ls / > /dev/null; sync");
    },
  },
  {
    name: "a clean power off",
    quick: true,
    subjects: [],
    async run({ guest, bench }) {
      assertEquals(await guest.powerOff(), 0);
      for (const name of ["blk", "scsi", "net", "balloon"]) {
        await waitUntil(async () => !(await bench.status(name)).connected, {
          what: `the front-end of "${name}" to leave`,
          timeout: 30_000,
          interval: 100,
        });
        assertEquals((await bench.status(name)).state, "running");
      }
    },
  },
];
