import { assert, assertEquals, assertRejects } from "@std/assert";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import {
  IMAGE_SIZE,
  lunField,
  ScsiGuest,
  ServedHba,
  taskManagement,
} from "./scsi.ts";

const TUR = [0, 0, 0, 0, 0, 0];
const read = (lba: number, blocks: number) => [
  ...[0x28, 0, 0, 0, lba >> 8, lba & 255, 0, 0, blocks, 0],
];
const write = (lba: number, blocks: number) => [
  ...[0x2a, 0, 0, 0, lba >> 8, lba & 255, 0, 0, blocks, 0],
];
const POWER_ON = 0x2900;

function bytesOf(length: number): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(length));
}

Deno.test("a guest reads and writes logical units of several targets", async () => {
  using directory = TemporaryDirectory.make("luns");
  const places = [[0, 0], [0, 3], [9, 0], [255, 700]];
  const luns = places.map(([target, lun]) => {
    const path = directory.file(`${target}-${lun}.img`);
    Deno.writeFileSync(path, new Uint8Array(IMAGE_SIZE));
    return { target, lun, path };
  });
  await using hba = await ServedHba.start({ luns, queues: 4 });
  using guest = await ScsiGuest.run(hba.socket, { queues: 4 });
  for (const [queue, { target, lun, path }] of luns.entries()) {
    const place = { target, lun, queue };
    const attentions = await guest.settle(place);
    assertEquals(attentions[0], POWER_ON);
    const out = bytesOf(64 * 512);
    assertEquals(
      (await guest.command(write(8, 64), { ...place, out })).status,
      0,
    );
    const answer = await guest.command(read(8, 64), { ...place, room: 32768 });
    assertEquals(answer.data, out);
    assertEquals(Deno.readFileSync(path).subarray(4096, 4096 + 32768), out);
  }
  const absent = await guest.command(TUR, { target: 1 });
  assertEquals(absent.response, 3);
});

Deno.test("queues are served side by side", async () => {
  await using hba = await ServedHba.start({ queues: 3 });
  using guest = await ScsiGuest.run(hba.socket, { queues: 3 });
  await guest.settle();
  const blocks = Array.from({ length: 24 }, (_, i) => i);
  for (const i of blocks) {
    const out = new Uint8Array(512).fill(i + 1);
    guest.send(write(i, 1), { out, queue: i % 3 });
  }
  for (const queue of [0, 1, 2]) {
    const answers = await guest.answers(8, queue);
    assert([...answers.values()].every(({ status }) => status === 0));
  }
  const image = Deno.readFileSync(hba.image("disk.img"));
  for (const i of blocks) assertEquals(image[i * 512 + 511], i + 1);
});

Deno.test("logical units come and go under I/O", async () => {
  await using hba = await ServedHba.start();
  using guest = await ScsiGuest.run(hba.socket);
  guest.provideEvents(4);
  await guest.settle();
  const place = { target: 2, lun: 1 };
  for (let round = 0; round < 3; round++) {
    const path = hba.image("second.img");
    const added = await hba.server.command("lun-add", { ...place, path });
    assertEquals(added, { ...place, capacity: IMAGE_SIZE });
    const { event, reason, target, lun } = await guest.event();
    assertEquals([event, reason, target, lun], [1, 1, 2, 1]);
    await guest.settle(place);
    for (let i = 0; i < 32; i++) {
      guest.send(read(i, 8), { ...(i % 2 === 0 ? place : {}), room: 4096 });
    }
    const removed = hba.server.command("lun-remove", place);
    const answers = [...(await guest.answers(32)).values()];
    // All of the other logical unit are good; of this one as many as came
    // before the removal.
    const good = answers.filter((one) => one.response + one.status === 0);
    const gone = answers.filter(({ response }) => response === 3);
    assertEquals(good.length + gone.length, 32);
    assert(good.length >= 16);
    assertEquals(await removed, place);
    assertEquals((await guest.event()).reason, 2);
    assertEquals((await guest.command(TUR, place)).response, 3);
    guest.provideEvents(2);
  }
});

Deno.test("a guest hears of a new size", async () => {
  await using hba = await ServedHba.start();
  using guest = await ScsiGuest.run(hba.socket);
  guest.provideEvents(1);
  await guest.settle();
  Deno.truncateSync(hba.image("disk.img"), 2 * IMAGE_SIZE);
  await hba.server.command("lun-resize", { target: 0, lun: 0 });
  assertEquals(await guest.event(), {
    event: 3,
    target: 0,
    lun: 0,
    reason: 0x092a,
  });
  assertEquals(await guest.settle(), [0x2a09]);
  const { data } = await guest.command([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], {
    room: 8,
  });
  const last = new DataView(data.buffer).getUint32(0);
  assertEquals(last, 2 * IMAGE_SIZE / 512 - 1);
});

Deno.test("task management is answered after the commands it ends", async () => {
  await using hba = await ServedHba.start();
  using guest = await ScsiGuest.run(hba.socket);
  await guest.settle();
  for (let round = 0; round < 8; round++) {
    for (let i = 0; i < 16; i++) {
      guest.send(read(i, 64), { tag: i, room: 32768 });
    }
    const subtype = round % 2 === 0 ? 5 : 1;
    const request = taskManagement(subtype, lunField(0, 0));
    assertEquals([...await guest.control(request)], [0]);
    // Every command has ended by now, once, in one of the two ways.
    const done = guest.guest.drivers[2].reap();
    assertEquals(done.length, 16);
    for (const { data } of done) {
      const ended = data[11];
      assert(ended === 0 || ended === (subtype === 5 ? 4 : 2), `${ended}`);
    }
    const attentions = await guest.settle();
    assertEquals(attentions, subtype === 5 ? [0x2903] : []);
  }
  const query = taskManagement(6, lunField(0, 0), 3);
  assertEquals([...await guest.control(query)], [0]);
});

