/**
 * Memory that is plugged into a Linux guest and unplugged, while its disk works.
 *
 * Theory of operation: DIMMs of 128 MiB, the least that Linux takes, and one of
 * 16 GiB, which is larger than the memory of many machines; none of it is ever
 * used by the guest, so that it can be given up again. With `memmap_on_memory` the
 * kernel describes a small one in the DIMM itself: the guest's own memory does not
 * limit their number. QEMU does: 256 slots on x86 (`ACPI_MAX_RAM_SLOTS`), which is
 * checked before vhost-user's 512 are.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { serve } from "../../host/serve.ts";
import { waitUntil } from "../support/deadline.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { makeImage, vhostUserBlk } from "./disks.ts";
import { startLinuxGuest } from "./rig/linux_guest.ts";

const MODULE = new URL("../../backends/blk/mod.ts", import.meta.url);
const MIB = 1 << 20, GIB = 1 << 30;

/** Slots that QEMU gives a machine at most. */
export const MOST_DIMMS = 256;

/**
 * Plugs and unplugs so many DIMMs of 128 MiB, and one of 16 GiB before them.
 *
 * @param rounds how often all of them come and go
 */
export async function plugAndUnplug(small: number, rounds = 1): Promise<void> {
  const dimms = [16 * GIB, ...new Array<number>(small).fill(128 * MIB)];
  using directory = TemporaryDirectory.make("dimms");
  const [image, socket] = [directory.file("disk.img"), directory.file("s")];
  makeImage(image, 32 * MIB);
  await using server = await serve({
    device: MODULE,
    options: { path: image },
    socket,
    name: "blk",
    logLevel: "warn",
    signals: false,
  });
  const regions = async (): Promise<number> => {
    const { session } = await server.status() as {
      session: { regions: unknown[] };
    };
    return session.regions.length;
  };
  await using guest = await startLinuxGuest({
    memory: 512,
    append: "memory_hotplug.memmap_on_memory=1",
    devices: [
      ...vhostUserBlk(socket),
      ...["-m", `size=512M,slots=${dimms.length},maxmem=64G`],
    ],
  });
  // Plugged, and not used: what is used may not be given up again.
  await guest.check(
    "echo offline > /sys/devices/system/memory/auto_online_blocks",
  );
  await guest.check(
    "(i=0; while [ ! -e /tmp/stop ]; do " +
      "dd if=/dev/urandom of=/tmp/a bs=64k count=4 2>/dev/null && " +
      "dd if=/tmp/a of=/dev/vda bs=64k seek=$((i%64*4)) oflag=direct " +
      "conv=notrunc 2>/dev/null && " +
      "dd if=/dev/vda of=/tmp/b bs=64k skip=$((i%64*4)) count=4 iflag=direct " +
      "2>/dev/null && cmp /tmp/a /tmp/b || { touch /tmp/failed; break; }; " +
      "i=$((i+1)); echo $i > /tmp/turns; done; touch /tmp/end) > /tmp/log 2>&1 &",
  );
  const turns = async () =>
    Number(await guest.check("cat /tmp/turns 2>/dev/null || echo 0"));
  const { qmp } = guest.qemu;
  const before = await regions();
  const blocks = dimms.reduce((sum, size) => sum + size, 0) / (128 * MIB);
  const offline = "grep -l offline /sys/devices/system/memory/*/state | wc -l";
  for (let round = 0; round < rounds; round++) {
    const start = await turns();
    for (const [i, size] of dimms.entries()) {
      await qmp.execute("object-add", {
        "qom-type": "memory-backend-memfd",
        id: `m${round}-${i}`,
        size,
        share: true,
        reserve: false,
      });
      await qmp.execute("device_add", {
        driver: "pc-dimm",
        id: `d${round}-${i}`,
        memdev: `m${round}-${i}`,
      }, 30_000);
    }
    assertEquals(await regions(), before + dimms.length);
    // The guest has found all of it.
    await guest.check(
      `i=0; while [ $(${offline}) -lt ${blocks} ] && [ $i -lt 600 ]; do ` +
        `sleep 0.1; i=$((i+1)); done; [ $(${offline}) -ge ${blocks} ]`,
      120_000,
    );
    const plugged = await turns();
    assert(plugged > start, "the disk did not work while DIMMs were plugged");
    const deleted = new Set<unknown>();
    for (const i of dimms.keys()) {
      const id = `d${round}-${i}`;
      await qmp.execute("device_del", { id });
      await waitUntil(
        () => {
          for (const { event, data } of qmp.events) {
            if (event === "DEVICE_DELETED") deleted.add(data.device);
          }
          return deleted.has(id);
        },
        { what: `the guest to give up DIMM ${id}`, timeout: 60_000 },
      );
      await qmp.execute("object-del", { id: `m${round}-${i}` });
    }
    assertEquals(await regions(), before);
    assert(await turns() > plugged, "the disk did not work meanwhile");
  }
  await guest.check("touch /tmp/stop");
  await guest.check(
    "i=0; while [ ! -e /tmp/end ] && [ $i -lt 300 ]; do sleep 0.1; " +
      "i=$((i+1)); done; [ -e /tmp/end ] && [ ! -e /tmp/failed ]",
    60_000,
  );
  assertEquals(await guest.powerOff(), 0);
}
