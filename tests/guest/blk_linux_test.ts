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
const WRITE_AND_VERIFY = [
  "mkfs.ext4 -q -F /dev/vda",
  "mount /dev/vda /mnt",
  "dd if=/dev/urandom of=/tmp/piece bs=1M count=8 2>/dev/null",
  "for i in 1 2 3 4 5 6 7 8; do cat /tmp/piece; echo $i; done > /tmp/data",
  "dd if=/tmp/data of=/mnt/data bs=1M conv=fsync 2>/dev/null",
  "umount /mnt",
  "echo 3 > /proc/sys/vm/drop_caches",
  "mount /dev/vda /mnt",
  "cmp /tmp/data /mnt/data",
];

/** What `ctl status --json` says of the one disk. */
interface DiskStatus {
  readonly rings: readonly { readonly completed: number }[];
  readonly device: {
    readonly requests: {
      readonly discards: number;
      readonly writeZeroes: number;
      readonly bytesZeroed: number;
      readonly refused: Readonly<Record<string, number>>;
      readonly errors: Readonly<Record<string, number>>;
    };
  };
}

async function statusOf(management: string): Promise<DiskStatus> {
  return JSON.parse(await ctl(management, "status", "--json")).devices[0];
}

guests.test("Linux: file system, 64 MiB verified, trim, zeroes, 2 queues", async () => {
  using directory = TemporaryDirectory.make("linux");
  const image = directory.file("disk.img");
  const socket = directory.file("blk.sock");
  const management = directory.file("ctl.sock");
  makeImage(image, 256 * MIB);
  await using _server = await startVhostd({
    image,
    socket,
    management,
    keys: "queues=2,serial=vhostd,,serial",
  });
  await using guest = await startLinuxGuest({
    smp: 2,
    memory: 512,
    devices: vhostUserBlk(socket, ",num-queues=2"),
  });
  const block = (name: string): Promise<string> =>
    guest.check(`cat /sys/block/vda/${name}`);
  assertEquals(await block("size"), String(256 * MIB / 512));
  assertEquals(await block("serial"), "vhostd,serial");
  assertEquals(await block("queue/write_cache"), "write back");
  assertEquals([await block("ro"), await block("queue/logical_block_size")], [
    "0",
    "512",
  ]);
  assert(Number(await block("queue/discard_max_bytes")) > 0);
  assert(Number(await block("queue/write_zeroes_max_bytes")) > 0);
  assertEquals(await guest.check("ls /sys/block/vda/mq | wc -l"), "2");

  for (const command of WRITE_AND_VERIFY) await guest.check(command);
  await guest.check("sync");
  const full = allocated(image);
  assert(full >= 64 * MIB, `${full} bytes allocated with 64 MiB in it`);
  await guest.check("rm /mnt/data && sync && fstrim /mnt");
  const trimmed = allocated(image);
  assert(trimmed < full - 60 * MIB, `${full}, then ${trimmed} after the trim`);
  await guest.check("umount /mnt && e2fsck -fn /dev/vda");

  await guest.check(
    "dd if=/tmp/piece of=/dev/vda bs=1M count=8 conv=fsync 2>/dev/null",
  );
  // The kernel would write zeroes itself if the device could not.
  const { device: { requests: before } } = await statusOf(management);
  await guest.check("blkdiscard -z -o 1048576 -l 2097152 /dev/vda");
  const { device: { requests: after } } = await statusOf(management);
  assert(after.writeZeroes > before.writeZeroes);
  assertEquals(after.bytesZeroed - before.bytesZeroed, 2 * MIB);
  await guest.check(
    "dd if=/dev/vda bs=1M skip=1 count=2 iflag=direct of=/tmp/read 2>/dev/null && " +
      "dd if=/dev/zero bs=1M count=2 of=/tmp/zero 2>/dev/null && " +
      "cmp /tmp/zero /tmp/read",
  );
  await guest.check(
    "dd if=/dev/vda bs=1M count=1 iflag=direct of=/tmp/read 2>/dev/null && " +
      "dd if=/tmp/piece bs=1M count=1 of=/tmp/first 2>/dev/null && " +
      "cmp /tmp/first /tmp/read",
  );

  // Each processor has a queue of its own.
  const busy: number[] = [];
  for (const processor of [0, 1]) {
    const { rings: before } = await statusOf(management);
    await guest.check(
      `taskset ${
        1 << processor
      } dd if=/dev/vda of=/dev/null bs=4096 count=100 ` +
        "iflag=direct 2>/dev/null",
    );
    const { rings: after } = await statusOf(management);
    const reads = after.map(({ completed }, i) =>
      completed - before[i].completed
    );
    busy.push(reads.findIndex((count) => count >= 100));
  }
  assertEquals(busy.toSorted(), [0, 1]);
  assertEquals(await guest.check("grep -c virtio0-req /proc/interrupts"), "2");

  await guest.check("blkdiscard -f /dev/vda");
  assertEquals(allocated(image), 0);
  const { rings, device: { requests } } = await statusOf(management);
  assert(rings.length === 2 && rings.every(({ completed }) => completed > 0));
  assert(requests.discards > 0);
  assertEquals([requests.refused, requests.errors], [{}, {}]);
  assertEquals(await guest.powerOff(), 0);
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
      ${WRITE_AND_VERIFY.join("\n")}
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
