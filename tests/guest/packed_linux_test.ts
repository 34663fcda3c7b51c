/**
 * Linux's drivers on packed rings: a disk, a SCSI host and a balloon in one
 * guest. Networks: `net_linux_test.ts`; a disk whose server dies:
 * `blk_crash_test.ts`.
 */

import { assertEquals } from "@std/assert";
import { serve } from "../../host/serve.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { GuestBalloon } from "./balloons.ts";
import { makeImage, vhostUserBlk } from "./disks.ts";
import { startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;

/** Serves a disk or a SCSI host over an image of 64 MiB. */
function serveImage(
  type: "blk" | "scsi",
  path: string,
  socket: string,
): Promise<Awaited<ReturnType<typeof serve>>> {
  makeImage(path, 64 * MIB);
  return serve({
    device: new URL(`../../backends/${type}/mod.ts`, import.meta.url),
    options: { path },
    socket,
    name: type,
    logLevel: "warn",
    signals: false,
  });
}

guests.test("Linux: a disk, a SCSI disk and a balloon on packed rings", async () => {
  using directory = TemporaryDirectory.make("packed");
  const file = (name: string): string => directory.file(name);
  await using blk = await serveImage("blk", file("a.img"), file("a.sock"));
  await using scsi = await serveImage("scsi", file("b.img"), file("b.sock"));
  await using balloon = await GuestBalloon.start();
  await using guest = await startLinuxGuest({
    memory: 384,
    devices: [
      ...vhostUserBlk(file("a.sock"), ",packed=on"),
      ...["-chardev", `socket,id=scsi,path=${file("b.sock")}`],
      ...["-device", "vhost-user-scsi-pci,chardev=scsi,packed=on"],
      ...balloon.devices,
    ],
  });
  // RING_PACKED (34) and VERSION_1 (32), and ORDER_PLATFORM (36) where QEMU has
  // no list of its own.
  const bits = await guest.check(
    "cut -c33,35,37 /sys/bus/virtio/devices/virtio[012]/features | tr '\\n' ' '",
  );
  assertEquals(bits.trim().split(" "), ["110", "110", "111"]);
  for (const disk of ["vda", "sda"]) {
    const write = [
      `mkfs.ext4 -q -F /dev/${disk}`,
      `mount /dev/${disk} /mnt`,
      "dd if=/dev/urandom of=/tmp/data bs=1M count=24 2>/dev/null",
      "dd if=/tmp/data of=/mnt/data bs=1M conv=fsync 2>/dev/null",
      "umount /mnt",
      "echo 3 > /proc/sys/vm/drop_caches",
      `mount /dev/${disk} /mnt`,
      "cmp /tmp/data /mnt/data",
      "umount /mnt",
      `e2fsck -fn /dev/${disk}`,
      `blkdiscard -f /dev/${disk}`,
    ];
    await guest.check(write.join(" && "), 60_000);
  }
  await balloon.move("50%");
  await waitUntil(async () => (await balloon.status()).progress === 1, {
    what: "the balloon to be full",
    timeout: 30_000,
  });
  await balloon.move("100%");
  assertEquals((await balloon.status()).reclaimed, 0);
  assertEquals(await guest.check("dmesg | grep -c 'I/O error' || true"), "0");
  for (const server of [blk, scsi]) {
    const { rings } = await server.status() as {
      rings: { badChains: number; broken: string | null; completed: number }[];
    };
    for (const { badChains, broken } of rings) {
      assertEquals([badChains, broken], [0, null]);
    }
    assertEquals(rings.some(({ completed }) => completed > 100), true);
  }
  assertEquals(await guest.powerOff(), 0);
});
