import { assert, assertEquals, assertMatch } from "@std/assert";
import { serve, type Server } from "../../host/serve.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { allocated, makeImage } from "./disks.ts";
import { runLinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { isoImage } from "./iso.ts";
import { vhostUserScsi } from "./scsi.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
const MODULE = new URL("../../backends/scsi/mod.ts", import.meta.url);

/** Serves a SCSI host. */
function serveScsi(
  socket: string,
  options: Readonly<Record<string, unknown>>,
): Promise<Server> {
  return serve({
    device: MODULE,
    options,
    socket,
    name: "scsi",
    logLevel: "warn",
    signals: false,
  });
}

/** How often each queue was kicked. */
async function kicksOf(server: Server): Promise<number[]> {
  const { rings } = await server.status();
  return (rings as { kicks: number }[]).map(({ kicks }) => kicks);
}

guests.test("Linux: sg3-utils, file system, trim, CD-ROM, 2 queues", async () => {
  using directory = TemporaryDirectory.make("scsi");
  const socket = directory.file("scsi.sock");
  const [image, cd] = [directory.file("disk.img"), directory.file("cd.iso")];
  makeImage(image, 128 * MIB);
  Deno.writeFileSync(cd, isoImage("HELLO.TXT", "hello from the disc\n"));
  await using server = await serveScsi(socket, {
    queues: 2,
    luns: [
      { path: image, serial: "vhostd-serial", wwn: "5000123456789abc" },
      { path: cd, type: "cdrom", target: 1 },
    ],
  });
  const marks: number[] = [];
  const kicks: Promise<number[]>[] = [];
  const { values, checks, output } = await runLinuxGuest({
    smp: 2,
    memory: 512,
    timeout: 120_000,
    devices: vhostUserScsi(socket, ",num_queues=2"),
    onLine: (line) => {
      if (line === "MEASURE") marks.push(allocated(image));
      if (line === "QUEUES") kicks.push(kicksOf(server));
    },
    script: `
      say DISKS $(ls /sys/class/scsi_disk | tr '\\n' ' ')
      say CACHE "$(cat /sys/class/scsi_disk/*/cache_type)"
      say PROVISIONING "$(cat /sys/class/scsi_disk/*/provisioning_mode)"
      say DISCARD $(cat /sys/block/sda/queue/discard_max_bytes)
      say FUA $(cat /sys/block/sda/queue/fua)
      say ROTATIONAL $(cat /sys/block/sda/queue/rotational)
      say WWID "$(cat /sys/block/sda/device/wwid)"
      check inquiry sg_inq /dev/sda
      for page in 0x00 0x80 0x83 0x86 0x87 0xb0 0xb1 0xb2; do
        check vpd-$page sg_vpd -p $page /dev/sda
      done
      check modes sg_modes -a /dev/sda
      check modes-six sg_modes --six -a /dev/sda
      check readcap sg_readcap /dev/sda
      check readcap-long sg_readcap --long /dev/sda
      check luns sg_luns /dev/sda
      say WELLKNOWN "$(sg_luns -s 1 /dev/sda | grep -c c101)"
      say OPCODES $(sg_opcodes /dev/sda | grep -c '^ [0-9a-f][0-9a-f]')
      check tmfs sg_opcodes --tmf /dev/sda
      check turs sg_turs -n 10 /dev/sda
      check requests sg_requests /dev/sda
      check logs sg_logs -a /dev/sda
      check rtpg sg_rtpg /dev/sda
      check senddiag sg_senddiag --test /dev/sda
      check diagnostics sg_senddiag --list /dev/sda
      check sync sg_sync /dev/sda
      check sync-16 sg_sync --16 /dev/sda
      check fetch-10 sg_seek --10 --pre-fetch --num-blocks=8 --lba=100 /dev/sda
      check fetch-16 sg_seek --pre-fetch --num-blocks=8 --lba=100 /dev/sda
      check defects-12 sg_raw -r 8 /dev/sda b7 18 00 00 00 00 00 00 00 08 00 00
      check verify-12 sg_raw /dev/sda af 00 00 00 00 00 00 00 00 08 00 00
      check defects sg_raw -r 4 /dev/sda 37 00 18 00 00 00 00 00 04 00
      check stop sg_start --stop /dev/sda
      check start sg_start --start /dev/sda
      check zeroes sg_write_same --16 -l 0 -n 64 --in=/dev/zero -x 512 /dev/sda
      check same-10 sg_write_same --10 -l 64 -n 64 --in=/dev/zero -x 512 /dev/sda
      dd if=/dev/zero of=/tmp/ones bs=512 count=1 2>/dev/null
      check same-unmap sg_write_same --16 --unmap -l 128 -n 64 -i /tmp/ones -x 512 /dev/sda
      check same-ndob sg_write_same --16 --ndob -l 192 -n 64 /dev/sda
      dd if=/dev/urandom of=/tmp/blocks bs=512 count=64 2>/dev/null
      for size in 6 10 12 16; do
        check dd-write-$size sg_dd if=/tmp/blocks of=/dev/sda bs=512 count=64 seek=4096 cdbsz=$size
        check dd-read-$size sg_dd if=/dev/sda of=/tmp/back bs=512 count=64 skip=4096 cdbsz=$size
        check dd-same-$size cmp /tmp/blocks /tmp/back
      done
      check unmap sg_unmap -l 1024 -n 64 -f /dev/sda
      check lba-status sg_get_lba_status -m 4096 /dev/sda
      dd if=/dev/zero of=/tmp/zeroes bs=1024 count=1 2>/dev/null
      tr '\\000' 'x' < /tmp/zeroes | dd bs=512 count=1 of=/tmp/new 2>/dev/null
      dd if=/dev/zero bs=512 count=1 of=/tmp/pair 2>/dev/null
      cat /tmp/new >> /tmp/pair
      check compare-and-write sg_compare_and_write -i /tmp/pair -l 0 -n 1 -x 1024 /dev/sda
      code=0; sg_compare_and_write -i /tmp/pair -l 0 -n 1 -x 1024 /dev/sda || code=$?
      say MISCOMPARE $code
      check verify sg_verify -l 0 -c 1 /dev/sda
      check verify-data sg_verify -l 0 -c 1 -n 512 -i /tmp/new /dev/sda
      check verify-16 sg_verify --16 -l 0 -c 1 /dev/sda
      check write-verify-16 sg_write_verify --16 -l 9 -n 1 -i /tmp/new /dev/sda
      check write-verify-12 sg_raw -s 512 -i /tmp/new /dev/sda ae 02 00 00 00 0a 00 00 00 01 00 00
      check write-verify sg_write_verify -l 8 -n 1 -i /tmp/new /dev/sda
      check register sg_persist --out --register --param-sark=0xabc /dev/sda
      check reserve sg_persist --out --reserve --param-rk=0xabc --prout-type=1 /dev/sda
      say HOLDER "$(sg_persist --in --read-reservation /dev/sda | grep -c 0xabc)"
      check keys sg_persist --in --read-keys /dev/sda
      check register-ignore sg_persist --out --register-ignore --param-sark=0xdef /dev/sda
      check preempt sg_persist --out --preempt --param-rk=0xdef --param-sark=0xdef --prout-type=3 /dev/sda
      check preempt-abort sg_persist --out --preempt-abort --param-rk=0xdef --param-sark=0xdef --prout-type=1 /dev/sda
      check full-status sg_persist --in --read-full-status /dev/sda
      check capabilities sg_persist --in --report-capabilities /dev/sda
      check release sg_persist --out --release --param-rk=0xdef --prout-type=1 /dev/sda
      check clear sg_persist --out --clear --param-rk=0xdef /dev/sda
      check reserve6 sg_raw /dev/sda 16 00 00 00 00 00
      check release6 sg_raw /dev/sda 17 00 00 00 00 00
      check reserve10 sg_raw /dev/sda 56 00 00 00 00 00 00 00 00 00
      check release10 sg_raw /dev/sda 57 00 00 00 00 00 00 00 00 00
      check reset sg_reset -d /dev/sda
      say ATTENTION "$(sg_turs -v /dev/sda 2>&1 | grep -c 'Bus device reset')"
      check wce-off sg_wr_mode --page=8 --contents=08,12,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00 /dev/sda
      check wce-on sg_wr_mode --page=8 --contents=08,12,04,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00 /dev/sda
      check wce-six sg_wr_mode --six --page=8 --contents=08,12,04,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00 /dev/sda

      echo QUEUES; sleep 0.2
      for cpu in 1 2; do
        taskset $cpu dd if=/dev/sda of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null
      done
      echo QUEUES; sleep 0.2
      mkfs.ext4 -q -F /dev/sda
      mount /dev/sda /mnt
      dd if=/dev/urandom of=/tmp/data bs=1M count=32 2>/dev/null
      check write dd if=/tmp/data of=/mnt/data bs=1M conv=fsync
      umount /mnt
      echo 3 > /proc/sys/vm/drop_caches
      mount /dev/sda /mnt
      check verify-file cmp /tmp/data /mnt/data
      sync; echo MEASURE; sleep 0.2
      rm /mnt/data; sync
      check trim fstrim /mnt
      echo MEASURE; sleep 0.2
      umount /mnt
      check fsck e2fsck -fn /dev/sda

      check cd-inquiry sg_inq /dev/sr0
      check cd-config sg_get_config /dev/sr0
      check cd-prevent sg_prevent --allow /dev/sr0
      check cd-toc sg_raw -r 20 /dev/sr0 43 00 00 00 00 00 00 00 14 00
      check cd-events sg_raw -r 8 /dev/sr0 4a 01 00 00 10 00 00 00 08 00
      check cd-disc sg_raw -r 34 /dev/sr0 51 00 00 00 00 00 00 00 22 00
      mkdir -p /cd
      check cd-mount mount -t iso9660 -o ro /dev/sr0 /cd
      say HELLO "$(cat /cd/hello.txt)"
      umount /cd
      check cd-eject sg_start --eject /dev/sr0
      check cd-load sg_start --load /dev/sr0
      say ERRORS $(dmesg | grep -c 'I/O error' || true)
    `,
  });
  assertEquals(values.DISKS.trim(), "0:0:0:0");
  assertEquals([values.CACHE, values.FUA, values.ROTATIONAL], [
    "write back",
    "1",
    "0",
  ]);
  assertEquals(values.PROVISIONING, "unmap");
  assert(Number(values.DISCARD) > 0);
  assertEquals(values.WWID, "naa.5000123456789abc");
  assert(Number(values.OPCODES) > 50, output.join("\n"));
  assertEquals(values.ATTENTION, "1");
  assertEquals(values.WELLKNOWN, "1");
  assertEquals([values.MISCOMPARE, values.HOLDER], ["14", "1"]);
  assertEquals(values.HELLO, "hello from the disc");
  assertEquals(values.ERRORS, "0");
  assert(checks.includes("verify-file") && checks.includes("cd-load"));
  // Each of the two processors has a queue, and uses it.
  const [before, after] = await Promise.all(kicks);
  for (const queue of [2, 3]) assert(after[queue] > before[queue]);
  const [full, trimmed] = marks;
  assert(full > 32 * MIB, `${full} bytes allocated with 32 MiB in it`);
  assert(trimmed < full - 30 * MIB, `${full}, then ${trimmed} after the trim`);
});

guests.test("Linux: logical units come, grow and go under I/O", async () => {
  using directory = TemporaryDirectory.make("scsi");
  const socket = directory.file("scsi.sock");
  const [image, second] = [directory.file("a.img"), directory.file("b.img")];
  makeImage(image, 64 * MIB);
  makeImage(second, 32 * MIB);
  await using server = await serveScsi(socket, { path: image });
  await using guest = await startLinuxGuest({
    devices: vhostUserScsi(socket),
  });
  const until = (condition: string) =>
    guest.check(
      `i=0; while ! { ${condition}; } && [ $i -lt 100 ]; do sleep 0.1; ` +
        `i=$((i+1)); done; ${condition}`,
      30_000,
    );
  await guest.check(
    "(while [ ! -e /tmp/stop ]; do dd if=/dev/sda of=/dev/null bs=64k " +
      "count=64 iflag=direct 2>/dev/null || echo bad > /tmp/failed; done; " +
      "echo done > /tmp/done) &",
  );
  await server.command("lun-add", { lun: 5, path: second });
  await until("[ -e /sys/block/sdb ]");
  await guest.check("mkfs.ext4 -q -F /dev/sdb && mount /dev/sdb /mnt");
  await guest.check(
    "cp /bin/busybox /mnt && sync && cmp /bin/busybox /mnt/busybox",
  );
  await guest.check("umount /mnt");
  Deno.truncateSync(second, 48 * MIB);
  await server.command("lun-resize", { lun: 5 });
  await until(`[ "$(cat /sys/block/sdb/size)" = ${48 * MIB / 512} ]`);
  await server.command("lun-remove", { lun: 5 });
  await until("[ ! -e /sys/block/sdb ]");
  await guest.check("touch /tmp/stop");
  await until("[ -e /tmp/done ]");
  const failed = await guest.check("cat /tmp/failed 2>/dev/null || echo good");
  assertMatch(failed, /^good$/m);
  assertEquals(await guest.powerOff(), 0);
});

guests.test("Linux: a SCSI host behind QEMU's generic device", async () => {
  using directory = TemporaryDirectory.make("scsi");
  const socket = directory.file("scsi.sock");
  const image = directory.file("disk.img");
  makeImage(image, 32 * MIB);
  await using server = await serveScsi(socket, { path: image, queues: 2 });
  // This one asks us for the configuration, and tells us what the driver writes.
  await using guest = await startLinuxGuest({
    devices: [
      ...["-chardev", `socket,id=scsi,path=${socket}`, "-device"],
      "vhost-user-test-device-pci,chardev=scsi,virtio-id=8,num_vqs=4," +
      "vq_size=128,config_size=36",
    ],
  });
  await guest.check("mkfs.ext4 -q -F /dev/sda && mount /dev/sda /mnt");
  await guest.check(
    "cp /bin/busybox /mnt && sync && echo 3 > /proc/sys/vm/drop_caches && " +
      "cmp /bin/busybox /mnt/busybox && umount /mnt",
  );
  const { senseSize, cdbSize } = (await server.status()).device as Record<
    string,
    number
  >;
  assertEquals([senseSize, cdbSize], [96, 32]);
  assertEquals(await guest.powerOff(), 0);
});
