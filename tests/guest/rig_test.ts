/**
 * The rig, proven on a back-end that others wrote: qemu-storage-daemon.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { crc32 } from "node:zlib";
import { ConsoleError } from "../support/console.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess, runCommand } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  bootSector,
  BootSectorExit,
  bootSectorSum,
} from "./rig/boot_sector.ts";
import { RigError } from "./rig/error.ts";
import { rawImage } from "./rig/freebsd_source.ts";
import { runBootSector, startUBoot } from "./rig/firmware.ts";
import { runLinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { findQemu, startQemu } from "./rig/qemu.ts";
import { startStorageDaemon } from "./rig/storage_daemon.ts";

const reason = await prepareOrReason();
const rig = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
const SECTOR = 512;

/** An image, random where `random` bytes are asked for, then sparse. */
function makeImage(path: string, size: number, random: number): Uint8Array {
  const content = new Uint8Array(random);
  for (let at = 0; at < random; at += 65_536) {
    crypto.getRandomValues(content.subarray(at, at + 65_536));
  }
  Deno.writeFileSync(path, content);
  Deno.truncateSync(path, size);
  return content;
}

function readImage(path: string, offset: number, length: number): Uint8Array {
  return Deno.readFileSync(path).subarray(offset, offset + length);
}

/** A disk that a vhost-user-blk back-end serves on `socket`. */
function disk(socket: string, options = ""): string[] {
  return [
    ...["-chardev", `socket,id=disk,path=${socket}`],
    ...["-device", `vhost-user-blk-pci,chardev=disk${options}`],
  ];
}

rig.test("rig: Linux makes a file system, writes, verifies, trims", async () => {
  using directory = TemporaryDirectory.make("rig");
  const [image, socket] = ["disk.img", "disk.sock"].map((name) =>
    directory.file(name)
  );
  makeImage(image, 64 * MIB, 0);
  await using _daemon = await startStorageDaemon({ image, socket, queues: 2 });
  const result = await runLinuxGuest({
    smp: 2,
    devices: disk(socket, ",num-queues=2"),
    script: `
      say SECTORS $(cat /sys/block/vda/size)
      say QUEUES $(ls /sys/block/vda/mq | wc -l)
      say SERIAL "[$(cat /sys/block/vda/serial)]"
      mkfs.ext4 -q -F /dev/vda
      mount /dev/vda /mnt
      dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
      check write dd if=/tmp/data of=/mnt/data bs=1M conv=fsync
      umount /mnt
      echo 3 > /proc/sys/vm/drop_caches
      mount /dev/vda /mnt
      check verify cmp /tmp/data /mnt/data
      rm /mnt/data
      sync
      check trim fstrim /mnt
      umount /mnt
      check fsck e2fsck -fn /dev/vda
      check discard blkdiscard -f /dev/vda
    `,
  });
  assertEquals(result.values.SECTORS, String(64 * MIB / SECTOR));
  assertEquals(result.values.QUEUES, "2");
  assertEquals(result.values.SERIAL, "[vhost_user_blk]");
  const checks = ["write", "verify", "trim", "fsck", "discard"];
  assertEquals(result.checks, checks);
  assertEquals((await Deno.stat(image)).blocks, 0);
});

rig.test("rig: a Linux guest's shell lives through a reboot", async () => {
  using directory = TemporaryDirectory.make("rig");
  const [image, socket] = ["disk.img", "disk.sock"].map((name) =>
    directory.file(name)
  );
  const content = makeImage(image, 4 * MIB, MIB);
  await using _daemon = await startStorageDaemon({ image, socket });
  await using guest = await startLinuxGuest({
    reboot: true,
    devices: disk(socket),
  });
  const read = "dd if=/dev/vda bs=1M count=1 2>/dev/null | sha256sum";
  const digest = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new Uint8Array(content)),
  ).toHex();
  assertEquals(await guest.check(read), `${digest}  -`);
  await guest.reboot();
  assertEquals(await guest.check(read), `${digest}  -`);
  assert(guest.qemu.qmp.events.some(({ event }) => event === "RESET"));
  // A line as long as the console takes comes through the line editor.
  const long = "x".repeat(900);
  assertEquals(await guest.check(`echo ${long}`), long);
  assertEquals(await guest.powerOff(), 0);
});

rig.test("rig: a script's failure and a guest's panic are told", async () => {
  using directory = TemporaryDirectory.make("rig");
  const console = { transcriptDirectory: directory.path };
  const failed = await assertRejects(
    () =>
      runLinuxGuest({
        script: "check sum test 2 = 3; say NEVER",
        console,
      }),
    RigError,
    "@@FAIL sum (status 1): test 2 = 3",
  );
  assertEquals(failed.kind, "guest");
  assert(!failed.message.includes("NEVER"));
  await assertRejects(
    () => runLinuxGuest({ script: "echo c > /proc/sysrq-trigger", console }),
    ConsoleError,
    "Kernel panic - not syncing: sysrq triggered crash",
  );
});

const PLAN = { readLba: 1, writeLba: 1000, sectors: 64 };

