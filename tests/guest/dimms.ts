/**
 * Memory that is plugged into a Linux guest and unplugged, while its disk works.
 *
 * Theory of operation: DIMMs of 128 MiB, the least that Linux takes, and one of
 * 16 GiB, which is larger than the memory of many machines. With
 * `memmap_on_memory` the kernel describes a small one in the DIMM itself: the
 * guest's own memory does not limit their number. QEMU does: 256 slots on x86
 * (`ACPI_MAX_RAM_SLOTS`), which is checked before vhost-user's 512 are.
 *
 * The last ones are put online as movable memory, which Linux takes first for
 * what processes have: their buffers, and with them the device's requests, go
 * there, and have to leave before the DIMM does. The others stay offline: that
 * costs nothing but slots.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
} from "@std/assert";
import { waitUntil } from "../support/deadline.ts";
import { BusyGuest } from "./busy_guest.ts";
import {
  holdBuffers,
  type MemoryFile,
  memoryFiles,
  releaseBuffers,
} from "./guest_memory.ts";
import type { LinuxGuest } from "./rig/linux_guest.ts";
import type { QmpClient } from "./rig/qmp.ts";

const MIB = 1 << 20, GIB = 1 << 30;

/** Bytes of a small DIMM: a block of memory, as Linux has it. */
export const SMALL = 128 * MIB;

/** Memory that the guest starts with. */
const BOOT = 512 * MIB;

/** What is written from one buffer. */
const WRITE = 4 * MIB;

/** Attempts to unplug a DIMM: Linux gives up where pages do not move in time. */
const ATTEMPTS = 20;

/** Slots that QEMU gives a machine at most. */
export const MOST_DIMMS = 256;

/** What {@linkcode plugAndUnplug} does. */
export interface DimmOptions {
  /** DIMMs of 128 MiB; one of 16 GiB comes before them. */
  readonly small: number;
  /** How many of the small ones the guest uses. */
  readonly online: number;
  /** Bytes of a buffer in them that the disk fills, whole MiB. */
  readonly read: number;
  /** How often all of them come and go (1). */
  readonly rounds?: number;
}

/** Plugs DIMMs, has them used and unplugs them. */
export async function plugAndUnplug(
  { small, online, read, rounds = 1 }: DimmOptions,
): Promise<void> {
  const dimms = [16 * GIB, ...new Array<number>(small).fill(SMALL)];
  await using busy = await BusyGuest.start(
    {
      memory: BOOT / MIB,
      append: "memory_hotplug.memmap_on_memory=1",
      devices: ["-m", `size=512M,slots=${dimms.length},maxmem=64G`],
    },
    read,
    WRITE,
  );
  const { guest } = busy;
  const { qmp } = guest.qemu;
  const before = (await busy.regions()).length;
  const unused = dimms.length - online;
  const blocks = dimms.slice(0, unused).reduce((sum, size) => sum + size, 0) /
    SMALL;
  for (let round = 0; round < rounds; round++) {
    const start = await busy.turns();
    await use(guest, "offline");
    for (const [i, size] of dimms.entries()) {
      if (i === unused) {
        // Linux looks at its policy when it finds a DIMM.
        await waitForBlocks(guest, "state", "offline", blocks);
        await use(guest, "online_movable");
      }
      await plug(qmp, `${round}-${i}`, size);
    }
    assertEquals((await busy.regions()).length, before + dimms.length);
    await waitForBlocks(guest, "valid_zones", "Movable", online);
    assertGreater(await busy.turns(), start, "no I/O while DIMMs came");

    const pages = await holdBuffers(busy, read, WRITE);
    const found = memoryFiles(guest.qemu).filter(isDimm)
      .map((file) => pages.findIn(file));
    assertEquals(
      found.reduce((all, some) => all.union(some)).size,
      pages.count,
      "the device did not read and write all in DIMMs",
    );
    // What is larger than a DIMM is in more than one.
    const used = found.filter(({ size }) => size > 0).length;
    assertGreaterOrEqual(used, Math.ceil(read / SMALL));

    const plugged = await busy.turns();
    for (const i of dimms.keys()) await unplug(qmp, `${round}-${i}`);
    assertEquals((await busy.regions()).length, before);
    assertGreater(await busy.turns(), plugged, "no I/O while DIMMs went");
    // What was in DIMMs had to move, whole.
    const [boot, ...others] = memoryFiles(guest.qemu);
    assertEquals(others, []);
    assertEquals(pages.findIn(boot).size, pages.count);
    await releaseBuffers(guest);
  }
  assertEquals(await busy.powerOff(), 0);
}

function isDimm({ size }: MemoryFile): boolean {
  return size !== BOOT;
}

/** What Linux does with memory that it finds from now on. */
export async function use(
  guest: LinuxGuest,
  how: "offline" | "online_movable",
): Promise<void> {
  await guest.check(
    `echo ${how} > /sys/devices/system/memory/auto_online_blocks`,
  );
}

/** Waits until so many blocks of memory say something of themselves. */
export async function waitForBlocks(
  guest: LinuxGuest,
  attribute: string,
  value: string,
  count: number,
): Promise<void> {
  const blocks =
    `grep -lx ${value} /sys/devices/system/memory/*/${attribute} | wc -l`;
  await guest.check(
    `i=0; while [ $(${blocks}) -lt ${count} ] && [ $i -lt 600 ]; do ` +
      `sleep 0.1; i=$((i+1)); done; [ $(${blocks}) -eq ${count} ]`,
    120_000,
  );
}

/** Plugs a DIMM of `size` bytes. */
export async function plug(
  qmp: QmpClient,
  id: string,
  size: number,
): Promise<void> {
  await qmp.execute("object-add", {
    "qom-type": "memory-backend-memfd",
    id: `m${id}`,
    size,
    share: true,
    reserve: false,
  });
  await qmp.execute("device_add", {
    driver: "pc-dimm",
    id: `d${id}`,
    memdev: `m${id}`,
  }, 30_000);
}

/** Unplugs a DIMM, and waits until the guest has given it up. */
export async function unplug(qmp: QmpClient, id: string): Promise<void> {
  const device = `d${id}`;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const from = qmp.events.length;
    let answer: string | undefined;
    await qmp.execute("device_del", { id: device });
    await waitUntil(() => {
      answer = qmp.events.slice(from).find(({ event, data }) =>
        data.device === device &&
        ["DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"].includes(event)
      )?.event;
      return answer !== undefined;
    }, {
      what: `the guest to give up DIMM ${device}`,
      timeout: 60_000,
    });
    if (answer === "DEVICE_DELETED") {
      await qmp.execute("object-del", { id: `m${id}` });
      return;
    }
  }
  assert(false, `the guest has kept DIMM ${device} ${ATTEMPTS} times`);
}
