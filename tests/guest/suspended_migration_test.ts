/**
 * A disk that is stopped for want of space moves to a server that has it, with the
 * requests that it could not do. QEMU keeps them in flight while it moves
 * (`inflight-migration=on`); without that they would fail in the guest.
 *
 * The want is made with a limit on the size of files (`setrlimit`), which the second
 * server does not have.
 */

import { assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess } from "../support/process.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS, untilServing } from "../support/vhostd.ts";
import { makeImage, readImage, vhostUserBlk } from "./disks.ts";
import {
  awaitLinuxGuest,
  type LinuxMachine,
  startLinuxGuest,
} from "./rig/linux_guest.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const MIB = 1 << 20;
/** Size of the disk, and how much of it the first server can write. */
const DISK = 64 * MIB, WRITABLE = 32 * MIB;
/** Writers in the guest, each of as many bytes at a place of its own beyond that. */
const WRITERS = 4, LENGTH = 4 * MIB, FIRST = 40 * MIB;

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

for (const [rings, property] of [["split", ""], ["packed", ",packed=on"]]) {
  guests.test(
    `Linux: a full disk moves with its requests to where there is space, ${rings} rings`,
    () => moveFullDisk(property),
  );
}

async function moveFullDisk(property: string): Promise<void> {
  using directory = TemporaryDirectory.make("full-move");
  const image = directory.file("disk.img");
  makeImage(image, DISK);
  await using full = await serve(directory, "full", [
    ...["-c", `trap "" XFSZ; exec prlimit --fsize=${WRITABLE} -- "$@"`, "sh"],
  ]);
  await using spacious = await serve(directory, "spacious");
  const machine = (place: string): LinuxMachine => ({
    memory: 256,
    devices: vhostUserBlk(
      directory.file(`${place}.sock`),
      `,num-queues=2,inflight-migration=on${property}`,
    ),
    smp: 2,
  });
  await using source = await startLinuxGuest(machine("full"));
  await source.check("dd if=/dev/urandom of=/tmp/a bs=1M count=4 2>/dev/null");
  const sum = (await source.check("sha256sum /tmp/a")).split(" ")[0];
  // What fits is written, before and after.
  await source.check("dd if=/tmp/a of=/dev/vda bs=1M oflag=direct 2>/dev/null");
  await source.check(
    `for n in $(seq 0 ${WRITERS - 1}); do (dd if=/tmp/a of=/dev/vda bs=1M ` +
      `seek=$((${FIRST / MIB}+n*${LENGTH / MIB})) oflag=direct conv=notrunc ` +
      "2>/dev/null && touch /tmp/done$n || touch /tmp/failed) & done",
  );
  await full.expect("the disk is stopped", 30_000, "stderr");
  // A pause is not the end of them either.
  const { qmp } = source.qemu;
  await qmp.execute("stop");
  await qmp.execute("cont");
  assertEquals(
    await source.check("ls /tmp | grep -c 'done\\|failed' || true"),
    "0",
  );

  const uri = `unix:${directory.file("move")}`;
  await using target = await awaitLinuxGuest(machine("spacious"), uri);
  await qmp.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 30 });
  await qmp.execute("migrate", { uri });
  await waitUntil(async () => {
    const now = await qmp.execute("query-migrate") as { status: string };
    if (now.status !== "failed") return now.status === "completed";
    throw new Error(
      `The migration failed: ${source.qemu.messages}${target.qemu.messages}`,
    );
  }, { what: "the end of the migration", timeout: 60_000 });
  await target.arrive();
  await target.check(
    `i=0; while [ $(ls /tmp | grep -c done) -lt ${WRITERS} ] && ` +
      "[ ! -e /tmp/failed ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; " +
      `[ $(ls /tmp | grep -c done) -eq ${WRITERS} ] && [ ! -e /tmp/failed ]`,
    60_000,
  );
  assertEquals(await target.check("dmesg | grep -ci 'i/o error' || true"), "0");
  for (
    const at of [
      0,
      ...Array(WRITERS).keys().map((n) => FIRST + n * LENGTH),
    ]
  ) {
    assertEquals(
      createHash("sha256").update(readImage(image, at, LENGTH)).digest("hex"),
      sum,
    );
  }
  assertEquals(await target.powerOff(), 0);
  assertEquals(spacious.stderr.text.includes("failed"), false);
}

/**
 * Serves the image.
 *
 * @param shell runs the command that follows, in place of being run
 */
async function serve(
  directory: TemporaryDirectory,
  place: string,
  shell: readonly string[] = ["-c", 'exec "$@"', "sh"],
): Promise<ChildProcess> {
  const server = ChildProcess.start("sh", {
    name: `vhostd-${place}`,
    env: { NO_COLOR: "1" },
    args: [
      ...[...shell, Deno.execPath(), ...COMMAND_ARGUMENTS],
      ...["serve", "--management=off", "--log-level=debug"],
      `--blk=path=${directory.file("disk.img")},queues=2,on-error=stop,` +
      `socket=${directory.file(`${place}.sock`)}`,
    ],
  });
  return await untilServing(server);
}
