import { assert, assertEquals } from "@std/assert";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { ctl, startVhostd } from "../support/vhostd.ts";
import { makeImage, vhostUserBlk } from "./disks.ts";
import { startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
const KILLS = 6;

interface Status {
  devices: {
    pid: number | null;
    state: string;
    restarts: number;
    session: { inflightTracking: boolean } | null;
  }[];
}

for (const [rings, property] of [["split", ""], ["packed", ",packed=on"]]) {
  guests.test(
    `Linux: a device process killed ${KILLS} times under I/O, ${rings} rings`,
    () => killUnderLoad(property),
  );
}

async function killUnderLoad(property: string): Promise<void> {
  using directory = TemporaryDirectory.make("linux");
  const image = directory.file("disk.img");
  const socket = directory.file("blk.sock");
  const management = directory.file("ctl.sock");
  makeImage(image, 96 * MIB);
  await using _server = await startVhostd({
    image,
    socket,
    management,
    keys: "queues=2",
  });
  const device = async () => {
    const status = JSON.parse(await ctl(management, "status", "--json"));
    return (status as Status).devices[0];
  };
  await using guest = await startLinuxGuest({
    devices: vhostUserBlk(socket, `,num-queues=2${property}`, 50),
  });
  await guest.check("mkfs.ext4 -q -F /dev/vda && mount /dev/vda /mnt");
  assertEquals((await device()).session?.inflightTracking, true);
  const features = await guest.check(
    "cat /sys/bus/virtio/devices/virtio0/features",
  );
  assertEquals(features[34], property === "" ? "0" : "1");
  // Two writers and their readers; each piece is compared when it was flushed.
  const work = (name: string) =>
    `(i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); ` +
    "dd if=/dev/urandom of=/tmp/" + name + " bs=256k count=4 2>/dev/null; " +
    `dd if=/tmp/${name} of=/mnt/${name} bs=64k oflag=direct 2>/dev/null && ` +
    `sync && echo 3 > /proc/sys/vm/drop_caches && cmp /tmp/${name} /mnt/${name} ` +
    `|| { echo ${name} $i > /tmp/failed; break; }; ` +
    `echo $i > /tmp/progress-${name}; done; echo > /tmp/finished-${name}) ` +
    ">/tmp/log 2>&1 &";
  await guest.check(`${work("a")} ${work("b")}`);
  const progress = async () =>
    Number(
      await guest.check(
        "expr $(cat /tmp/progress-a 2>/dev/null || echo 0) " +
          "+ $(cat /tmp/progress-b 2>/dev/null || echo 0) || true",
      ),
    );
  const goOn = async (than: number) => {
    await guest.check(
      `i=0; while [ $(expr $(cat /tmp/progress-a 2>/dev/null || echo 0) ` +
        `+ $(cat /tmp/progress-b 2>/dev/null || echo 0)) -le ${than} ] ` +
        "&& [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done",
      60_000,
    );
    assert(await progress() > than, "the guest's I/O does not go on");
  };
  for (let kill = 1; kill <= KILLS; kill++) {
    await goOn(await progress() + 1);
    const { pid, state } = await device();
    assertEquals(state, "running");
    Deno.kill(pid!, "SIGKILL");
    await goOn(await progress());
    assertEquals((await device()).restarts, kill);
  }
  await guest.check(
    "echo > /tmp/stop; i=0; while [ ! -e /tmp/finished-a -o ! -e /tmp/finished-b ] " +
      "&& [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; " +
      "[ -e /tmp/finished-a -a -e /tmp/finished-b ]",
    60_000,
  );
  assertEquals(await guest.check("cat /tmp/failed 2>/dev/null || true"), "");
  assertEquals(await guest.check("dmesg | grep -c 'I/O error' || true"), "0");
  await guest.check("umount /mnt && e2fsck -fn /dev/vda");
  assertEquals(await guest.powerOff(), 0);
}
