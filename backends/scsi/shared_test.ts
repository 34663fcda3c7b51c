import { assertEquals, assertThrows } from "@std/assert";
import { ScsiBench, type SendOptions } from "./testing/bench.ts";

const TUR = [0, 0, 0, 0, 0, 0];
const CONFLICT = 0x18;
const read = (lba: number) => [0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0];
const write = [0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0];
const OUT: SendOptions = { out: new Uint8Array(512) };

/** Two host adapters with one disk. */
class Pair implements Disposable {
  readonly first = new ScsiBench();
  readonly second: ScsiBench;

  constructor() {
    const path = this.first.image("disk.img");
    this.second = new ScsiBench({ scsi: { path } });
    this.first.clearAttentions();
    this.second.clearAttentions();
  }

  [Symbol.dispose](): void {
    this.second[Symbol.dispose]();
    this.first[Symbol.dispose]();
  }
}

Deno.test("two host adapters share a logical unit and its reservations", () => {
  using pair = new Pair();
  const { first, second } = pair;
  assertEquals(first.device.bus.initiator.name, "hba-0");
  assertEquals(second.device.bus.initiator.name, "hba-1");
  assertEquals(first.run(write, OUT).status, 0);
  assertEquals(second.run(read(9), { room: 512 }).data, new Uint8Array(512));
  assertEquals(first.run([0x16, 0, 0, 0, 0, 0]).status, 0);
  assertEquals(second.run(write, OUT).status, CONFLICT);
  // A guest that leaves takes its reservation along.
  first.device.reset();
  assertEquals(second.run(write, OUT).status, 0);
  first.clearAttentions();
  // Persistent ones stay.
  const key = new Uint8Array(24);
  key[15] = 1;
  assertEquals(
    first.run([0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], { out: key }).status,
    0,
  );
  const own = new Uint8Array(24);
  own[7] = 1;
  assertEquals(
    first.run([0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], { out: own }).status,
    0,
  );
  first.device.reset();
  assertEquals(second.run(write, OUT).status, CONFLICT);
});

Deno.test("nothing of another adapter comes between compare and write", () => {
  using pair = new Pair();
  const { first, second } = pair;
  const storage = first.fake(), other = second.fake();
  const compare = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0];
  first.send(compare, { out: new Uint8Array(1024) });
  first.turn();
  second.send(write, OUT);
  second.turn();
  assertEquals([storage.pending.length, other.pending.length], [1, 0]);
  storage.complete(0);
  assertEquals([storage.pending.length, other.pending.length], [1, 0]);
  storage.complete(0);
  assertEquals(other.pending.length, 1);
  other.complete(0);
  // It ended outside of its own loop's turn, which was asked for another one.
  assertEquals(second.resumed.includes(2), true);
  second.turn();
  assertEquals([...second.reap().values()][0].status, 0);
});

Deno.test("mode parameters and sizes change for both, and both are told", () => {
  using pair = new Pair();
  const { first, second } = pair;
  const caching = [0, 0, 0, 0, 0x08, 0x12, ...new Array(18).fill(0)];
  const out = Uint8Array.from(caching);
  assertEquals(first.run([0x15, 0x10, 0, 0, 24, 0], { out }).status, 0);
  assertEquals(second.run(TUR).sense, { key: 6, asc: 0x2a01 });
  Deno.truncateSync(first.image("disk.img"), 2 ** 21);
  second.provideEvents(1);
  first.device.command("resize", {});
  assertEquals(second.events().length, 1);
  assertEquals(second.run(TUR).sense, { key: 6, asc: 0x2a09 });
  const far = [0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 1, 0];
  assertEquals(second.run(far, { room: 512 }).status, 0);
});

Deno.test("a logical unit reset by one aborts the commands of the other", () => {
  using pair = new Pair();
  const { first, second } = pair;
  const other = second.fake();
  second.send(read(1), { room: 512 });
  second.turn();
  const reset = new Uint8Array(24);
  reset[4] = 5;
  reset[8] = 1;
  first.offer(0, [{ readable: reset }, { writable: 1 }]);
  first.turn();
  assertEquals(first.drivers[0].reap().length, 0);
  other.complete(0);
  second.turn();
  first.turn();
  assertEquals([...second.reap().values()][0].response, 4);
  assertEquals(first.drivers[0].reap().length, 1);
  assertEquals(second.run(TUR).sense, { key: 6, asc: 0x2903 });
});

Deno.test("adapters that share agree on what they share", () => {
  using first = new ScsiBench();
  const path = first.image("disk.img");
  assertThrows(
    () => new ScsiBench({ scsi: { path, readonly: true } }),
    Error,
    "twice with different options: readOnly is false and true",
  );
  assertThrows(
    () => new ScsiBench({ scsi: { initiator: "hba-0" } }),
    Error,
    "another host adapter has that name",
  );
  // The refused ones left nothing behind.
  using second = new ScsiBench({ scsi: { path } });
  assertEquals(second.device.bus.initiator.name, "hba-1");
});

Deno.test("the last adapter that leaves closes the logical unit", () => {
  using first = new ScsiBench();
  const path = first.image("disk.img");
  const second = new ScsiBench({ scsi: { path } });
  const [, , nexus] = [...second.device.bus.entries()][0];
  second[Symbol.dispose]();
  const [, , left] = [...first.device.bus.entries()][0];
  assertEquals(left.unit, nexus.unit);
  assertEquals(left.unit.nexuses.size, 1);
  first.clearAttentions();
  assertEquals(first.run(write, OUT).status, 0);
});