rig.test("rig: SeaBIOS reads and writes through a boot sector", async () => {
  using directory = TemporaryDirectory.make("rig");
  const [image, socket] = ["disk.img", "disk.sock"].map((name) =>
    directory.file(name)
  );
  const content = makeImage(image, 4 * MIB, MIB);
  const data = content.subarray(SECTOR, SECTOR + PLAN.sectors * SECTOR);
  using file = Deno.openSync(image, { write: true });
  file.writeSync(bootSector(PLAN));
  await using _daemon = await startStorageDaemon({ image, socket });
  const result = await runBootSector({
    devices: disk(socket, ",bootindex=0,disable-legacy=on"),
  });
  const sum = bootSectorSum(data);
  assertEquals(result, {
    exitCode: BootSectorExit.ok,
    line: `S${sum} S${sum} OK`,
    sums: [sum, sum],
  });
  const written = readImage(image, PLAN.writeLba * SECTOR, data.length);
  assertEquals(written, data);
});

rig.test("rig: the boot sector tells of a transfer that fails", async () => {
  using directory = TemporaryDirectory.make("rig");
  const image = directory.file("disk.img");
  const socket = directory.file("disk.sock");
  makeImage(image, MIB, MIB);
  using file = Deno.openSync(image, { write: true });
  file.writeSync(bootSector(PLAN));
  await using _daemon = await startStorageDaemon({
    image,
    socket,
    readonly: true,
  });
  const result = await runBootSector({ devices: disk(socket, ",bootindex=0") });
  assertEquals(result.exitCode, BootSectorExit.failed);
  assertEquals(result.sums.length, 1);
});

rig.test("rig: U-Boot reads and writes from its prompt", async () => {
  using directory = TemporaryDirectory.make("rig");
  const [image, socket] = ["disk.img", "disk.sock"].map((name) =>
    directory.file(name)
  );
  const content = makeImage(image, 16 * MIB, MIB);
  await using _daemon = await startStorageDaemon({ image, socket });
  await using uboot = await startUBoot({
    devices: disk(socket, ",disable-legacy=on"),
  });
  const [info] = await uboot.scan();
  assert(info.includes("Capacity: 16.0 MB"), info);
  const [from, to] = [0x1000000, 0x2000000];
  const blocks = MIB / SECTOR;
  await uboot.read(from, 0, blocks);
  assertEquals(await uboot.crc32(from, MIB), crc32(content));
  await uboot.write(from, 2 * blocks, blocks);
  await uboot.read(to, 2 * blocks, blocks);
  assertEquals(await uboot.crc32(to, MIB), crc32(content));
  assertEquals(readImage(image, 2 * MIB, MIB), content);
  const beyond = `virtio read ${from.toString(16)} 10000 1`;
  assertEquals((await uboot.run(beyond)).status, 1);
});

rig.test("rig: QEMU's refusal to start is told", async () => {
  const error = await assertRejects(
    () => startQemu({ devices: ["-device", "no-such-device"] }),
    RigError,
    "no-such-device",
  );
  assertEquals(error.kind, "guest");
  await assertRejects(() => startQemu({ memory: 513 }), RangeError, "513 MiB");
  await assertRejects(
    () => startQemu({ memory: 16_385, sparse: true }),
    RangeError,
    "at most 16384",
  );
});

rig.test("rig: a machine ends with close, and answers its monitor", async () => {
  const qemu = await startQemu();
  const status = await qemu.qmp.execute("query-status");
  assertEquals((status as { running: boolean }).running, true);
  assert((await qemu.qmp.human("info version")).includes("."));
  await qemu.close();
  assertEquals(qemu.process.ended, true);
  assertEquals(qemu.qmp.events.at(-1)?.event, "SHUTDOWN");
});

rig.test("rig: a machine ends with the process that started it", async () => {
  using directory = TemporaryDirectory.make("rig");
  const module = import.meta.resolve("./rig/qemu.ts");
  await using parent = ChildProcess.start(Deno.execPath(), {
    args: [
      "eval",
      `import { startQemu } from "${module}";
       const qemu = await startQemu();
       console.log("started " + qemu.pid);
       await qemu.exited;`,
    ],
    env: { TMPDIR: directory.path }, // what it leaves goes with the test
    cwd: new URL("../..", import.meta.url).pathname,
  });
  const { groups } = await parent.expect(/started (\d+)/, 20_000, "stdout");
  await parent.stop("SIGKILL");
  const gone = async () => {
    const stat = await Deno.readTextFile(`/proc/${groups[1]}/stat`)
      .catch(() => "gone");
    return stat === "gone" || stat.includes(") Z ");
  };
  await waitUntil(gone, { what: "the end of an orphaned QEMU" });
});

rig.test("rig: QEMU's other programs run", async () => {
  const { command, args, env } = (await findQemu()).program("qemu-img");
  const { stdout } = await runCommand(command, {
    args: [...args, "--version"],
    env,
  });
  assert(stdout.startsWith("qemu-img version"));
});

rig.test("rig: a qcow2 image, packed or not, is made raw", async () => {
  using directory = TemporaryDirectory.make("qcow2");
  const [raw, qcow2] = [directory.file("disk.img"), directory.file("a.qcow2")];
  makeImage(raw, 8 * MIB, MIB);
  const { command, args, env } = (await findQemu()).program("qemu-img");
  await runCommand(command, {
    args: [...args, "convert", "-f", "raw", "-O", "qcow2", raw, qcow2],
    env,
  });
  await runCommand("xz", { args: ["--keep", "-0", qcow2] });
  for (const image of [qcow2, `${qcow2}.xz`]) {
    using into = TemporaryDirectory.make("raw");
    const made = await rawImage(image, into.path);
    assertEquals(Deno.readFileSync(made), Deno.readFileSync(raw), image);
    // What was unpacked on the way is gone.
    assertEquals(Array.from(Deno.readDirSync(into.path)).length, 1);
  }
});