Deno.test("sense data of bad commands crosses the socket whole", async () => {
  await using hba = await ServedHba.start();
  using guest = await ScsiGuest.run(hba.socket);
  await guest.settle();
  const beyond = await guest.command(read(IMAGE_SIZE / 512, 1), { room: 512 });
  assertEquals(beyond.sense, {
    key: 5,
    asc: 0x2100,
    information: IMAGE_SIZE / 512,
  });
  assertEquals(beyond.residual, 512);
  const field = await guest.command([0x12, 1, 0xff, 0, 255, 0], { room: 255 });
  assertEquals(field.sense?.field, { command: true, byte: 2, bit: -1 });
});

/** PERSISTENT RESERVE OUT with keys of one byte each. */
function reserveOut(
  guest: ScsiGuest,
  action: number,
  type: number,
  key: number,
  actionKey: number,
  flags = 0,
): Promise<{ status: number }> {
  const out = new Uint8Array(24);
  out[7] = key;
  out[15] = actionKey;
  out[20] = flags;
  return guest.command([0x5f, action, type, 0, 0, 0, 0, 0, 24, 0], { out });
}

async function keys(guest: ScsiGuest): Promise<number[]> {
  const cdb = [0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0];
  const { data } = await guest.command(cdb, { room: 256 });
  return [...data.subarray(4)];
}

Deno.test("a guest that comes back finds what survives", async () => {
  await using hba = await ServedHba.start();
  {
    using guest = await ScsiGuest.run(hba.socket);
    await guest.settle();
    assertEquals((await guest.command([0x16, 0, 0, 0, 0, 0])).status, 0);
    assertEquals((await guest.command([0x17, 0, 0, 0, 0, 0])).status, 0);
    assertEquals((await reserveOut(guest, 0, 0, 0, 7)).status, 0);
    assertEquals((await reserveOut(guest, 1, 3, 7, 0)).status, 0);
    // The write cache is switched off.
    const out = Uint8Array.from([
      ...[0, 0, 0, 0, 8, 0x12],
      ...new Array(18).fill(0),
    ]);
    const select = await guest.command([0x15, 0x10, 0, 0, 24, 0], { out });
    assertEquals(select.status, 0);
  }
  using guest = await ScsiGuest.run(hba.socket);
  assertEquals(await guest.settle(), [POWER_ON]);
  assertEquals(await keys(guest), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
  const { luns } = (await hba.server.status()).device as {
    luns: { cache: string; reservationType: number }[];
  };
  // It stays so: nobody flushes who has not looked at it since.
  assertEquals([luns[0].cache, luns[0].reservationType], ["writethrough", 3]);
});

Deno.test("persistent reservations outlive the server, if asked to", async () => {
  using directory = TemporaryDirectory.make("aptpl");
  for (const aptpl of [0, 1]) {
    {
      await using hba = await ServedHba.start({}, directory);
      using guest = await ScsiGuest.run(hba.socket);
      await guest.settle();
      assertEquals((await reserveOut(guest, 6, 0, 0, 7, aptpl)).status, 0);
      assertEquals((await reserveOut(guest, 1, 1, 7, 0)).status, 0);
    }
    await using hba = await ServedHba.start({}, directory);
    using guest = await ScsiGuest.run(hba.socket);
    await guest.settle();
    const expected = aptpl === 0 ? [] : [0, 0, 0, 0, 0, 0, 0, 7];
    assertEquals((await keys(guest)).slice(4), expected);
  }
  // Another initiator finds the reservation in its way.
  await using hba = await ServedHba.start({ initiator: "other" }, directory);
  using guest = await ScsiGuest.run(hba.socket);
  await guest.settle();
  const out = new Uint8Array(512);
  assertEquals((await guest.command(write(0, 1), { out })).status, 0x18);
  assertEquals((await guest.command(read(0, 1), { room: 512 })).status, 0);
});

Deno.test("a CD-ROM is ejected and loaded again", async () => {
  using directory = TemporaryDirectory.make("cd");
  const path = directory.file("cd.iso");
  Deno.writeFileSync(path, new Uint8Array(IMAGE_SIZE).fill(5));
  await using hba = await ServedHba.start({ luns: [{ path, type: "cdrom" }] });
  using guest = await ScsiGuest.run(hba.socket);
  await guest.settle();
  const block = await guest.command(read(3, 1), { room: 2048 });
  assertEquals(block.data, new Uint8Array(2048).fill(5));
  assertEquals((await guest.command([0x1b, 0, 0, 0, 2, 0])).status, 0);
  assertEquals((await guest.command(TUR)).sense, { key: 2, asc: 0x3a00 });
  await hba.server.command("change-medium", { path });
  assertEquals(await guest.settle(), [0x2800]);
  assertEquals((await guest.command(read(0, 1), { room: 2048 })).status, 0);
});

Deno.test("commands for logical units that are not there are refused", async () => {
  await using hba = await ServedHba.start();
  await assertRejects(
    () => hba.server.command("lun-remove", { target: 5, lun: 0 }),
    Error,
    "Cannot find target 5, LUN 0",
  );
  await assertRejects(
    () => hba.server.command("lun-add", { lun: 1, path: "/nonexistent" }),
    Error,
    'Cannot serve "/nonexistent"',
  );
  using guest = await ScsiGuest.run(hba.socket);
  assertEquals(await guest.settle(), [POWER_ON]);
});
