import { assert, assertEquals, assertMatch } from "@std/assert";
import { Initiator } from "../../backends/scsi/target/nexus.ts";
import { hex } from "../../backends/scsi/target/names.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { ctl } from "../support/vhostd.ts";
import { makeImage } from "./disks.ts";
import { isoImage } from "./iso.ts";
import { type LinuxGuest, startLinuxGuest } from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { startServing, vhostUserScsi } from "./scsi.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
/** What each guest adds to the common counter. */
const COUNTS = 25;
/** Exit statuses of sg3-utils: RESERVATION CONFLICT, unit attention. */
const CONFLICT = "24", ATTENTION = "6";

/** TransportID of an initiator, as sg_persist takes it. */
function transportId(name: string): string {
  const { transportId } = new Initiator(name);
  return `sas,${hex(transportId.subarray(4, 12))}`;
}

/** Runs a command line that may fail; its exit status. */
async function status(guest: LinuxGuest, command: string): Promise<string> {
  return await guest.check(
    `code=0; ${command} >/tmp/out 2>&1 || code=$?; ` +
      "echo $code",
  );
}

/** Whether a block can be written, past the page cache and the kernel. */
function write(guest: LinuxGuest): Promise<string> {
  return status(
    guest,
    "sg_raw -s 512 -i /dev/zero /dev/sda 2a 00 00 00 00 40 00 00 01 00",
  );
}

function read(guest: LinuxGuest): Promise<string> {
  return status(guest, "sg_raw -r 512 /dev/sda 28 00 00 00 00 40 00 00 01 00");
}

/** Exit statuses of TEST UNIT READY until there is no unit attention. */
async function settle(guest: LinuxGuest): Promise<string> {
  return await guest.check(
    "code=6; said=; i=0; while [ $code = 6 ] && [ $i -lt 9 ]; do i=$((i+1)); " +
      "code=0; sg_turs -v /dev/sda >/tmp/out 2>&1 || code=$?; " +
      "said=\"$said $(grep -i 'additional sense' /tmp/out || true)\"; done; " +
      "echo $said",
  );
}

/** Counts in block 0 with COMPARE AND WRITE until it has added so much. */
function counter(): string {
  return `n=0; missed=0; while [ $n -lt ${COUNTS} ]; do ` +
    "sg_dd if=/dev/sda of=/tmp/old bs=512 count=1 blk_sgio=1 2>/dev/null; " +
    "v=$(tr -d '\\000' < /tmp/old); v=${v:-0}; " +
    "printf %s $((v+1)) > /tmp/digits; cat /tmp/old > /tmp/pair; " +
    "dd if=/tmp/digits bs=512 conv=sync >> /tmp/pair 2>/dev/null; code=0; " +
    "sg_compare_and_write -i /tmp/pair -l 0 -n 1 -x 1024 /dev/sda " +
    ">/dev/null 2>&1 || code=$?; case $code in 0) n=$((n+1));; " +
    "14) missed=$((missed+1));; *) echo failed $code; break;; esac; done; " +
    "echo $n $missed";
}

async function persistent(alpha: LinuxGuest, beta: LinuxGuest): Promise<void> {
  const out = "sg_persist --out --no-inquiry";
  // SPEC_I_PT: alpha registers beta with the same key.
  await alpha.check(
    `${out} --register --param-sark=0xa --transport-id=${
      transportId("beta")
    } ` +
      "/dev/sda",
  );
  await alpha.check(
    `${out} --reserve --param-rk=0xa --prout-type=5 /dev/sda`,
  );
  const keys = await beta.check("sg_persist --in --read-keys /dev/sda");
  assertEquals(keys.match(/0xa\b/g)?.length, 2, keys);
  assertEquals([await read(beta), await write(beta)], ["0", "0"]);
  // Preempted, and told so.
  await alpha.check(
    `${out} --register-ignore --param-sark=0xb --param-aptpl /dev/sda`,
  );
  await alpha.check(
    `${out} --preempt --param-rk=0xb --param-sark=0xa --prout-type=5 /dev/sda`,
  );
  assertMatch(await settle(beta), /Registrations preempted/i);
  assertEquals([await read(beta), await write(beta)], ["0", CONFLICT]);
  assertEquals(await write(alpha), "0");
  // Moved to beta, which is then the one that writes, and back.
  await alpha.check(
    `sg_persist --out --register-move --param-rk=0xb --param-sark=0xc ` +
      `--relative-target-port=1 --param-aptpl ` +
      `--transport-id=${transportId("beta")} /dev/sda`,
  );
  await beta.check(`${out} --release --param-rk=0xc --prout-type=5 /dev/sda`);
  await beta.check(`${out} --register --param-rk=0xc --param-sark=0 /dev/sda`);
  await settle(alpha);
  // What the last part of the test goes on with: it survives a crash.
  await alpha.check(
    `${out} --register-ignore --param-sark=0xb --param-aptpl /dev/sda`,
  );
  await alpha.check(
    `${out} --reserve --param-rk=0xb --prout-type=1 /dev/sda`,
  );
}

