/**
 * The lock of an image goes with the guest: two servers have one image open, and
 * the one whose rings run holds it.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { ReservationFile } from "../../backends/scsi/target/aptpl.ts";
import { Reservations } from "../../backends/scsi/target/reservations.ts";
import { ImageLock } from "../../backends/storage/lock.ts";
import { LOCK_PATIENCE } from "../../host/lock_patience.ts";
import { DataFile } from "../../sys/file.ts";
import { FrontEndError } from "../../vhost/testing/front_end.ts";
import { withDeadline } from "../support/deadline.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { Guest, SECTOR, ServedDisk, T_IN, T_OUT } from "./disk.ts";
import { ScsiGuest, ServedHba } from "./scsi.ts";

/** Waits (ms) for a lock that somebody alive holds are in vain: they are short. */
const QUICK = { lockPatience: 50 };

/** Whether a third party could have the image now. */
function isFree(path: string): boolean {
  const file = DataFile.open(path);
  const lock = new ImageLock(file, false);
  try {
    lock.acquire();
    return true;
  } catch {
    return false;
  } finally {
    lock.release();
    file.close();
  }
}

/** Starts every ring of a guest again, where it stopped. */
async function goOn(guest: Guest): Promise<void> {
  const { frontEnd, drivers } = guest;
  for (const [index, driver] of drivers.entries()) {
    await frontEnd.setupRing(index, driver, driver.usedIndex);
    await frontEnd.setVringEnable(index, true);
  }
}

/** Asserts that it cannot go on, which does not take as long as by default. */
async function refused(guest: Guest): Promise<void> {
  const refusal = assertRejects(() => goOn(guest), FrontEndError, "refused");
  await withDeadline(refusal, LOCK_PATIENCE, "the refusal");
}

/** Stops every ring of a guest. */
async function rest(guest: Guest): Promise<void> {
  for (const index of guest.drivers.keys()) {
    await guest.frontEnd.getVringBase(index);
  }
}

/** Hands an image from one guest to another, and back. */
async function handOver(
  image: string,
  source: string,
  target: string,
  rings: number,
): Promise<void> {
  using from = await Guest.run(source, { rings });
  assert(!isFree(image), "the source does not hold the image");
  // The target is there, with the guest's memory and all; it has to wait.
  using to = await Guest.connect(target, { rings });
  await to.frontEnd.setFeatures(to.frontEnd.features);
  await to.frontEnd.addMemReg(to.region);
  await refused(to);
  // One ring is enough to keep it.
  for (let index = 1; index < rings; index++) {
    await from.frontEnd.getVringBase(index);
  }
  assert(!isFree(image), "given up too early");
  await from.frontEnd.getVringBase(0);
  assert(isFree(image), "the source keeps the image");
  await goOn(to);
  assert(!isFree(image), "the target does not hold the image");
  // What failed there goes on here, and not while it goes on there.
  await refused(from);
  await rest(to);
  await goOn(from);
  assert(!isFree(image), "the source does not hold the image again");
}

Deno.test("blk: the lock moves with the rings, there and back", async () => {
  await using source = await ServedDisk.start({ queues: 2 }, QUICK);
  const moved = { path: source.image, queues: 2 };
  await using target = await ServedDisk.start(moved, QUICK);
  await handOver(source.image, source.socket, target.socket, 2);
});

Deno.test("scsi: the lock moves with the rings, there and back", async () => {
  using directory = TemporaryDirectory.make("move");
  await using source = await ServedHba.start({}, directory, QUICK);
  const path = source.image("disk.img");
  const luns = [{ path, target: 0, lun: 0 }];
  await using target = await ServedHba.start({ luns }, undefined, QUICK);
  await handOver(path, source.socket, target.socket, 3);
});

Deno.test("blk: what the source wrote, the target reads at once", async () => {
  await using source = await ServedDisk.start();
  await using target = await ServedDisk.start({ path: source.image });
  using to = await Guest.connect(target.socket);
  await to.frontEnd.setFeatures(to.frontEnd.features);
  await to.frontEnd.addMemReg(to.region);
  const data = new Uint8Array(SECTOR).fill(0x5a);
  {
    using from = await Guest.run(source.socket);
    assertEquals((await from.request(T_OUT, 3, data)).status, 0);
    await rest(from);
  }
  await goOn(to);
  assertEquals((await to.request(T_IN, 3, SECTOR)).data, data);
});

Deno.test("scsi: persistent reservations that were made meanwhile are known", async () => {
  await using hba = await ServedHba.start();
  const path = hba.image("disk.img");
  const keys = async (): Promise<number[]> => {
    using guest = await ScsiGuest.run(hba.socket);
    await guest.settle();
    // PERSISTENT RESERVE IN, READ KEYS.
    const cdb = [0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0];
    const { data } = await guest.command(cdb, { room: 64 });
    return [...data.subarray(8, 8 + data[7])];
  };
  assertEquals(await keys(), []);
  // As another server does that has the image now.
  const other = new Reservations(new ReservationFile(`${path}.reservations`));
  other.commit({
    generation: 1,
    registrations: [{ initiator: "elsewhere", key: "00000000000000ab" }],
    reservation: null,
    persistent: true,
  });
  assertEquals(await keys(), [0, 0, 0, 0, 0, 0, 0, 0xab]);
  other.commit({
    generation: 2,
    registrations: [],
    reservation: null,
    persistent: false,
  });
  assertEquals(await keys(), []);
});
