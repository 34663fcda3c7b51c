/**
 * Memory that is plugged into a Linux guest and unplugged, while its disk works.
 */

import { assert, assertEquals } from "@std/assert";
import { serve } from "../../host/serve.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { makeImage, vhostUserBlk } from "./disks.ts";
import { startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MODULE = new URL("../../backends/blk/mod.ts", import.meta.url);
const MIB = 1 << 20, GIB = 1 << 30;
/** Small ones, and one that is larger than the memory of many machines. */
const DIMMS = [...new Array(12).fill(128 * MIB), 16 * GIB];

guests.test("Linux: 12 DIMMs and one of 16 GiB come and go under I/O", async () => {
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
    devices: [
      ...vhostUserBlk(socket),
      ...["-m", `size=512M,slots=${DIMMS.length},maxmem=32G`],
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
  const start = await turns();
  for (const [i, size] of DIMMS.entries()) {
    await qmp.execute("object-add", {
      "qom-type": "memory-backend-memfd",
      id: `m${i}`,
      size,
      share: true,
      reserve: false,
    });
    await qmp.execute("device_add", {
      driver: "pc-dimm",
      id: `d${i}`,
      memdev: `m${i}`,
    }, 30_000);
  }
  assertEquals(await regions(), before + DIMMS.length);
  // The guest has found all of it.
  const blocks = DIMMS.reduce((sum, size) => sum + size, 0) / (128 * MIB);
  await guest.check(
    "i=0; while [ $(grep -l offline /sys/devices/system/memory/*/state | wc -l)" +
      ` -lt ${blocks} ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; ` +
      `[ $(grep -l offline /sys/devices/system/memory/*/state | wc -l) -ge ${blocks} ]`,
    60_000,
  );
  for (const i of DIMMS.keys()) {
    await qmp.execute("device_del", { id: `d${i}` });
    await waitUntil(
      () =>
        qmp.events.some(({ event, data }) =>
          event === "DEVICE_DELETED" && data.device === `d${i}`
        ),
      { what: `the guest to give up DIMM ${i}`, timeout: 60_000 },
    );
    await qmp.execute("object-del", { id: `m${i}` });
  }
  assertEquals(await regions(), before);
  assert(await turns() > start, "the disk did not work meanwhile");
  await guest.check("touch /tmp/stop");
  await guest.check(
    "i=0; while [ ! -e /tmp/end ] && [ $i -lt 300 ]; do sleep 0.1; " +
      "i=$((i+1)); done; [ -e /tmp/end ] && [ ! -e /tmp/failed ]",
    60_000,
  );
  assertEquals(await guest.powerOff(), 0);
});