guests.test("Linux: two guests share a disk and a CD-ROM", async () => {
  using directory = TemporaryDirectory.make("shared");
  const file = (name: string) => directory.file(name);
  const image = file("disk.img");
  makeImage(image, 16 * MIB);
  for (const name of ["one", "two"]) {
    const iso = isoImage("NAME.TXT", `disc ${name}\n`);
    Deno.writeFileSync(file(`${name}.iso`), iso);
  }
  const sockets = { alpha: file("alpha.sock"), beta: file("beta.sock") };
  const management = file("ctl.sock");
  await using _server = await startServing(
    management,
    Object.values(sockets),
    Object.entries(sockets).flatMap(([name, socket]) => [
      `--scsi=id=${name},socket=${socket},process=shared,initiator=${name},` +
      `path=${image}`,
      `--lun=hba=${name},target=1,type=cdrom,path=${file("one.iso")}`,
    ]),
  );
  const start = (socket: string) =>
    startLinuxGuest({ devices: vhostUserScsi(socket, "", 50) });
  await using alpha = await start(sockets.alpha);
  await using beta = await start(sockets.beta);

  // COMPARE AND WRITE: each increment happens once, whoever makes it.
  await alpha.check(`(${counter()}) > /tmp/count &`);
  await beta.check(`(${counter()}) > /tmp/count &`);
  for (const guest of [alpha, beta]) {
    const said = await guest.check(
      "i=0; while [ ! -s /tmp/count ] && [ $i -lt 600 ]; do sleep 0.1; " +
        "i=$((i+1)); done; cat /tmp/count",
      90_000,
    );
    assertMatch(said, new RegExp(`^${COUNTS} \\d+$`));
  }
  const [counted] = new TextDecoder().decode(Deno.readFileSync(image))
    .split("\0");
  assertEquals(Number(counted), 2 * COUNTS);

  // RESERVE keeps the other one out until RELEASE.
  await alpha.check("sg_raw /dev/sda 16 00 00 00 00 00");
  assertEquals([await read(beta), await write(alpha)], [CONFLICT, "0"]);
  await alpha.check("sg_raw /dev/sda 17 00 00 00 00 00");
  assertEquals(await write(beta), "0");
  await persistent(alpha, beta);

  // Another disc, for both.
  const mount = "mkdir -p /cd && mount -t iso9660 -o ro /dev/sr0 /cd && " +
    "cat /cd/name.txt && umount /cd";
  assertEquals(await alpha.check(mount), "disc one");
  assertEquals(await beta.check(mount), "disc one");
  const place = `hba=alpha,target=1,path=${file("two.iso")}`;
  await ctl(management, "lun", "change-medium", place);
  assertEquals(await beta.check(mount), "disc two");
  assertEquals(await alpha.check(mount), "disc two");

  // Another disk, for one of them.
  const extra = file("extra.img");
  makeImage(extra, 4 * MIB);
  await ctl(management, "lun", "add", `hba=alpha,target=2,path=${extra}`);
  const sizeOf = (guest: LinuxGuest, sectors: number) =>
    guest.check(
      `i=0; until [ "$(cat /sys/block/sdb/size 2>/dev/null)" = ${sectors} ]; ` +
        "do sleep 0.1; i=$((i+1)); [ $i -lt 100 ]; done",
      30_000,
    );
  await sizeOf(alpha, 4 * MIB / 512);
  Deno.truncateSync(extra, 8 * MIB);
  await ctl(management, "lun", "resize", "hba=alpha,target=2");
  await sizeOf(alpha, 8 * MIB / 512);

  // The process dies: both come back with what they had.
  const pids = async () => {
    const { devices } = JSON.parse(await ctl(management, "status", "--json"));
    return devices as { pid: number; connected: boolean; restarts: number }[];
  };
  const [{ pid }] = await pids();
  Deno.kill(pid, "SIGKILL");
  await waitUntil(
    async () =>
      (await pids()).every(({ connected, restarts }) =>
        connected && restarts === 1
      ),
    { what: "both guests to be connected again", timeout: 30_000 },
  );
  for (const guest of [alpha, beta]) {
    assertEquals(await status(guest, "sg_turs /dev/sda"), ATTENTION);
    assertEquals(await status(guest, "sg_turs /dev/sda"), "0");
    assert((await guest.check(mount)).endsWith("disc two"));
  }
  assertEquals([await write(alpha), await write(beta)], ["0", CONFLICT]);
  await alpha.check("dd if=/dev/sdb of=/dev/null bs=1M count=8 iflag=direct");
  await ctl(management, "lun", "remove", "hba=alpha,target=2");
  await alpha.check(
    "i=0; while [ -e /sys/block/sdb ]; do sleep 0.1; i=$((i+1)); " +
      "[ $i -lt 100 ]; done",
    30_000,
  );
  assertEquals(await alpha.powerOff(), 0);
  assertEquals(await beta.powerOff(), 0);
});
