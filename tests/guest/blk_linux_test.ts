import { assert, assertEquals } from "@std/assert";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { ctl, startVhostd } from "../support/vhostd.ts";
import { allocated, makeImage, readImage, vhostUserBlk } from "./disks.ts";
import { runLinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;

/** Makes a file system, writes 64 MiB, reads them back after a remount. */
const WRITE_AND_VERIFY = `
  mkfs.ext4 -q -F /dev/vda
  mount /dev/vda /mnt
  dd if=/dev/urandom of=/tmp/piece bs=1M count=8 2>/dev/null
  for i in 1 2 3 4 5 6 7 8; do cat /tmp/piece; echo $i; done > /tmp/data
  check write dd if=/tmp/data of=/mnt/data bs=1M conv=fsync
  umount /mnt
  echo 3 > /proc/sys/vm/drop_caches
  mount /dev/vda /mnt
  check verify cmp /tmp/data /mnt/data
`;

guests.test("Linux: file system, 64 MiB verified, trim, zeroes, 2 queues", async () => {
  using directory = TemporaryDirectory.make("linux");
  const image = directory.file("disk.img");
  const socket = directory.file("blk.sock");
  makeImage(image, 256 * MIB);
  await using _server = await startVhostd({
    image,
    socket,
    keys: "queues=2,serial=vhostd,,serial",
  });
  const watched: number[] = [];
  const result = await runLinuxGuest({
    smp: 2,
    memory: 512,
    devices: vhostUserBlk(socket, ",num-queues=2"),
    onLine: (line: string) => {
      if (line === "MEASURE") watched.push(allocated(image));
    },
    script: `
      say SECTORS $(cat /sys/block/vda/size)
      say QUEUES $(ls /sys/block/vda/mq | wc -l)
      say SERIAL "[$(cat /sys/block/vda/serial)]"
      say CACHE "$(cat /sys/block/vda/queue/write_cache)"
      say READONLY $(cat /sys/block/vda/ro)
      say BLOCK $(cat /sys/block/vda/queue/logical_block_size)
      say DISCARD $(cat /sys/block/vda/queue/discard_max_bytes)
      say ZEROES $(cat /sys/block/vda/queue/write_zeroes_max_bytes)
      ${WRITE_AND_VERIFY}
      sync; echo MEASURE; sleep 0.2
      rm /mnt/data; sync
      check trim fstrim /mnt
      echo MEASURE; sleep 0.2
      umount /mnt
      check fsck e2fsck -fn /dev/vda
      dd if=/tmp/piece of=/dev/vda bs=1M count=8 conv=fsync 2>/dev/null
      check zeroes blkdiscard -z -o 1048576 -l 2097152 /dev/vda
      dd if=/dev/vda bs=1M skip=1 count=2 iflag=direct of=/tmp/read 2>/dev/null
      dd if=/dev/zero bs=1M count=2 of=/tmp/zero 2>/dev/null
      check zeroed cmp /tmp/zero /tmp/read
      dd if=/dev/vda bs=1M count=1 iflag=direct of=/tmp/read 2>/dev/null
      dd if=/tmp/piece bs=1M count=1 of=/tmp/first 2>/dev/null
      check before cmp /tmp/first /tmp/read
      check discard blkdiscard -f /dev/vda
      say KICKS $(grep -c virtio0-req /proc/interrupts)
    `,
  });
  const { values } = result;
  assertEquals(values.SECTORS, String(256 * MIB / 512));
  assertEquals(values.QUEUES, "2");
  assertEquals(values.SERIAL, "[vhostd,serial]");
  assertEquals(values.CACHE, "write back");
  assertEquals([values.READONLY, values.BLOCK], ["0", "512"]);
  assert(Number(values.DISCARD) > 0 && Number(values.ZEROES) > 0);
  assertEquals(values.KICKS, "2");
  assertEquals(result.checks, [
    ...["write", "verify", "trim", "fsck"],
    ...["zeroes", "zeroed", "before", "discard"],
  ]);
  const [full, trimmed] = watched;
  assert(full >= 64 * MIB, `${full} bytes allocated with 64 MiB in it`);
  assert(trimmed < full - 60 * MIB, `${full}, then ${trimmed} after the trim`);
  assertEquals(allocated(image), 0);
});

guests.test("Linux: 4096-byte blocks, write-through, no event index", async () => {
  using directory = TemporaryDirectory.make("linux");
  const image = directory.file("disk.img");
  const socket = directory.file("blk.sock");
  makeImage(image, 128 * MIB);
  await using _server = await startVhostd({
    image,
    socket,
    keys: "block-size=4096,wce=off,event-idx=off,indirect=off",
  });
  const result = await runLinuxGuest({
    memory: 384,
    devices: vhostUserBlk(socket, ",disable-modern=on"),
    script: `
      say BLOCK $(cat /sys/block/vda/queue/logical_block_size)
      say CACHE "$(cat /sys/block/vda/queue/write_cache)"
      say FEATURES $(cat /sys/bus/virtio/devices/virtio0/features)
      ${WRITE_AND_VERIFY}
      umount /mnt
      check fsck e2fsck -fn /dev/vda
      say SECTOR $(blockdev --getss /dev/vda)
    `,
  });
  assertEquals([result.values.BLOCK, result.values.SECTOR], ["4096", "4096"]);
  assertEquals(result.values.CACHE, "write through");
  // A legacy driver: VERSION_1 (bit 32) is not there; nor are 28 and 29.
  const bits = result.values.FEATURES;
  assertEquals([bits[28], bits[29], bits[32]], ["0", "0", "0"]);
});

guests.test("Linux: a read-only disk", async () => {
  using directory = TemporaryDirectory.make("linux");
  const image = directory.file("disk.img");
  const socket = directory.file("blk.sock");
  const content = makeImage(image, 8 * MIB, MIB);
  Deno.chmodSync(image, 0o444);
  await using _server = await startVhostd({ image, socket, keys: "readonly" });
  const digest = await crypto.subtle.digest("SHA-256", content);
  const result = await runLinuxGuest({
    devices: vhostUserBlk(socket),
    script: `
      say READONLY $(cat /sys/block/vda/ro)
      say SUM $(dd if=/dev/vda bs=1M count=1 2>/dev/null | sha256sum)
      if dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync 2>/dev/null
      then fail "a read-only disk was written"; fi
      blockdev --setrw /dev/vda
      if dd if=/dev/zero of=/dev/vda bs=4096 count=1 oflag=direct 2>/dev/null
      then fail "a read-only disk was written"; fi
    `,
  });
  assertEquals(result.values.READONLY, "1");
  assertEquals(result.values.SUM, new Uint8Array(digest).toHex() + " -");
  assertEquals(readImage(image, 0, MIB), content);
});

guests.test("Linux: 3 reboots, resize, restarts under I/O", async () => {
  using directory = TemporaryDirectory.make("linux");
  const image = directory.file("disk.img");
  const socket = directory.file("blk.sock");
  const management = directory.file("ctl.sock");
  makeImage(image, 96 * MIB);
  let server = await startVhostd({ image, socket, management });
  try {
    await using guest = await startLinuxGuest({
      reboot: true,
      devices: vhostUserBlk(socket, "", 100),
    });
    const write = (name: string) =>
      guest.check(
        `dd if=/dev/urandom of=/tmp/${name} bs=1M count=4 2>/dev/null; ` +
          `cp /tmp/${name} /mnt/${name} && sync && sha256sum < /mnt/${name}`,
      );
    await guest.check("mkfs.ext4 -q -F /dev/vda && mount /dev/vda /mnt");
    const sum = await write("first");
    for (let i = 0; i < 3; i++) {
      await guest.check("umount /mnt");
      await guest.reboot();
      await guest.check("mount /dev/vda /mnt");
      assertEquals(await guest.check("sha256sum < /mnt/first"), sum);
    }

    Deno.truncateSync(image, 128 * MIB);
    await ctl(management, "resize", "all");
    await guest.check(
      "i=0; while [ $(cat /sys/block/vda/size) != 262144 ] && [ $i -lt 50 ]; " +
        "do sleep 0.1; i=$((i+1)); done; [ $(cat /sys/block/vda/size) = 262144 ]",
    );

    // I/O goes on in the guest while the back-end is restarted, twice.
    await guest.check(
      "(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do " +
        "dd if=/dev/urandom of=/tmp/big bs=1M count=3 2>/dev/null; " +
        "cp /tmp/big /mnt/big$i && sync && " +
        "echo 3 > /proc/sys/vm/drop_caches && cmp /tmp/big /mnt/big$i || " +
        "{ echo bad $i > /tmp/failed; break; }; echo $i > /tmp/progress; " +
        "done; echo done > /tmp/finished) > /tmp/log 2>&1 &",
    );
    const progress = async () =>
      Number(await guest.check("cat /tmp/progress 2>/dev/null || echo 0"));
    for (const step of [2, 5]) {
      await guest.check(
        `i=0; while [ $(cat /tmp/progress 2>/dev/null || echo 0) -lt ${step} ] ` +
          "&& [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done",
        60_000,
      );
      assert(await progress() >= step, "the guest's I/O does not go on");
      assertEquals((await server.stop("SIGTERM")).code, 0);
      server = await startVhostd({ image, socket, management });
    }
    await guest.check(
      "i=0; while [ ! -e /tmp/finished ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done",
      90_000,
    );
    assertEquals(
      await guest.check("cat /tmp/failed 2>/dev/null; cat /tmp/progress"),
      "12",
    );
    assertEquals(await guest.check("dmesg | grep -c 'I/O error' || true"), "0");
    await guest.check("umount /mnt && e2fsck -fn /dev/vda");
    assertEquals(await guest.powerOff(), 0);
  } finally {
    await server.stop();
  }
});
