import { assert, assertEquals, assertMatch } from "@std/assert";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { ctl } from "../support/vhostd.ts";
import { makeImage } from "./disks.ts";
import { type LinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { startServing, vhostUserScsi } from "./scsi.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
const KILLS = 4;

/** What `status` says, as far as this test looks at it. */
interface Status {
  readonly devices: readonly {
    readonly pid: number | null;
    readonly restarts: number;
    readonly session: { readonly inflightTracking: boolean } | null;
  }[];
}

/**
 * A shell command that writes and reads a file again and again, each time past
 * the page cache, and stops when it does not read what it wrote.
 */
function work(name: string): string {
  return "(i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); " +
    `dd if=/dev/urandom of=/tmp/${name} bs=256k count=4 2>/dev/null; ` +
    `dd if=/tmp/${name} of=/mnt/${name} bs=64k oflag=direct 2>/dev/null && ` +
    `sync && echo 3 > /proc/sys/vm/drop_caches && cmp /tmp/${name} /mnt/${name} ` +
    `|| { echo ${name} $i > /tmp/failed; break; }; ` +
    `echo $i > /tmp/progress-${name}; done; echo > /tmp/finished-${name}) ` +
    ">/tmp/log 2>&1 &";
}

/**
 * A shell command that counts in block 0 of a disk with COMPARE AND WRITE. One
 * that was done twice finds its own work and miscompares (exit status 14); one
 * that a restart met is refused (6: unit attention, 11: aborted), and may have
 * been done or not.
 */
function count(disk: string): string {
  return "(n=0; lost=0; while [ ! -e /tmp/stop ]; do " +
    `dd if=${disk} of=/tmp/old bs=512 count=1 iflag=direct 2>/dev/null; ` +
    "v=$(tr -d '\\000' < /tmp/old); v=${v:-0}; " +
    "printf %s $((v+1)) > /tmp/digits; cat /tmp/old > /tmp/pair; " +
    "dd if=/tmp/digits bs=512 conv=sync >> /tmp/pair 2>/dev/null; code=0; " +
    `sg_compare_and_write -i /tmp/pair -l 0 -n 1 -x 1024 ${disk} ` +
    ">/dev/null 2>&1 || code=$?; case $code in 0) n=$((n+1));; " +
    "6|11) lost=$((lost+1));; *) echo compare $code > /tmp/failed; break;; " +
    "esac; echo $n $lost > /tmp/counted; done; echo > /tmp/finished-c) &";
}

/** Waits until both writers are further than `than`. */
async function goOn(guest: LinuxGuest, than: number): Promise<number> {
  const sum = "$(expr $(cat /tmp/progress-a 2>/dev/null || echo 0) " +
    "+ $(cat /tmp/progress-b 2>/dev/null || echo 0))";
  const said = await guest.check(
    `i=0; while [ ${sum} -le ${than} ] && [ $i -lt 300 ]; do sleep 0.1; ` +
      `i=$((i+1)); done; echo ${sum}`,
    60_000,
  );
  const progress = Number(said);
  assert(progress > than, `the guest's I/O does not go on: ${said}`);
  return progress;
}

guests.test(`Linux: a SCSI host restarted, and killed ${KILLS} times under I/O`, async () => {
  using directory = TemporaryDirectory.make("linux");
  const images = ["disk.img", "counter.img"].map((name) =>
    directory.file(name)
  );
  const socket = directory.file("scsi.sock");
  const management = directory.file("ctl.sock");
  makeImage(images[0], 96 * MIB);
  makeImage(images[1], 4 * MIB);
  const serve = () =>
    startServing(management, [socket], [
      `--scsi=socket=${socket},queues=2,path=${images[0]}`,
      `--lun=lun=1,path=${images[1]}`,
    ]);
  let server = await serve();
  try {
    const device = async () => {
      const status = await ctl(management, "status", "--json");
      return (JSON.parse(status) as Status).devices[0];
    };
    await using guest = await startLinuxGuest({
      devices: vhostUserScsi(socket, ",num_queues=2", 50),
    });
    // Which one is sda is a matter of chance.
    for (const [lun, name] of ["files", "counter"].entries()) {
      await guest.check(
        `ln -s $(ls /sys/class/scsi_disk/0:0:0:${lun}/device/block) ` +
          `/dev/${name}`,
      );
    }
    await guest.check("mkfs.ext4 -q -F /dev/files && mount /dev/files /mnt");
    assertEquals((await device()).session?.inflightTracking, true);
    for (const line of [work("a"), work("b"), count("/dev/counter")]) {
      await guest.check(line);
    }
    let progress = await goOn(guest, 1);
    // An orderly restart: everything in flight ends first.
    await server.stop();
    server = await serve();
    progress = await goOn(guest, progress);
    // Its write cache is off: what the guest knows stays true.
    await guest.check(
      "echo 'write through' > /sys/class/scsi_disk/0:0:0:1/cache_type",
    );
    const cache = "sg_modes --page=8 /dev/counter | grep ' 08 12 ' | head -1";
    const cacheOff = await guest.check(cache);
    assertMatch(cacheOff, / 08 12 00 /);
    for (let kill = 1; kill <= KILLS; kill++) {
      progress = await goOn(guest, progress + 1);
      const { pid } = await device();
      Deno.kill(pid!, "SIGKILL");
      progress = await goOn(guest, progress);
      assertEquals((await device()).restarts, kill);
    }
    await guest.check(
      "echo > /tmp/stop; i=0; while [ ! -e /tmp/finished-a -o " +
        "! -e /tmp/finished-b -o ! -e /tmp/finished-c ] && [ $i -lt 300 ]; " +
        "do sleep 0.1; i=$((i+1)); done; [ -e /tmp/finished-a ] && " +
        "[ -e /tmp/finished-b ] && [ -e /tmp/finished-c ]",
      60_000,
    );
    assertEquals(await guest.check("cat /tmp/failed 2>/dev/null || true"), "");
    assertEquals(
      await guest.check("dmesg | grep -c 'I/O error' || true"),
      "0",
    );
    assertEquals(await guest.check(cache), cacheOff);
    // What was counted is what was answered; refused ones may have been done.
    const [done, refused] = (await guest.check("cat /tmp/counted"))
      .split(" ").map(Number);
    const counted = Number(
      await guest.check("head -c 512 /dev/counter | tr -d '\\000'"),
    );
    assert(done > 0 && counted >= done && counted <= done + refused);
    await guest.check("umount /mnt && e2fsck -fn /dev/files");
    assertEquals(await guest.powerOff(), 0);
  } finally {
    await server.stop();
  }
});
